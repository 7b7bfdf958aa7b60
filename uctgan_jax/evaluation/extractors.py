"""Networks whose features describe sets of pictures: VGG16, which is bundled, and FID's own."""

import dataclasses
import hashlib
from pathlib import Path

from uctgan_jax.evaluation.measure import Extract
from uctgan_jax.evaluation.metrics.diversity import enlarge
from uctgan_jax.evaluation.metrics.inception import inception, load_inception
from uctgan_jax.evaluation.metrics.lpips import vgg16_features
from uctgan_jax.evaluation.metrics.placement import on_default_device


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network for the figures over sets.

    Attributes:
        name: of its Frechet distance among the figures.
        extract: pictures, float32 [B, H, W, 3] in [-1, 1], to features [B, D] and logits or None.
        details: the network, in words, for the report.
    """

    name: str
    extract: Extract
    details: dict[str, str]


def vgg16() -> Extractor:
    """VGG16's last map, averaged over positions; pictures under 64 px are enlarged."""
    return Extractor(
        "fd_vgg16",
        lambda images: (vgg16_features(enlarge(images)), None),
        {"network": "VGG16, relu5_3 averaged", "distance": "FD-vgg16, not FID"},
    )


def fid_inception(weights: str | Path) -> Extractor:
    """InceptionV3 of 2015, as pytorch-fid has it.

    Args:
        weights: the file `pt_inception-2015-12-05-6726825d.pth`.

    Raises:
        OSError, ValueError: see `load_inception`.
    """
    path = Path(weights)
    params = on_default_device(load_inception(path))
    return Extractor(
        "fid",
        lambda images: inception(params(), images),
        {
            "network": "InceptionV3 of 2015, as pytorch-fid",
            "distance": "FID of composites, bilinear to 299 x 299, 2x - 1",
            "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    )
