"""Pictures with exact masks for the sample data set: textures, backgrounds, objects with light and
shadow, camera.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from tool.mask_values import IGNORE_LABEL
from voc12.sample.designs import COATS, DISTRACTORS, TYPICAL, Design, emoji
from voc12.sample.shapes import Part, Rng, bounds, paint, pick, place, signed_area, smooth

SUPERSAMPLE = 2
MIN_VISIBLE = (
    0.75  # share of an object, as drawn whole, that others and the image border leave in sight
)
TRIES = 25
SHADOW_BLUR = 4.0  # pixels

# Where the objects of a class mostly stand, as in VOC; a CAM method has to learn that the grass is
# not the sheep.
SCENES = {
    "nature": ("bird", "cow", "dog", "horse", "sheep", "person"),
    "street": ("bicycle", "bus", "car", "motorbike", "person", "train"),
    "water": ("boat", "bird"),
    "sky": ("aeroplane", "bird"),
    "indoor": (
        "bottle",
        "cat",
        "chair",
        "diningtable",
        "dog",
        "pottedplant",
        "sofa",
        "tvmonitor",
        "person",
    ),
}
HABIT = 0.7  # probability that the scene fits the main class; else any scene


class Look(NamedTuple):
    """How hard the pictures are to take apart.

    largest:  longer side of an object when there are 1, 2, 3, 4, in sides of a square picture;
              smallest: share of that which the smallest objects have
    clutter:  probability of shapes that have the textures of objects but are none
    things:   at most so many things of no class stand behind the objects
    front:    probability that one stands before them
    ground:   colours of the ground by scene, the scenes that there are; sky, floors, walls: others,
              walls of any colour when there are none
    """

    largest: tuple[float, ...]
    smallest: float
    clutter: float
    things: int
    front: float
    ground: dict[str, tuple[str, ...]]
    sky: tuple[str, ...]
    floors: tuple[str, ...]
    walls: tuple[str, ...]


CLUTTERED = Look(
    largest=(1.0, 0.8, 0.66, 0.56),
    smallest=0.62,
    clutter=0.8,
    things=3,
    front=0.2,
    ground={
        "nature": ("#5E8C3A", "#7FA050", "#A39A56", "#8B7A4E", "#C9B98A"),
        "street": ("#77797C", "#5D6064", "#8F8A82", "#A9A59C"),
        "water": ("#4E86A8", "#3D6F8F", "#6FA3B5", "#58776E"),
        "sky": ("#7FA050", "#77797C", "#A39A56", "#6F8FA8"),
        "indoor": (),
    },
    sky=("#9CC4E4", "#BFD7E6", "#D8DDE0", "#7FA9D0", "#E6C9A8", "#8E99A6"),
    floors=("#8A5A33", "#B98250", "#A9A59C", "#77706A", "#C9B98A", "#5A4A3E"),
    walls=(),
)
# Large objects before grounds that have no colour of a fur.
CLEAR = Look(
    largest=(1.05, 0.85, 0.7, 0.6),
    smallest=0.8,
    clutter=0.0,
    things=1,
    front=0.05,
    ground={
        "nature": ("#5E8C3A", "#4C7F35", "#7FA050", "#6B9A45"),
        "water": ("#4E86A8", "#3D6F8F", "#6FA3B5"),
        "indoor": (),
    },
    sky=("#9CC4E4", "#7FA9D0", "#8FB8DC"),
    floors=("#3F6F8A", "#4B7F63", "#6C5A94"),
    walls=("#7FB0C4", "#8DBB8F", "#B7A3D0", "#6E93C0"),
)


class Sprite(NamedTuple):
    """An object ready to paste: rgb (h, w, 3) and alpha (h, w), float32 in 0..1."""

    rgb: np.ndarray
    alpha: np.ndarray


# ============ textures ============
# how often
KINDS = {
    "noise": 0.26,
    "stripes": 0.14,
    "checks": 0.1,
    "spots": 0.16,
    "dots": 0.08,
    "grain": 0.16,
    "speckle": 0.1,
}


def noise(
    rng: Rng, height: int, width: int, cells: Sequence[float], falloff: float = 0.6
) -> np.ndarray:
    """Smooth noise, (height, width) float32, mean 0 and deviation 1; cells: sizes of its blotches
    in pixels, strongest first.
    """
    total, weight = np.zeros((height, width), np.float32), 1.0
    for cell in cells:
        grid = rng.standard_normal(
            (int(height / cell) + 3, int(width / cell) + 3), dtype=np.float32
        )
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight *= falloff
    return (total - total.mean()) / (total.std() + 1e-6)


def pattern(
    rng: Rng, height: int, width: int, size: float, kinds: Sequence[str] = ()
) -> np.ndarray:
    """A random texture in -1..1, (height, width) float32, for a thing `size` pixels long, of one of
    kinds, or of any.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), size * rng.uniform(0.035, 0.16)
    u, v = (
        (np.cos(angle) * x + np.sin(angle) * y) / period,
        (np.cos(angle) * y - np.sin(angle) * x) / period,
    )
    bend = noise(rng, height, width, (size * 0.3, size * 0.12))
    kind = str(rng.choice(kinds) if kinds else rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "noise":
        return np.clip(
            0.45 * noise(rng, height, width, (size * 0.25, size * 0.1, size * 0.04), 0.75), -1, 1
        )
    if kind == "stripes":
        return np.clip(3 * np.sin(2 * np.pi * u + 0.4 * bend), -1, 1)
    if kind == "checks":
        return np.clip(2 * np.sin(2 * np.pi * u) + 2 * np.sin(2 * np.pi * v), -1, 1)
    if kind == "spots":
        return np.clip(4 * (bend - rng.uniform(0.2, 1.0)), -1, 1)
    if kind == "dots":
        return np.clip(5 * (np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v) - 0.45), -1, 1)
    if kind == "grain":
        return np.clip(
            0.8 * np.sin(2 * np.pi * (u * 1.5 + 0.7 * bend))
            + 0.3 * noise(rng, height, width, (3,)),
            -1,
            1,
        )
    return np.clip(0.6 * noise(rng, height, width, (2.5, 6)), -1, 1)


def texture(rng: Rng, colour: np.ndarray, height: int, width: int, size: float) -> np.ndarray:
    """A surface around the RGB colour with a random pattern, light and grain: (height, width, 3)
    float32.
    """
    other = np.clip(colour * rng.uniform(0.7, 1.25) + rng.normal(0, 0.04, 3), 0, 1)
    share = rng.uniform(0.25, 0.9) * (0.5 + 0.5 * pattern(rng, height, width, size))[..., None]
    surface = colour * (1 - share) + other * share
    cells = (size * rng.uniform(0.2, 0.6), size * rng.uniform(0.02, 0.1), 2.5)
    grain = rng.uniform(0.02, 0.11) * noise(rng, height, width, cells, rng.uniform(0.4, 0.9))
    return (surface * (1 + grain[..., None])).astype(np.float32)


# ============ objects ============


def _fill(parts: Sequence[Part], height: int, width: int) -> np.ndarray:
    """Number of the front part (from 1) at each pixel of a (height, width) grid, 0 where none."""
    index = np.zeros((height, width), np.int16)
    for number, part in enumerate(parts, start=1):
        points = [np.round(c * 16).astype(np.int32) for c in part.contours]
        turns = [np.sign(signed_area(c)) for c in part.contours]
        if min(turns) == max(turns):
            for contour in points:
                cv2.fillPoly(index, [contour], number, shift=4)
            continue
        winding = np.zeros((height, width), np.int8)
        for contour, turn in zip(points, turns, strict=True):
            winding += np.int8(turn) * cv2.fillPoly(
                np.zeros((height, width), np.int8), [contour], 1, shift=4
            )
        index[winding != 0] = number
    return index


def _bend(parts: Sequence[Part], rng: Rng, size: float) -> list[Part]:
    """The parts under a gentle wave, so that no outline is ever quite the same."""
    amplitude, phase = size * rng.uniform(0, 0.018, 2), rng.uniform(0, 2 * np.pi, 2)
    frequency = 2 * np.pi / size * rng.uniform(0.6, 1.8, 2)

    def wave(c: np.ndarray) -> np.ndarray:
        return c + amplitude * np.sin(c[:, ::-1] * frequency + phase)

    return [p._replace(contours=tuple(wave(c) for c in p.contours)) for p in parts]


def sprite(
    rng: Rng, parts: Sequence[Part], size: float, angle: float, flip: bool, coat: Sequence[str] = ()
) -> Sprite:
    """The parts as an object whose longer side is about size pixels: bent, squeezed, textured and
    lit.

    coat: kinds of texture of which it has one, mostly; any when there are none.
    """
    coat = coat if rng.uniform() < TYPICAL else ()
    parts = _bend(place(parts, 0, 0, size, angle, flip), rng, size)
    squeeze = np.diag(rng.uniform(0.88, 1.12, 2)) @ np.array(
        [[1, rng.uniform(-0.12, 0.12)], [0, 1]]
    )
    parts = [p._replace(contours=tuple(c @ squeeze.T for c in p.contours)) for p in parts]
    low, high = bounds(parts)
    width, height = (int(v) for v in np.ceil(high - low) + 4)
    moved = [
        p._replace(contours=tuple((c - low + 2) * SUPERSAMPLE for c in p.contours)) for p in parts
    ]
    index = _fill(moved, height * SUPERSAMPLE, width * SUPERSAMPLE)

    # Colours of the parts, each a little off; textured parts in one surface or in two.
    gain = rng.uniform(0.9, 1.1, (len(parts), 1))
    colours = np.concatenate([np.zeros((1, 3)), np.array([p.colour for p in parts]) * gain]).astype(
        np.float32
    )
    reduce = {"dsize": (width, height), "interpolation": cv2.INTER_AREA}
    alpha = cv2.resize((index > 0).astype(np.float32), **reduce)
    rgb = cv2.resize(colours[index], **reduce) / np.maximum(alpha, 1e-3)[..., None]
    groups = rng.integers(0, 2, len(parts)) if rng.uniform() < 0.5 else np.zeros(len(parts), int)
    for group in (0, 1):
        chosen = np.array(
            [False, *[p.textured and g == group for p, g in zip(parts, groups, strict=True)]]
        )
        if chosen.any():
            cover = cv2.resize(chosen[index].astype(np.float32), **reduce)[..., None]
            tint = np.clip(rng.uniform(0.4, 1.5) + rng.normal(0, 0.08, 3), 0.3, 1.6)
            share = (
                cover
                * (rng.uniform(0.15, 0.9) * (0.5 + 0.5 * pattern(rng, height, width, size, coat)))[
                    ..., None
                ]
            )
            rgb = rgb * (1 + share * (tint - 1))
    rgb = rgb * (1 + 0.05 * noise(rng, height, width, (size * 0.2, 4), 0.7)[..., None])
    return Sprite(np.clip(rgb * _light(rng, alpha, size), 0, 1).astype(np.float32), alpha)


def _light(rng: Rng, alpha: np.ndarray, size: float) -> np.ndarray:
    """Light from one side on a rounded body: (h, w, 1) factors around 1."""
    height, width = alpha.shape
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = np.cos(angle), np.sin(angle)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    slope = ((x - width / 2) * dx + (y - height / 2) * dy) / size
    solid = cv2.GaussianBlur(alpha, (0, 0), size * rng.uniform(0.03, 0.09))
    relief = cv2.Sobel(solid, cv2.CV_32F, 1, 0) * dx + cv2.Sobel(solid, cv2.CV_32F, 0, 1) * dy
    relief /= np.abs(relief).max() + 1e-6
    return (1 + rng.uniform(0.1, 0.6) * slope + rng.uniform(0.15, 0.45) * relief)[..., None]


def _overlap(
    shape: tuple[int, ...], left: int, top: int, height: int, width: int
) -> tuple[tuple, tuple]:
    """Where a (height, width) patch at (left, top) meets a picture of that shape: slices of the
    picture, slices of the patch.
    """
    rows = slice(max(top, 0), max(min(top + height, shape[0]), 0))
    columns = slice(max(left, 0), max(min(left + width, shape[1]), 0))
    return (rows, columns), (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )


def paste(
    image: np.ndarray, item: Sprite, left: int, top: int, shadow: tuple[int, int, float]
) -> None:
    """Put the sprite into image, in place, over its soft shadow, which is (pixels right, pixels
    down, darkness).
    """
    dx, dy, darkness = shadow
    pad = 3 * round(SHADOW_BLUR)
    dark = cv2.GaussianBlur(np.pad(item.alpha, pad), (0, 0), SHADOW_BLUR) * darkness
    here, there = _overlap(image.shape, left - pad + dx, top - pad + dy, *dark.shape)
    image[here] *= 1 - dark[there][..., None]
    here, there = _overlap(image.shape, left, top, *item.alpha.shape)
    cover = item.alpha[there][..., None]
    image[here] += cover * (item.rgb[there] - image[here])


def mark(ids: np.ndarray, item: Sprite, left: int, top: int, number: int) -> None:
    """Write number into ids, in place, where the sprite covers more than half a pixel."""
    here, there = _overlap(ids.shape, left, top, *item.alpha.shape)
    ids[here][item.alpha[there] > 0.5] = number


# ============ backgrounds ============


def _room(rng: Rng, height: int, width: int, size: float, look: Look) -> np.ndarray:
    wall = np.array(pick(rng, look.walls)) if look.walls else np.array(paint(rng)) * 0.6 + 0.3
    image = texture(rng, wall, height, width, size)
    line = int(height * rng.uniform(0.5, 0.85))
    floor = np.array(pick(rng, look.floors))
    image[line:] = (
        texture(rng, floor, height, width, size)[line:]
        * np.linspace(0.8, 1.1, height - line)[:, None, None]
    )
    image[line : line + max(2, height // 60)] *= rng.uniform(0.5, 0.8)
    return image.astype(np.float32)


def _landscape(rng: Rng, height: int, width: int, size: float, kind: str, look: Look) -> np.ndarray:
    top = np.array(pick(rng, look.sky))
    image = texture(rng, top, height, width, size * 2)
    haze = np.linspace(0, rng.uniform(0, 0.6), height)[:, None, None]
    image = image * (1 - haze) + haze * np.array([0.92, 0.92, 0.9])
    level = height * (rng.uniform(0.75, 1.15) if kind == "sky" else rng.uniform(0.2, 0.6))
    for depth in range(int(rng.integers(1, 4))):
        colour = np.array(pick(rng, look.ground[kind])) * (1 - 0.12 * depth)
        edge = (
            level
            + size * 0.04 * depth
            + size * 0.05 * rng.uniform(0, 1.2) * noise(rng, 1, width, (size * 0.3, size * 0.08))[0]
        )
        cover = np.clip(np.arange(height)[:, None] - edge[None], 0, 1)[..., None]
        image = image * (1 - cover) + texture(rng, colour, height, width, size) * cover
        level += size * rng.uniform(0.05, 0.25)
    return image.astype(np.float32)


def _add_clutter(rng: Rng, image: np.ndarray, size: float) -> None:
    """Put blobs, boards and limb-like shapes into image, in place: they have the textures of
    objects but are none.
    """
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        scale, corners = size * rng.uniform(0.08, 0.42), int(rng.integers(3, 9))
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, corners))
            if rng.uniform() < 0.5
            else np.linspace(0, 2 * np.pi, corners, endpoint=False)
        )
        radii = rng.uniform(0.4, 1, (corners, 1)) * np.array([[1, rng.uniform(0.2, 1)]])
        points = radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        colour = (
            paint(rng)
            if rng.uniform() < 0.6
            else pick(rng, ("#8A5A3B", "#E3C08F", "#3A322E", "#EDE6DA", "#77706A"))
        )
        shape = smooth(points, colour, True)
        if rng.uniform() < 0.5:
            shape = shape._replace(contours=(points,))
        item = sprite(rng, [shape], scale, rng.uniform(0, 360), False)
        x, y = rng.uniform(-0.1, 1.0) * width, rng.uniform(-0.1, 1.0) * height
        paste(image, item, int(x), int(y), (2, 3, rng.uniform(0, 0.4)))


def _distractor(rng: Rng, kind: str, size: float) -> Sprite:
    codes = DISTRACTORS[kind]
    code = codes[rng.integers(len(codes))]
    return sprite(rng, emoji(rng, code), size, rng.uniform(-12, 12), rng.uniform() < 0.5)


def background(rng: Rng, height: int, width: int, kind: str, look: Look = CLUTTERED) -> np.ndarray:
    """A place without any object of the classes, (height, width, 3) float32; kind: a key of
    look.ground.
    """
    size = float(np.sqrt(height * width))
    image = (
        _room(rng, height, width, size, look)
        if kind == "indoor"
        else _landscape(rng, height, width, size, kind, look)
    )
    if rng.uniform() < look.clutter:
        _add_clutter(rng, image, size)
    for _ in range(rng.integers(0, look.things + 1)):
        item = _distractor(rng, kind, size * rng.uniform(0.12, 0.4))
        h, w = item.alpha.shape
        left, top = (
            int(rng.uniform(0, 1) * width - w / 2),
            int(rng.uniform(0.05, 0.95) * height - h / 2),
        )
        paste(image, item, left, top, (2, 3, rng.uniform(0, 0.4)))
    return image


# ============ the picture ============


def camera(rng: Rng, image: np.ndarray) -> np.ndarray:
    """The picture as a cheap camera takes it: cast, light fall-off, blur and sensor noise; (H, W,
    3) uint8.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    side = rng.uniform(0, 2 * np.pi)
    fall = 1 + rng.uniform(0, 0.3) * (
        np.cos(side) * (x / width - 0.5) + np.sin(side) * (y / height - 0.5)
    )
    image = (
        np.clip(image, 0, 1) ** rng.uniform(0.8, 1.25)
        * rng.uniform(0.93, 1.07, 3)
        * fall[..., None]
    )
    if rng.uniform() < 0.7:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    return np.clip(image * 255 + grain * rng.uniform(1.5, 8.0), 0, 255).round().astype(np.uint8)


def _spot(rng: Rng, item: Sprite, ids: np.ndarray, areas: Sequence[int]) -> tuple[int, int] | None:
    """Where the sprite leaves MIN_VISIBLE of itself and of the objects below in sight: (left, top),
    or None after TRIES.

    areas: pixels of the objects 1, 2, ... when nothing hides them.
    """
    height, width = ids.shape
    solid = item.alpha > 0.5
    areas = np.array([0, *areas])
    seen_before = np.bincount(ids.ravel(), minlength=len(areas))
    # the wide reach lets the image border cut objects
    reach = 0.45 if rng.uniform() < 0.25 else 0.3
    for _ in range(TRIES):
        x = int(width * (0.5 + rng.uniform(-reach, reach)) - solid.shape[1] / 2)
        y = int(height * (0.55 + rng.uniform(-reach, reach)) - solid.shape[0] / 2)
        here, there = _overlap(ids.shape, x, y, *solid.shape)
        covered = ids[here][solid[there]]
        seen = seen_before - np.bincount(covered, minlength=len(areas))
        if (
            covered.size >= MIN_VISIBLE * solid.sum()
            and (seen[1:] >= MIN_VISIBLE * areas[1:]).all()
        ):
            return x, y
    return None


def _arrange(
    rng: Rng, sprites: list[Sprite], height: int, width: int
) -> tuple[list[Sprite], list[tuple[int, int]], np.ndarray]:
    """The sprites, smaller if they do not fit otherwise, their places (left, top) and the number of
    the object at each pixel.
    """
    while True:
        ids, spots, areas = np.zeros((height, width), np.int16), [], []
        for number, item in enumerate(sprites, start=1):
            spot = _spot(rng, item, ids, areas)
            if spot is None:
                break
            spots.append(spot)
            areas.append(int((item.alpha > 0.5).sum()))
            mark(ids, item, *spot, number)
        if len(spots) == len(sprites):
            return sprites, spots, ids
        sprites = [
            Sprite(*(cv2.resize(layer, None, fx=0.85, fy=0.85) for layer in item))
            for item in sprites
        ]


def render(
    rng: Rng,
    objects: Sequence[tuple[str, Design]],
    main_class: str,
    height: int,
    width: int,
    look: Look = CLUTTERED,
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of objects and the number of the object at each pixel.

    objects: class and design of object k + 1 at k, later ones before earlier ones. At least
    MIN_VISIBLE of every object is in sight; other objects, things of no class and the image border
    hide the rest. main_class: its habits choose the scene.
    returns: image (height, width, 3) uint8, ids (height, width) int16 with 0 for background
    """
    size = float(np.sqrt(height * width))
    fitting = [kind for kind in look.ground if main_class in SCENES[kind]]
    kinds = fitting if rng.uniform() < HABIT else list(look.ground)
    kind = kinds[rng.integers(len(kinds))]
    image = background(rng, height, width, kind, look)

    largest = look.largest[min(len(objects), len(look.largest)) - 1]
    sprites = []
    for name, design in objects:
        parts = design(rng)
        low, high = bounds(parts)
        extent = high - low
        # thin objects are longer
        length = (
            size * largest * rng.uniform(look.smallest, 1.0) * (extent.max() / extent.min()) ** 0.3
        )
        length = min(length, extent.max() * min(width / extent[0], height / extent[1]))
        angle = rng.normal(0, 7) if rng.uniform() < 0.8 else rng.uniform(-30, 30)
        sprites.append(sprite(rng, parts, length, angle, rng.uniform() < 0.5, COATS[name]))
    sprites, spots, ids = _arrange(rng, sprites, height, width)
    shadow = (int(rng.integers(-6, 7)), int(rng.integers(2, 8)), float(rng.uniform(0.1, 0.45)))
    for item, spot in zip(sprites, spots, strict=True):
        paste(image, item, *spot, shadow)

    if rng.uniform() < look.front:
        item = _distractor(rng, kind, size * rng.uniform(0.15, 0.35))
        spot = _spot(rng, item, ids, [int((item.alpha > 0.5).sum()) for item in sprites])
        if spot is not None:
            paste(image, item, *spot, shadow)
            mark(ids, item, *spot, 0)
    return camera(rng, image), ids


def label_map(ids: np.ndarray, values: Sequence[int], border: int = 1) -> np.ndarray:
    """Mask (H, W) uint8: values[k - 1] where object k is, 0 elsewhere, 255 within border pixels of
    an outline on either side.
    """
    mask = np.concatenate([[0], values]).astype(np.uint8)[ids]
    window = np.ones((2 * border + 1, 2 * border + 1), np.uint8)
    mask[cv2.dilate(ids, window) != cv2.erode(ids, window)] = IGNORE_LABEL
    return mask
