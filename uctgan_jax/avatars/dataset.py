"""The embedded `avatars` data set: cartoon portraits drawn from known attributes.

A TFDS builder over `python-avatars` (the drawings) and `resvg-py` (the rasteriser). It needs no
download and no TensorFlow: pictures are stored as encoded PNG bytes in ArrayRecord files.

Prior. Every attribute of `ATTRIBUTES` is uniform over its values and independent of all others,
the split and the index. Example i of a split is a function of (`VERSION`, split, i) alone: its
attributes come from a hash, its pixels from `render`. A smaller set is a prefix of a larger one.

Visibility. Some attributes do not show given the others: the hair colour under a hat or on a bald
head, the hat colour without a hat, the colour of absent facial hair. They are drawn and stored all
the same, so that the prior stays a plain product; `canonical` maps all attributes that give the
same picture for this reason to one.

Locality. At 64 px the facial attributes (`FACE_ATTRIBUTES`) change pixels in rows 16-50 and columns
16-47 only, except the strap of the eyepatch, which climbs to row 5; a completion of that window can
therefore be compared with the exact posterior over them.

`python -m uctgan_jax.avatars` draws a set from the command line.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from uctgan_jax import quiet
from uctgan_jax.data.workers import check_main_is_guarded, cpu_count, map_in_processes

try:
    import python_avatars
    import resvg_py
except ImportError as error:
    raise ImportError(
        f"The avatars need the extra `avatars`: pip install 'uctgan-jax[avatars]' ({error})."
    ) from error

VERSION = "1.0.0"
SIZES = (32, 64, 128, 256)
SPLITS = ("train", "validation", "test")
DEFAULT_EXAMPLES = (50_000, 2_000, 2_000)

HAIR = (
    "none", "big_hair", "bob", "bun", "caesar_side_part", "caesar", "curly", "curvy", "dreads",
    "frizzle", "fro_band", "fro", "long_not_too_long", "mia_wallace", "shaggy_mullet", "shaggy",
    "short_curly", "short_dreads_1", "short_dreads_2", "short_flat", "short_round", "short_waved",
    "sides", "straight_1", "straight_strand", "buzzcut", "cornrows", "dreadlocks",
    "einstein_hair", "elvis", "half_shaved", "mohawk", "mowgli", "pixie", "pompadour", "quiff",
    "twist_long_hair", "twist_long_hair_2", "wild",
)  # fmt: skip
HATS = ("hat", "turban", "winter_hat_1", "winter_hat_2", "winter_hat_3", "winter_hat_4",
        "gladiator_helmet")  # fmt: skip

BACKGROUNDS = {
    "teal": "#7FB5B0", "lilac": "#B3A5D3", "sage": "#A9BF8F", "rose": "#CF95A8",
    "steel": "#7A93AD", "sand": "#CDC3A5", "plum": "#8A6B93", "moss": "#6E8B5E",
}  # fmt: skip
SKINS = {
    "tanned": "#FD9841", "yellow": "#F8D25C", "pale": "#FFDBB4", "light": "#EDB98A",
    "brown": "#D08B5B", "dark_brown": "#AE5D29", "black": "#614335",
}  # fmt: skip
HAIR_COLORS = {
    "auburn": "#A55728", "black": "#2C1B18", "blonde": "#B58143", "blonde_golden": "#D6B370",
    "brown": "#724133", "brown_dark": "#4A312C", "pastel_pink": "#F59797", "platinum": "#ECDCBF",
    "red": "#C93305", "silver_gray": "#E8E1E1",
}  # fmt: skip
CLOTH_COLORS = {
    "black": "#262E33", "blue_01": "#65C9FF", "blue_02": "#5199E4", "blue_03": "#25557C",
    "gray_01": "#E6E6E6", "gray_02": "#929598", "heather": "#3C4F5C", "pastel_blue": "#B1E2FF",
    "pastel_green": "#A7FFC4", "pastel_orange": "#FFDEB5", "pastel_yellow": "#FFFFB1",
    "pink": "#FF488E", "red": "#FF5C5C", "white": "#FFFFFF",
}  # fmt: skip

# The names are written out, not read from python-avatars, so that an attribute's number means the
# same whatever version of it (or whatever parts a user added to it) is installed. Left out: parts
# that leave the frame, that hide the face or the slots of beard and glasses, that ignore their
# colour, or that nobody wants to see on a result sheet.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": tuple(BACKGROUNDS),
    "skin": tuple(SKINS),
    "top": HAIR + HATS,
    "hair_color": tuple(HAIR_COLORS),
    "hat_color": tuple(CLOTH_COLORS),
    "eyebrows": (
        "none", "angry_natural", "angry", "default_natural", "default", "flat_natural",
        "frown_natural", "raised_excited_natural", "raised_excited", "sad_concerned_natural",
        "sad_concerned", "unibrow_natural", "up_down_natural", "up_down",
    ),
    "eyes": (
        "closed", "cry", "default", "eye_roll", "happy", "heart", "side", "squint", "surprised",
        "wink_wacky", "wink", "x_dizzy",
    ),
    "nose": ("default", "small", "wide"),
    "mouth": (
        "concerned", "default", "disbelief", "eating", "grimace", "sad", "scream_open", "serious",
        "smile", "tongue", "twinkle", "big_smile",
    ),
    "facial_hair": (
        "none", "beard_light", "beard_magestic", "beard_medium", "moustache_fancy",
        "moustache_magnum", "einstein_moustache", "wick_beard",
    ),
    "facial_hair_color": tuple(HAIR_COLORS),
    "accessory": (
        "none", "eyepatch", "kurt", "prescription_1", "prescription_2", "round", "sunglasses",
        "wayfarers", "sunglasses_2", "wayfarers_2",
    ),
    "clothing": (
        "blazer_shirt", "blazer_sweater", "collar_sweater", "hoodie", "overall",
        "shirt_crew_neck", "shirt_scoop_neck", "shirt_v_neck", "bond_suit", "chef", "gladiator",
        "jedi_robe", "shirt_wick",
    ),
    "clothing_color": tuple(CLOTH_COLORS),
}  # fmt: skip

FACE_ATTRIBUTES = (
    "eyebrows", "eyes", "nose", "mouth", "facial_hair", "facial_hair_color", "accessory",
)  # fmt: skip

# The drawing is 264 x 280 units. This square keeps the whole face and the shoulders; the top 16
# units, which only the highest hats reach, are outside it.
_VIEW_BOX = "0 16 264 264"
_POOL_MIN_EXAMPLES = 512  # below this, starting processes costs more than it saves
_CHUNK = 64
_SHARD = 16_384  # pictures a file; while it is written they are in memory


def sample_attributes(split: str, i: int) -> dict[str, int]:
    """Attributes of example `i` of `split`: for each name, an index into `ATTRIBUTES[name]`.

    Each is uniform and independent: the hash of (version, split, i, name) modulo the number of
    values, so no random generator's implementation enters.

    Raises: ValueError for an unknown split or a negative index.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}: must be one of {', '.join(SPLITS)}.")
    if i < 0:
        raise ValueError(f"Example index ({i}) must not be negative.")
    attributes = {}
    for name, values in ATTRIBUTES.items():
        digest = hashlib.sha256(f"{VERSION}/{split}/{i}/{name}".encode()).digest()
        attributes[name] = int.from_bytes(digest[:8], "big") % len(values)
    return attributes


def canonical(attributes: Mapping[str, int]) -> dict[str, int]:
    """The same picture with every attribute that does not show set to 0."""
    attributes = dict(attributes)
    is_hat = ATTRIBUTES["top"][attributes["top"]] in HATS
    if is_hat or ATTRIBUTES["top"][attributes["top"]] == "none":
        attributes["hair_color"] = 0
    if not is_hat:
        attributes["hat_color"] = 0
    if ATTRIBUTES["facial_hair"][attributes["facial_hair"]] == "none":
        attributes["facial_hair_color"] = 0
    return attributes


def render(attributes: Mapping[str, int], size: int) -> np.ndarray:
    """Draw a portrait: uint8 RGB [size, size, 3], the very pixels that the data set stores.

    The vector drawing is rasterised at `size` directly (anti-aliased), with no random numbers and
    no fonts: the same attributes give the same pixels.

    Raises: ValueError for a missing or unknown attribute, or a value out of range.
    """
    svg = draw(attributes)
    return rasterise(svg, size, BACKGROUNDS[ATTRIBUTES["background"][attributes["background"]]])


def draw(attributes: Mapping[str, int]) -> str:
    """The portrait as an SVG drawing without its background; `rasterise` makes pixels of it.

    Raises: ValueError for a missing or unknown attribute, or a value out of range.
    """
    if set(attributes) != set(ATTRIBUTES):
        wrong = ", ".join(sorted(set(attributes) ^ set(ATTRIBUTES)))
        raise ValueError(f"Attributes must be exactly {', '.join(ATTRIBUTES)}; differing: {wrong}.")
    for name, value in attributes.items():
        if not 0 <= value < len(ATTRIBUTES[name]):
            raise ValueError(f"{name} ({value}) must be in [0, {len(ATTRIBUTES[name])}).")
    value = {name: ATTRIBUTES[name][attributes[name]] for name in ATTRIBUTES}
    tops = python_avatars.HatType if value["top"] in HATS else python_avatars.HairType
    return python_avatars.Avatar(
        style=python_avatars.AvatarStyle.TRANSPARENT,
        top=tops[value["top"].upper()],
        hat_color=CLOTH_COLORS[value["hat_color"]],
        eyebrows=python_avatars.EyebrowType[value["eyebrows"].upper()],
        eyes=python_avatars.EyeType[value["eyes"].upper()],
        nose=python_avatars.NoseType[value["nose"].upper()],
        mouth=python_avatars.MouthType[value["mouth"].upper()],
        facial_hair=python_avatars.FacialHairType[value["facial_hair"].upper()],
        skin_color=SKINS[value["skin"]],
        hair_color=HAIR_COLORS[value["hair_color"]],
        facial_hair_color=HAIR_COLORS[value["facial_hair_color"]],
        accessory=python_avatars.AccessoryType[value["accessory"].upper()],
        clothing=python_avatars.ClothingType[value["clothing"].upper()],
        clothing_color=CLOTH_COLORS[value["clothing_color"]],
    ).render()


def rasterise(svg: str, size: int, background: str) -> np.ndarray:
    """uint8 RGB [size, size, 3] of a drawing by `draw`, over a background such as "#7FB5B0"."""
    whole = 'width="264px" height="280px" viewBox="0 0 264 280"'
    if svg.count(whole) != 1:
        raise RuntimeError("python-avatars drew a frame other than 264 x 280: another version?")
    square = f'width="{size}" height="{size}" viewBox="{_VIEW_BOX}"'
    png = resvg_py.svg_to_bytes(
        svg_string=svg.replace(whole, square),
        background=background,
        skip_system_fonts=True,
    )
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)  # drops the opaque alpha
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _render_png(attributes: Mapping[str, int], size: int) -> bytes:
    bgr = cv2.cvtColor(render(attributes, size), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr)[1].tobytes()


@dataclasses.dataclass
class AvatarsConfig(tfds.core.BuilderConfig):
    """Picture side in pixels, and examples in (train, validation, test)."""

    size: int = 64
    examples: tuple[int, int, int] = DEFAULT_EXAMPLES


def avatars_config(size: int, examples: tuple[int, int, int] = DEFAULT_EXAMPLES) -> AvatarsConfig:
    """The builder config for a side and counts; other counts than the default have another name.

    Raises: ValueError for a side that is not offered, or counts that are not three positive ones.
    """
    examples = tuple(int(n) for n in examples)
    if size not in SIZES:
        raise ValueError(f"Avatars side ({size}) must be one of {', '.join(map(str, SIZES))}.")
    if len(examples) != len(SPLITS) or min(examples) < 1:
        raise ValueError(f"Avatars examples {examples} must be three positive counts: {SPLITS}.")
    name = str(size)
    if examples != DEFAULT_EXAMPLES:
        name += "_" + "_".join(map(str, examples))
    return AvatarsConfig(
        name=name, description=f"{size} x {size} portraits", size=size, examples=examples
    )


class Avatars(tfds.core.ShardBasedBuilder):
    """Cartoon portraits with all their attributes as labels."""

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [avatars_config(size) for size in SIZES]
    # Given here, TFDS need not search for it with a package that it does not depend on.
    code_path = Path(__file__)

    def __init__(self, **kwargs):
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        features = {"image": tfds.features.Image(shape=(size, size, 3), encoding_format="png")}
        for name, values in ATTRIBUTES.items():
            features[name] = tfds.features.ClassLabel(names=values)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Cartoon portraits, each attribute uniform and independent.",
            homepage="https://github.com/ibonn/python_avatars",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # stored in the order of the index
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict]]]]]:
        # Shards are written one after the other, each as far as the split's examples have come. A
        # builder that is left to cut the shards needs TensorFlow for more than a gigabyte.
        return {
            split: [
                functools.partial(itertools.islice, examples, _SHARD)
                for _ in range(0, count, _SHARD)
            ]
            for split, count in zip(SPLITS, self.builder_config.examples, strict=True)
            for examples in [self._generate_examples(split, count)]
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        pictures = _render_split(split, count, self.builder_config.size)
        what = f"avatars {self.builder_config.size} px, {split}"
        for i, png in enumerate(tqdm(pictures, desc=what, total=count, unit="picture")):
            # Encoded bytes go in as a file object: an array would need TensorFlow to encode it.
            yield i, {"image": io.BytesIO(png), **sample_attributes(split, i)}


def _render_split(split: str, count: int, size: int) -> Iterator[bytes]:
    """PNG bytes of examples 0 .. count - 1, in order, rendered in several processes."""
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    num_workers = cpu_count() if count >= _POOL_MIN_EXAMPLES else 1
    render_chunk = functools.partial(_render_chunk, split, size)
    for pngs in map_in_processes(render_chunk, chunks, num_workers=num_workers):
        yield from pngs


def _render_chunk(split: str, size: int, indices: range) -> list[bytes]:
    return [_render_png(sample_attributes(split, i), size) for i in indices]


def avatars_builder(
    size: int,
    *,
    data_dir: str | Path,
    examples: tuple[int, int, int] = DEFAULT_EXAMPLES,
) -> Avatars:
    """The builder of a set, whether its files are on disk or not.

    Raises: ValueError as `avatars_config`.
    """
    config = avatars_config(size, examples)
    # TFDS refuses a config with the name of one of the class's own, even an equal one.
    config = Avatars.builder_configs.get(config.name, config)
    return Avatars(config=config, data_dir=str(data_dir))


def prepared_avatars(
    size: int,
    *,
    data_dir: str | Path,
    examples: tuple[int, int, int] = DEFAULT_EXAMPLES,
    held_out_alone: bool = False,
) -> Avatars:
    """The builder with its files on disk, drawn now if they are not there yet.

    With `held_out_alone` those to train on are not drawn, but for one: the others are the same.

    The files appear in one step when all of them are written: a build that is interrupted leaves
    no set that looks whole, and its remains are removed by the next one. Builders in several
    processes wait for each other.

    Raises: ValueError as `avatars_config`; BrokenProcessPool if a worker dies.
    """
    with _quiet_tfds():
        builder = avatars_builder(size, data_dir=data_dir, examples=examples)
        folder = Path(builder.data_dir)
        if folder.exists():
            return builder
        if held_out_alone:
            return prepared_avatars(size, data_dir=data_dir, examples=(1, *examples[1:]))
        check_main_is_guarded()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file, also by a killed process
            if not folder.exists():
                for remains in folder.parent.glob(f"incomplete.*_{folder.name}"):
                    shutil.rmtree(remains)
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
        return avatars_builder(size, data_dir=data_dir, examples=examples)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Our own progress bar is all there is to say: nothing is downloaded here."""
    tfds.disable_progress_bar()
    try:
        with quiet.errors_alone("absl"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
