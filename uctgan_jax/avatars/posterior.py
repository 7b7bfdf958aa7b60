"""The exact posterior over completions of an `avatars` portrait, and how to read completions back.

For natural pictures nobody knows the set of right completions. For `avatars` it is known: the data
set's prior is uniform and independent over attributes and its renderer is at hand, so the posterior
given the known pixels is uniform over the assignments whose rendering agrees with them *exactly*
(the support). With the face hidden (`FACE_WINDOW`), hair, skin colour and clothes are given by the
known pixels while the facial attributes are free, but for an eyepatch, whose strap shows.

`Posterior.sample` draws from it: the oracle. `Posterior.read` finds, for any completion, the
element of the support nearest to it (analysis by synthesis). There are millions of elements, so
they are not rendered one by one: a portrait is a stack of layers, each of which changes a pixel by
out = in * (1 - alpha) + colour, and most pixels are touched by few of them. The nearest element is
found exactly by taking the minimum over the attributes of the upper and of the lower face apart,
for each assignment of the few that touch pixels of both.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np

from uctgan_jax.avatars.dataset import (
    ATTRIBUTES,
    BACKGROUNDS,
    FACE_ATTRIBUTES,
    canonical,
    draw,
    rasterise,
    render,
)

# Top, left, bottom, right as fractions: what facial attributes can touch (the strap excepted).
FACE_WINDOW = (0.25, 0.25, 0.797, 0.75)

# Facial hair and its colour make one layer; UPPER and LOWER meet in few pixels.
UPPER = ("eyebrows", "eyes", "accessory")
LOWER = ("nose", "mouth", "facial_hair")
LAYERS = UPPER + LOWER

_SLOTS = {  # layer: how the id of its group in the drawing ends
    "mouth": "_Mouth",
    "nose": "_Nose",
    "eyes": "_Eyes",
    "eyebrows": "_Eyebrow",
    "facial_hair": "_Facial-Hair",
    "accessory": "_Accessory",
}
_DEFINITIONS = ("defs", "mask", "clipPath", "filter", "linearGradient", "radialGradient")
_SHAPES = ("path", "rect", "circle", "ellipse", "polygon", "polyline", "line", "use")
# Summed squared distances that differ by less are a tie: 10 squared levels of 255, above what the
# rounding of layers does to look-alikes and below what a nose changes on the darkest skin (23).
_TIE = 10 / 255**2


@dataclasses.dataclass(frozen=True)
class Reading:
    """What K completions show.

    Attributes:
        distance: float [K], root mean square difference to the nearest element of the support over
            the hole, on the scale [0, 1].
        mode: K bytes objects, equal where the nearest elements look the same.
        weights: attribute -> float [K, values]. The nearest element's value; where several look the
            same (eyes behind sunglasses), the posterior given that look.
        skin: int [K], the skin colour that the completion shows, or None where it cannot be told
            because facial layers can touch all skin in the hole.
    """

    distance: np.ndarray
    mode: list[bytes]
    weights: dict[str, np.ndarray]
    skin: np.ndarray | None


class Posterior:
    """The posterior over completions of one portrait.

    Attributes:
        attributes: the portrait's own, the truth.
        image: the portrait, uint8 [S, S, 3].
        mask: uint8 [S, S, 1], 1 = hole.
        support: attribute -> the values that agree with the known pixels. The posterior is uniform
            over their product.
    """

    def __init__(self, attributes: Mapping[str, int], mask: np.ndarray):
        """Finds the support, with one rendering for each value of each attribute.

        Args:
            attributes: of the portrait, as `avatars.sample_attributes` gives them.
            mask: uint8 [S, S, 1], 1 = hole; S is the size the portrait is rendered at.
        """
        self.attributes = dict(attributes)
        self.mask = mask
        self.image = render(attributes, len(mask))
        self.support = {}
        # Values of other attributes than facial ones that the hole happens to leave open, as when
        # long hair hides what tells two collars apart.
        self._open = {}
        for name in ATTRIBUTES:
            looks = self._agreeing(name)
            self.support[name] = tuple(looks)
            if name not in FACE_ATTRIBUTES and len(set(looks.values())) > 1:
                self._open[name] = tuple(dict(zip(looks.values(), looks, strict=True)).values())

    def _agreeing(self, name: str) -> dict[int, bytes]:
        """The values that agree with the known pixels, each with how its portrait looks."""
        known = self.mask[..., 0] == 0
        looks = {}
        for value in range(len(ATTRIBUTES[name])):
            changed = {**self.attributes, name: value}
            if canonical(changed) == canonical(self.attributes):
                looks[value] = self.image.tobytes()
                continue
            image = render(changed, len(self.mask))
            if np.array_equal(image[known], self.image[known]):
                looks[value] = image.tobytes()
        return looks

    def sample(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """The oracle: exact draws, uint8 [K, S, S, 3], with the known pixels as they are.

        Raises:
            ValueError: a draw that does not agree with the known pixels, because the hole hides
                some attribute in part; the posterior is no product then.
        """
        images = []
        for _ in range(num_samples):
            drawn = {name: int(rng.choice(values)) for name, values in self.support.items()}
            images.append(render(drawn, len(self.mask)))
        images = np.stack(images)
        if not (images == self.image)[:, self.mask[..., 0] == 0].all():
            raise ValueError(
                f"This hole, {int(self.mask.sum())} pixels, hides some attribute in part: values "
                "that agree with the known pixels one by one do not agree together."
            )
        return images

    @functools.cached_property
    def _stacks(self):
        return [
            _Stack({**self.attributes, **dict(zip(self._open, values, strict=True))}, self.mask)
            for values in itertools.product(*self._open.values())
        ]

    def read(self, completions: np.ndarray) -> Reading:
        """Reads completions back, uint8 [K, S, S, 3]; only their hole is looked at."""
        hole = completions[:, self.mask[..., 0] == 1].astype(np.float64) / 255  # [K, P, 3]
        allowed = {name: np.zeros(len(ATTRIBUTES[name]), bool) for name in FACE_ATTRIBUTES}
        for name, values in allowed.items():
            values[list(self.support[name])] = True
        allowed["facial_hair"] = np.outer(
            allowed["facial_hair"], allowed.pop("facial_hair_color")
        ).ravel()
        readings = [stack.read(hole, allowed) for stack in self._stacks]
        best = np.argmin([reading.distance for reading in readings], axis=0)
        first = readings[0]
        return Reading(
            distance=np.min([reading.distance for reading in readings], axis=0),
            mode=[readings[best[k]].mode[k] for k in range(len(hole))],
            weights={
                name: np.stack([readings[best[k]].weights[name][k] for k in range(len(hole))])
                for name in first.weights
            },
            skin=None if "skin" in self._open else first.skin,
        )


class _Stack:
    """The layers of one portrait over the hole's P pixels, and distances to all their choices.

    Arrays over choices have one axis a layer, in the order of LAYERS; an axis that does not matter
    has length 1. Pixels are on the scale [0, 1].
    """

    def __init__(self, attributes, mask):
        size = len(mask)
        self.hole = mask[..., 0] == 1
        self.skin = attributes["skin"]
        self.order = _layer_order(attributes)
        self.layers = {}  # name: (alpha [V, P, 1], colour [V, P, 3])
        for name in LAYERS:
            # Where they sit depends on the top for these two; the others are the same in all.
            context = attributes if name in ("facial_hair", "accessory") else _ZERO
            alphas, colours = _layers(name, tuple(context.values()), size)
            self.layers[name] = alphas[:, self.hole], colours[:, self.hole]
        alpha, colour = _layer({**attributes, "facial_hair": 0, "accessory": 0}, "top", size)
        self.layers["hair"] = alpha[None, self.hole], colour[None, self.hole]
        self.canvases = np.stack(  # [skins, P, 3]
            [
                _canvas({**attributes, "skin": skin}, size)[self.hole]
                for skin in range(len(ATTRIBUTES["skin"]))
            ]
        )

        touched = {
            name: ((alpha > 0) | (colour > 0)).any(axis=(0, 2))
            for name, (alpha, colour) in self.layers.items()
        }
        upper = functools.reduce(np.logical_or, [touched[name] for name in UPPER])
        lower = functools.reduce(np.logical_or, [touched[name] for name in LOWER])
        self.untouched = ~upper & ~lower
        self.parts = []  # (pixels, layers that matter there, their pictures)
        for pixels, names in ((upper & ~lower, UPPER), (lower & ~upper, LOWER)):
            self.parts.append((pixels, names, self.compose(names, pixels)))
        both = upper & lower
        self.shared = tuple(name for name in LAYERS if (touched[name] & both).any())
        self.parts.append((both, self.shared, self.compose(self.shared, both)))

    def compose(self, names, pixels, choice=None, skin=None) -> np.ndarray:
        """The portrait at `pixels` for all choices of `names`, [(choices of each layer), p, 3].

        With `choice` (layer -> value) for that one choice of every layer instead.
        """
        out = self.canvases[self.skin if skin is None else skin][pixels]
        out = out.reshape((1,) * len(LAYERS) + out.shape)
        for name in self.order:
            alpha, colour = self.layers[name]
            if name == "hair":
                values, axis = slice(None), 0
            elif choice is not None:
                values, axis = slice(choice[name], choice[name] + 1), 0
            elif name in names:
                values, axis = slice(None), LAYERS.index(name)
            else:
                continue
            shape = [1] * len(LAYERS)
            shape[axis] = -1
            alpha = alpha[values][:, pixels]
            colour = colour[values][:, pixels]
            out = out * (1 - alpha.reshape(*shape, *alpha.shape[1:]))
            out = out + colour.reshape(*shape, *colour.shape[1:])
        return out

    def read(self, hole, allowed) -> Reading:
        distances, modes, skins = [], [], []
        weights = {name: [] for name in FACE_ATTRIBUTES}
        tables = [self.squared_distances(part, hole) for part in self.parts]
        everywhere = np.ones(self.hole.sum(), bool)
        for k, (upper, lower, both) in enumerate(zip(*tables, strict=True)):
            for table in (upper, lower, both):
                for axis, name in enumerate(LAYERS):
                    if table.shape[axis] > 1:
                        shape = [1] * len(LAYERS)
                        shape[axis] = -1
                        table += np.where(allowed[name], 0, np.inf).reshape(shape)
            choice, found = self.nearest(upper, lower, both)
            nearest = self.compose((), everywhere, choice)[(0,) * len(LAYERS)]
            distances.append(np.sqrt(((nearest - hole[k]) ** 2).mean()))
            modes.append(np.round(nearest * 255).astype(np.uint8).tobytes())
            for name, values in found.items():
                weights[name].append(values)
            skins.append(self.nearest_skin(choice, hole[k]))
        return Reading(
            distance=np.array(distances),
            mode=modes,
            weights={name: np.stack(values) for name, values in weights.items()},
            skin=None if None in skins else np.array(skins),
        )

    def squared_distances(self, part, hole) -> np.ndarray:
        """Summed squared differences of all choices to K completions, [K, (choices)]."""
        pixels, _, pictures = part
        rows = pictures.reshape(-1, pixels.sum() * 3)
        seen = hole[:, pixels].reshape(len(hole), -1)
        squared = (rows**2).sum(1) - 2 * seen @ rows.T + (seen**2).sum(1, keepdims=True)
        return squared.reshape(len(hole), *pictures.shape[: len(LAYERS)])

    def nearest(self, upper, lower, both):
        """The nearest choice (layer -> value), and the weights of all that look the same."""
        apart = [
            tuple(axis for axis, name in enumerate(LAYERS) if name in names - set(self.shared))
            for names in (set(UPPER), set(LOWER))
        ]
        total = both + upper.min(apart[0], keepdims=True) + lower.min(apart[1], keepdims=True)
        least = total.min()
        choice = None
        found = {name: np.zeros(len(self.layers[name][0])) for name in LAYERS}
        for shared in np.argwhere(total <= least + _TIE):
            index = [slice(i, i + 1) for i in shared]
            equal, counts = [], []
            for table, axes in zip((upper, lower), apart, strict=True):
                here = tuple(
                    slice(None) if axis in axes or table.shape[axis] == 1 else index[axis]
                    for axis in range(len(LAYERS))
                )
                equal.append(table[here] <= table[here].min() + _TIE)
                counts.append(equal[-1].sum())
            for same, axes, others in zip(equal, apart, counts[::-1], strict=True):
                for axis in axes:
                    rest = tuple(a for a in range(len(LAYERS)) if a != axis)
                    found[LAYERS[axis]] += same.sum(rest) * others
            for name in self.shared:
                found[name][shared[LAYERS.index(name)]] += counts[0] * counts[1]
            if choice is None:
                choice = {name: int(shared[LAYERS.index(name)]) for name in self.shared}
                for same, axes in zip(equal, apart, strict=True):
                    first = np.argwhere(same)[0]
                    choice |= {LAYERS[axis]: int(first[axis]) for axis in axes}
        found = {name: values / values.sum() for name, values in found.items()}
        hair = found.pop("facial_hair").reshape(len(ATTRIBUTES["facial_hair"]), -1)
        found["facial_hair"], found["facial_hair_color"] = hair.sum(1), hair.sum(0)
        return choice, found

    def nearest_skin(self, choice, hole) -> int | None:
        """The skin colour at the pixels of bare skin that no facial layer can touch."""
        pixels = self.untouched
        pictures = np.stack(
            [
                self.compose((), pixels, choice, skin=skin)[(0,) * len(LAYERS)]
                for skin in range(len(self.canvases))
            ]
        )
        bare = (np.ptp(pictures, axis=0) > 0.25).any(-1)  # some hair lets a little skin through
        if not bare.any():
            return None
        return int(((pictures[:, bare] - hole[pixels][bare]) ** 2).sum((1, 2)).argmin())


def _choices(name):
    """The attributes that select a layer's picture, in the order of its axis."""
    if name != "facial_hair":
        return [{name: value} for value in range(len(ATTRIBUTES[name]))]
    return [
        {"facial_hair": value, "facial_hair_color": color}
        for value in range(len(ATTRIBUTES["facial_hair"]))
        for color in range(len(ATTRIBUTES["facial_hair_color"]))
    ]


_ZERO = dict.fromkeys(ATTRIBUTES, 0)


@functools.lru_cache(maxsize=64)
def _layers(name, context, size):
    """All of a layer's pictures: alpha [V, size, size, 1] and colour [V, size, size, 3]."""
    attributes = dict(zip(ATTRIBUTES, context, strict=True))
    layers = [_layer({**attributes, **choice}, name, size) for choice in _choices(name)]
    return tuple(np.stack(part) for part in zip(*layers, strict=True))


def _layer(attributes, name, size):
    """One layer alone: alpha [size, size, 1] and premultiplied colour [size, size, 3]."""
    root = ElementTree.fromstring(draw(attributes))
    _keep_only(root, _find(root, name))
    svg = ElementTree.tostring(root, encoding="unicode")
    black = rasterise(svg, size, "#000000").astype(np.float64) / 255
    white = rasterise(svg, size, "#FFFFFF").astype(np.float64) / 255
    return 1 - (white - black).mean(axis=-1, keepdims=True), black


def _canvas(attributes, size):
    """The portrait without face, hair and hat: [size, size, 3] in [0, 1]."""
    root = ElementTree.fromstring(draw(attributes))
    for name in ("face", "top"):
        for child in list(group := _find(root, name)):
            group.remove(child)
    background = BACKGROUNDS[ATTRIBUTES["background"][attributes["background"]]]
    return rasterise(ElementTree.tostring(root, encoding="unicode"), size, background) / 255


def _layer_order(attributes):
    """The layers from the bottom up: those of the face, then those of the top as it stacks them."""
    root = ElementTree.fromstring(draw(attributes))
    slots = {id(_find(root, name)): name for name in ("facial_hair", "accessory")}
    order = ["mouth", "nose", "eyes", "eyebrows"]

    def walk(element):
        if id(element) in slots:
            order.append(slots[id(element)])
        elif _tag(element) in _SHAPES and "hair" not in order:
            order.append("hair")
        elif _tag(element) == "g":
            for child in element:
                walk(child)

    walk(_find(root, "top"))
    return order if "hair" in order else [*order, "hair"]


def _find(root, name):
    ending = _SLOTS.get(name) or {"face": "_Face", "top": "_Top"}[name]
    top = name in ("facial_hair", "accessory")
    for element in (_find(root, "top") if top else root).iter():
        if _tag(element) == "g" and (element.get("id") or "").endswith(ending):
            return element
    raise RuntimeError(f"python-avatars drew no group for {name}: another version?")


def _keep_only(element, kept):
    """Removes all that is drawn but `kept`, leaving definitions and what surrounds it."""
    for child in list(element):
        if child is kept or _tag(child) in _DEFINITIONS:
            continue
        if any(inner is kept for inner in child.iter()):
            _keep_only(child, kept)
        else:
            element.remove(child)


def _tag(element):
    return element.tag.rpartition("}")[2]
