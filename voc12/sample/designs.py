"""What the sample data set shows: designs of the 20 VOC classes, and things of no class (drawn by
voc12/sample/scene.py).

A design is a function of a random generator that returns the parts of one object, back to front.
Some are Twemoji pictograms, recoloured and taken apart (see voc12/sample/shapes.py for their
licence), the rest are drawn here by rule with random proportions. Many animals and persons are a
head that tells the class on a body that does not. DESIGNS says which designs are for training and
which for validation, where validation is to show others; no pictogram of a class is in both.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from voc12.sample.shapes import (
    Part,
    Rng,
    bounds,
    box,
    capsule,
    ellipse,
    mix,
    paint,
    pick,
    place,
    plain,
    poly,
    repaint,
    rgb,
    ring,
    shade,
    smooth,
    transform,
    tube,
    twemoji,
)

Design = Callable[[Rng], list[Part]]

# What the things of a class mostly look like, as in the world: colours here, the kind of surface in
# COATS.
CAT_FUR = ("#8C8A86", "#D08A45", "#3A3634", "#B8A48A", "#A9A29A")
COW_FUR = ("#F2EDE4", "#7A4A2B", "#2B2725", "#B5784A", "#E4D3B8")
DOG_FUR = ("#C1844F", "#E3C08F", "#5B3A26", "#D8A25E", "#EDE6DA")
HORSE_FUR = ("#7A4325", "#5B3020", "#3A2A22", "#A9652F", "#C9B49A")
WOOL = ("#EDE6DA", "#F4F0EA", "#D9CFBE", "#B8A992", "#4A3E36")
HULL = ("#E6E9EC", "#F4F0EA", "#C9D4DE", "#B4C2CF", "#9AA4AE")
BOAT = ("#F4F0EA", "#C8372D", "#2A5D8F", "#8A5A33", "#DDE3E6")
BUS = ("#C8372D", "#E8A92B", "#D86A2B", "#B02A30")
CAR = ("#B8BEC6", "#2A2E34", "#1F4E8C", "#A51E22", "#E9ECEF", "#3F6E5A")
CLOTH = ("#7B2E39", "#3B5E6B", "#5C6B3A", "#8A6A4A", "#6B5A7A", "#C2B49C")
CYCLE = ("#1D1F22", "#A51E22", "#1F4E8C", "#D86A2B", "#3F7A4C")
GLASSES = ("#2F5D3A", "#5B3A1E", "#7FA58A", "#4F86A6", "#1F2B22")
RAIL = ("#2E6B4F", "#2B4F8A", "#3F7F8A", "#7A8A94", "#C9CED4")
LINEN = ("#F4F0EA", "#A51E22", "#E8DCC8", "#5B7A9A")
CLAY = ("#B5603C", "#C87848", "#9C4F33", "#D9B07A", "#EDE6DA")
CASE = ("#1F2225", "#3B4046", "#C9CED4", "#6F5A48")
WOOD = ("#8A5A33", "#B98250", "#5A3A22", "#D9B07A", "#9C6B4A", "#3E2C22", "#E8DCC8", "#6F6A66")
LEAF = ("#3E7A2E", "#5C913B", "#77B255", "#2F5D3A", "#8FA84A")
SKIN = {
    "1f3fb": "#F7DECE",
    "1f3fc": "#F3D2A2",
    "1f3fd": "#D4AB88",
    "1f3fe": "#AF7E57",
    "1f3ff": "#7C533E",
}
# The colours of clothes in Twemoji's persons.
CLOTHES = {
    rgb(c)
    for c in (
        "#FA743E",
        "#DD551F",
        "#C63900",
        "#4289C1",
        "#2A6797",
        "#DD2E44",
        "#BE1931",
        "#A0041E",
        "#9268CA",
    )
}
TYPICAL = 7 / 8  # how often a thing has a colour of its class
TYRE, METAL, GLASS, LIGHT = "#26282B", "#98A0A8", "#7FB4DE", "#FFE9A8"


def emoji(rng: Rng, code: str, drop: Sequence[int] = (), colours: Sequence[str] = ()) -> list[Part]:
    """A pictogram without the parts `drop`, in three of four cases recoloured: near one of the
    colours, or any when there are none.
    """
    parts = [part for index, part in enumerate(twemoji(code)) if index not in drop]
    if rng.uniform() < 0.25:
        return parts
    return repaint(parts, livery(rng, colours))


def livery(rng: Rng, colours: Sequence[str]) -> tuple[float, float, float]:
    """A colour near one of those, in one of eight cases (or when there are none) any other."""
    return pick(rng, colours) if colours and rng.uniform() < TYPICAL else paint(rng)


# ============ animals: a head that tells the class, a body that does not ============


def _stand(rng: Rng, fur: Sequence[float]) -> tuple[list[Part], tuple[float, float]]:
    """A body on four legs, and where the middle of the head goes."""
    length, depth, leg = rng.uniform(19, 25), rng.uniform(8, 11), rng.uniform(7, 12)
    left, top = 8.0, 14.0
    right, bottom = left + length, top + depth
    thick, dark = rng.uniform(2.2, 3.6), shade(fur, 0.72)
    step = rng.uniform(-2, 2, 4)
    feet = (left + 5, left + 2, right - 2, right - 5)
    legs = [
        capsule(
            (x, bottom - 3),
            (x + dx, bottom + leg),
            thick + 0.8,
            dark if k in (0, 3) else fur,
            end_width=thick * 0.8,
        )
        for k, (x, dx) in enumerate(zip(feet, step, strict=True))
    ]
    tail_end = (right + rng.uniform(1, 5), top + rng.uniform(-6, 10))
    tail = tube(
        [(right - 1, top + 2.5), (right + 2, top + rng.uniform(-1, 3)), tail_end],
        rng.uniform(1.2, 2.2),
        dark,
    )
    back = [
        (left, top + 3),
        (left + 4, top),
        (left + length / 2, top + rng.uniform(-0.5, 1.5)),
        (right - 3, top - 0.5),
    ]
    belly = [
        (right, top + 3),
        (right - 0.5, bottom - 1),
        (left + length / 2, bottom + rng.uniform(-1, 0.8)),
        (left + 2, bottom),
    ]
    outline = [*back, *belly]
    neck = capsule((left + 3, top + 4), (left - 1, top - 2), 7, fur, True, end_width=5)
    return [*tail, legs[0], legs[3], neck, smooth(outline, fur, True), legs[1], legs[2]], (
        left - 2,
        top - 4,
    )


def _sit(rng: Rng, fur: Sequence[float]) -> tuple[list[Part], tuple[float, float]]:
    """A body that sits, seen from the front, and where the middle of the head goes."""
    wide, tall, side = rng.uniform(7, 10), rng.uniform(18, 24), rng.choice((-1, 1))
    dark = shade(fur, 0.75)
    tail = tube(
        [(18, 31), (18 + side * wide, 31.5), (18 + side * (wide + 4), 30 - rng.uniform(0, 9))],
        rng.uniform(1.5, 2.6),
        dark,
    )
    right = [(21.5, 35 - tall), (18 + wide * 0.75, 24), (18 + wide, 31), (18 + wide * 0.7, 34)]
    outline = [(18, 33 - tall), *right, (18, 33), *[(36 - x, y) for x, y in reversed(right)]]
    paws = [
        capsule((18 + s * 2.6, 22), (18 + s * 2.6, 33.2), 3.6, shade(fur, 0.9)) for s in (-1, 1)
    ]
    return [*tail, smooth(outline, fur, True), *paws], (18, 33 - tall)


def _lie(rng: Rng, fur: Sequence[float]) -> tuple[list[Part], tuple[float, float]]:
    """A body that lies on the ground, and where the middle of the head goes."""
    length, dark = rng.uniform(20, 27), shade(fur, 0.75)
    right = 7 + length
    tail = tube(
        [(right - 2, 31), (right + 3, 31.5), (right + 6, 29 - rng.uniform(0, 4))],
        rng.uniform(1.5, 2.5),
        dark,
    )
    back = [(6, 26), (10, 22), (7 + length / 2, 23 - rng.uniform(0, 2)), (right - 4, 20.5)]
    outline = [*back, (right, 25), (right + 0.5, 32), (right - 8, 33), (7, 33)]
    haunch = smooth(
        [(right - 8, 27), (right - 4, 24.5), (right - 0.5, 28), (right - 2, 33), (right - 8, 33)],
        shade(fur, 0.9),
    )
    paws = [capsule((9, 31.5 + k), (3 - k, 32 + k), 2.6, shade(fur, 0.92)) for k in (0, 0.7)]
    return [*tail, smooth(outline, fur, True), haunch, *paws], (7, 20)


def animal(
    rng: Rng, head: Callable[[Rng], list[Part]], furs: Sequence[str], size: float = 18.0
) -> list[Part]:
    """The head on a body that stands, sits or lies, in one fur colour near one of furs."""
    fur = pick(rng, furs)
    body, (x, y) = (_stand, _sit, _lie)[rng.choice(3, p=(0.5, 0.28, 0.22))](rng, fur)
    return [
        *body,
        *place(
            repaint(head(rng), fur),
            x,
            y,
            size * rng.uniform(0.9, 1.15),
            angle=rng.uniform(-12, 12),
            flip=rng.uniform() < 0.5,
        ),
    ]


def face(rng: Rng, code: str) -> list[Part]:
    return plain(twemoji(code))


def cow_face(rng: Rng, horned: bool) -> list[Part]:
    fur = rgb("#B98250")
    horns = [
        smooth(
            [
                (18 + s * 5, 9),
                (18 + s * 11, 6),
                (18 + s * 13, 0.5),
                (18 + s * 14, 7),
                (18 + s * 8, 12),
            ],
            "#EADFC4",
        )
        for s in (-1, 1)
        if horned
    ]
    ears = [
        smooth(
            [(18 + s * 8, 13), (18 + s * 15, 11), (18 + s * 18, 15), (18 + s * 12, 17)],
            shade(fur, 0.8),
        )
        for s in (-1, 1)
    ]
    muzzle = [
        ellipse(18, 30, 8, 5, "#E3A9A3"),
        *[ellipse(18 + s * 3.6, 29.5, 1.2, 1.7, "#8A4B48") for s in (-1, 1)],
    ]
    blaze = (
        [smooth([(16, 9), (20, 9), (20.5, 26), (15.5, 26)], "#F4F0EA")]
        if rng.uniform() < 0.5
        else []
    )
    eyes = [ellipse(18 + s * 6, 18, 1.3, 1.3, "#1D1A18") for s in (-1, 1)]
    head = smooth([(18, 7), (26, 10), (25, 24), (23, 33), (13, 33), (11, 24), (10, 10)], fur)
    return [*horns, *ears, head, *blaze, *muzzle, *eyes]


def sheep_front(rng: Rng) -> list[Part]:
    """A sheep that looks at the camera: a dark face before a cloud of wool."""
    wool, skin = pick(rng, WOOL), pick(rng, ("#2E2926", "#EADFCB", "#6A564A"))
    rx, ry, y = rng.uniform(10, 13), rng.uniform(9, 11), rng.uniform(13, 16)
    legs = [
        capsule((18 + x, 24), (18 + x, 34.5), 2.6, shade(skin, 0.85)) for x in (-6, -2.5, 2.5, 6)
    ]
    fleece = [
        ellipse(18 + rx * 0.85 * np.cos(a), 17 + ry * 0.85 * np.sin(a), 3.8, 3.6, wool, True)
        for a in np.linspace(0, 2 * np.pi, 14)
    ]
    ears = [
        smooth(
            [(18 + s * 3, y - 1), (18 + s * 7, y - 2), (18 + s * 9, y + 1), (18 + s * 5, y + 2)],
            shade(skin, 0.8),
        )
        for s in (-1, 1)
    ]
    face = smooth(
        [(18, y - 5), (22.5, y - 2), (21, y + 7), (18, y + 9.5), (15, y + 7), (13.5, y - 2)], skin
    )
    eyes = [
        part
        for s in (-1, 1)
        for part in (
            ellipse(18 + s * 2.4, y, 1.1, 1, "#F2E9C9"),
            ellipse(18 + s * 2.4, y, 0.55, 0.5, "#111111"),
        )
    ]
    crown = [ellipse(18 + x, y - 4.6, 2.6, 2.2, shade(wool, 1.08)) for x in (-2.6, 0, 2.6)]
    mouth = tube([(16.8, y + 6.6), (18, y + 7.4), (19.2, y + 6.6)], 0.6, "#C9A59A")
    return [*legs, *fleece, ellipse(18, 17, rx, ry, wool, True), *ears, face, *crown, *eyes, *mouth]


def sheep(rng: Rng, horns: bool) -> list[Part]:
    """A woolly body on thin legs, with a dark or light face seen from the side."""
    wool, skin = pick(rng, WOOL), pick(rng, ("#2E2926", "#EADFCB", "#6A564A"))
    legs = [
        capsule((x, 24), (x + rng.uniform(-1, 1), 34), 2.2, shade(skin, 0.85))
        for x in (13, 16, 25, 28)
    ]
    bumps = np.linspace(0, 2 * np.pi, rng.integers(11, 16), endpoint=False)
    rx, ry = rng.uniform(10, 12), rng.uniform(6.5, 8)
    fleece = [
        ellipse(20.5 + rx * 0.85 * np.cos(a), 18.5 + ry * 0.85 * np.sin(a), 3.4, 3.2, wool, True)
        for a in bumps
    ]
    x, y = 20.5 - rx, rng.uniform(13, 16)
    head = [
        capsule((x, y), (x - 4.5, y + 3.5), 6.5, skin, end_width=4),
        ellipse(x - 1.5, y, 0.8, 0.8, "#F2E9C9"),
        ellipse(x - 1.6, y, 0.4, 0.4, "#111111"),
    ]
    ear = [
        smooth(
            [(x + 1.5, y - 1), (x + 5, y - 0.5), (x + 5.5, y + 2), (x + 2, y + 1)], shade(skin, 0.8)
        )
    ]
    curl = (
        [ring(x + 2, y - 1, 3.6, 1.7, "#C9A36A")]
        if horns
        else [ellipse(x + 1, y - 3.2, 2.6, 1.8, wool)]
    )
    return [*legs, *fleece, ellipse(20.5, 18.5, rx, ry, wool, True), *head, *ear, *curl]


def horse(rng: Rng, build: str) -> list[Part]:
    """A horse from the side, for 'riding' or a 'pony' (short neck, thick head): long neck, mane,
    long head, tail of hair.
    """
    fur = pick(rng, HORSE_FUR)
    body, (x, y) = _stand(rng, fur)
    pony = build == "pony"
    angle, reach = (
        np.deg2rad(rng.uniform(45, 70)),
        rng.uniform(8, 9.5) if pony else rng.uniform(10, 13),
    )
    hair = shade(fur, 0.35)
    poll = np.array([x + 4 - reach * np.cos(angle), y + 8 - reach * np.sin(angle)])
    nose = poll + rng.uniform(6.5, 8) * np.array([-np.cos(angle - 1.35), -np.sin(angle - 1.35)])
    neck = capsule((x + 6, y + 8), poll, 8, fur, True, end_width=4.6)
    along = np.linspace(0, 1, 7)[:, None]
    ridge = np.array([x + 8, y + 4.5]) * (1 - along) + (poll + np.array([1.5, -2])) * along
    mane = [ellipse(px, py, 1.9, 2.1, hair) for px, py in ridge]
    head = capsule(poll, nose, 6.6 if pony else 5.4, fur, end_width=4.2 if pony else 3.4)
    ears = [
        poly(poll + np.array([(dx, -1.5), (dx + 0.8, -5), (dx + 2.2, -1)]), shade(fur, 0.85))
        for dx in (-1.5, 0.3)
    ]
    eye = ellipse(*(poll * 0.7 + nose * 0.3 - np.array([0, 0.6])), 0.6, 0.6, "#15120F")
    nostril = ellipse(*(nose - np.array([0.5, 0.3])), 0.45, 0.45, "#15120F")
    hind = bounds(body)[1][0] - 2
    tail = smooth(
        [
            (hind - 4, y + 6),
            (hind, y + 6),
            (hind + 2, y + 14),
            (hind + 1, y + 21),
            (hind - 1.5, y + 14),
        ],
        hair,
    )
    return [tail, *body[3:], neck, *mane, *ears, head, eye, nostril]


def horse_head(rng: Rng, code: str, drop: Sequence[int] = ()) -> list[Part]:
    """Head and neck of a pictogram on the common body."""
    fur = pick(rng, HORSE_FUR)
    body, (x, y) = _stand(rng, fur)
    return [
        *body,
        *place(repaint(plain(twemoji(code), drop), fur), x + 1, y + 1, rng.uniform(15, 19)),
    ]


# ============ persons ============


def _tone(rng: Rng) -> str:
    return list(SKIN)[rng.integers(len(SKIN))]


def _head(code: str, tone: str) -> list[Part]:
    """A person's pictogram in a skin tone; the tone is the second of the code points."""
    first, *others = code.split("-")
    return plain(twemoji("-".join([first, tone, *others])))


def _arm(
    rng: Rng, side: int, shoulder: np.ndarray, sleeve: Sequence[float], skin: Sequence[float]
) -> list[Part]:
    swing, bend = rng.uniform(-0.2, 1.3 if rng.uniform() < 0.7 else 2.6), rng.uniform(-0.6, 0.8)
    elbow = shoulder + 5.2 * np.array([side * np.sin(swing), np.cos(swing)])
    hand = elbow + 4.8 * np.array([side * np.sin(swing + bend), np.cos(swing + bend)])
    lower = capsule(elbow, hand, 2.4, sleeve if rng.uniform() < 0.6 else skin, end_width=1.9)
    return [capsule(shoulder, elbow, 3, sleeve, True), lower, ellipse(*hand, 1.3, 1.3, skin)]


def _legs(rng: Rng, pose: str, colour: Sequence[float], hem: float) -> list[Part]:
    if pose == "stand":
        parts = []
        for s, spread in zip((-1, 1), rng.uniform(0.5, 4, 2), strict=True):
            knee, foot = (18 + s * (1.8 + spread * 0.4), 28.5), (18 + s * (1.8 + spread), 35)
            parts += [
                *tube([(18 + s * 1.8, 22), knee, foot], 3.4, colour, True),
                capsule(foot, (foot[0] + s * 1.4, 35.2), 2.2, "#2B2522"),
            ]
        skirt = smooth([(15, 20), (21, 20), (18 + hem, 30), (18 - hem, 30)], colour, True)
        return [*parts, skirt] if rng.uniform() < 0.25 else parts
    parts, s = [], rng.choice((-1, 1))
    for down, reach in ((0, 8.0), (1.2, 6.5)):
        knee, foot = (18 + s * reach, 23 + down), (18 + s * (reach + rng.uniform(-2, 1)), 32 + down)
        parts += [
            *tube([(18, 22), knee, foot], 4.0, colour, True),
            capsule(foot, (foot[0] + s * 2, foot[1] + 1), 2.4, "#2B2522"),
        ]
    return parts


def figure(rng: Rng, code: str) -> list[Part]:
    """The head `code` on a clothed body that stands or sits, or on one that the picture shows down
    to the waist.
    """
    pose = ("stand", "sit", "bust")[rng.choice(3, p=(0.5, 0.2, 0.3))]
    tone, shirt, top = _tone(rng), paint(rng), 11.5
    skin, bust = rgb(SKIN[tone]), pose == "bust"
    wide = rng.uniform(6.0, 7.5) if bust else rng.uniform(4, 5.2)
    waist = wide * rng.uniform(0.7, 0.95)
    legs = [] if bust else _legs(rng, pose, paint(rng), wide + 2.5)
    right = [(20, top - 0.6), (18 + wide, top + 1.5), (18 + waist, 18), (18 + waist, 23)]
    torso = smooth(right + [(36 - x, y) for x, y in reversed(right)], shirt, True)
    arms = [
        part
        for s in (-1, 1)
        for part in _arm(rng, s, np.array([18 + s * (wide - 0.8), top + 2.2]), shirt, skin)
    ]
    head = place(
        _head(code, tone),
        18,
        5.5 if bust else 6.2,
        rng.uniform(9.5, 11.5) * (1.25 if bust else 1),
        angle=rng.uniform(-8, 8),
    )
    return [*legs, capsule((18, 9), (18, top + 0.8), 3.4, shade(skin, 0.9)), torso, *arms, *head]


def person(rng: Rng, code: str) -> list[Part]:
    """A pictogram of a person with a random skin tone and clothes of random colours."""
    outfit: dict[tuple, tuple] = {}
    parts = _head(code, _tone(rng))
    return [
        p._replace(colour=outfit.setdefault(p.colour, paint(rng)), textured=True)
        if p.colour in CLOTHES
        else p
        for p in parts
    ]


# ============ vehicles ============


def bicycle(rng: Rng, style: str) -> list[Part]:
    """A bicycle; style: 'diamond', 'step' (low frame), 'folding' (small wheels), 'penny' (one large
    wheel).
    """
    colour, ground = livery(rng, CYCLE), 34.0
    radius = {"diamond": 7.5, "step": 7.2, "folding": 4.6, "penny": 4.0}[style] * rng.uniform(
        0.95, 1.08
    )
    front_radius = 12.0 if style == "penny" else radius
    rear, front = (
        (7.0, ground - radius),
        (24.0 if style == "penny" else 27.5, ground - front_radius),
    )
    parts = []
    for (x, y), r in ((rear, radius), (front, front_radius)):
        for angle in np.arange(8) * np.pi / 8 + rng.uniform(0, 1):
            dx, dy = 0.9 * r * np.cos(angle), 0.9 * r * np.sin(angle)
            parts.append(capsule((x - dx, y - dy), (x + dx, y + dy), 0.35, "#B9BEC4"))
        parts += [ring(x, y, r, 1.5, TYRE), ellipse(x, y, 1, 1, METAL)]
    if style == "penny":
        frame = tube([rear, (12, 18), (16, 11), (21.5, 7), front], 1.3, colour)
        bars = tube([(19, 5), (21.5, 7), (24, 8)], 1.1, TYRE)
        return [*parts, *frame, *bars, capsule((13.5, 9.5), (18, 9.2), 1.8, "#4A2E1F")]
    crank = np.array([16.0, ground - radius + 0.8])
    seat = np.array([12.5, 16 if style == "folding" else ground - 2.2 * radius])
    bar = np.array([24.0, seat[1] + 0.3])
    joint, neck = mix(crank, seat, 0.62 if style == "diamond" else 0.1), bar + np.array([0.9, 2.5])
    for points in ((rear, crank, neck), (crank, seat), (rear, joint, neck), (front, neck, bar)):
        parts += tube(points, 1.35, colour)
    grip = ((0, 0), (3, 0), (3.4, 2.4)) if style == "diamond" else ((-3, 1), (0, 0), (2.6, 0.4))
    parts += [
        *tube(bar + np.array(grip), 1.2, TYRE),
        capsule(seat - (2.6, 0), seat + (2.2, 0), 1.9, "#3A2A22"),
    ]
    parts += [
        ring(*crank, 2, 0.7, METAL),
        *tube(crank + np.array([(0, 0), (1.5, 3.2), (3, 3.2)]), 0.8, TYRE),
    ]
    return (
        [*parts, box(26, bar[1] + 1.5, 31.5, bar[1] + 5.5, "#B98250", radius=0.8)]
        if style == "step"
        else parts
    )


def motorbike(rng: Rng, style: str) -> list[Part]:
    """A motorbike; style: 'naked', 'cruiser', 'dirt' or 'chopper'."""
    colour, radius, hub_y = livery(rng, CYCLE), 5.4, 28.6
    rake, bar, y = {
        "naked": (3.0, 13.0, 18.5),
        "cruiser": (5.5, 12.0, 20.5),
        "dirt": (3.5, 10.5, 16.0),
        "chopper": (9.0, 9.0, 22.0),
    }[style]
    rear, front, lift = 7.0, 29.0, 2.5 if style == "dirt" else 0.0
    head = (front - rake, bar + 3 + lift * 0.3)
    wheels = []
    for x in (rear, front):
        wheels += [
            ring(x, hub_y, radius, 1.9, TYRE),
            ring(x, hub_y, radius - 1.9, 0.6, METAL),
            ellipse(x, hub_y, 1.5, 1.5, METAL),
        ]
        spokes = 3 * np.stack(
            [np.cos(np.arange(5) * np.pi / 5), np.sin(np.arange(5) * np.pi / 5)], axis=1
        )
        wheels += [capsule((x, hub_y) - spoke, (x, hub_y) + spoke, 0.5, METAL) for spoke in spokes]
    fork = tube([(front, hub_y), head, (head[0] - 1, bar)], 1.4, METAL)
    frame = tube([(rear, hub_y), (15, 27), (22, 27), head], 1.5, "#3B4046")
    engine = [box(13, 22, 21, 29.5, "#596067", radius=1), ellipse(17, 28, 2.4, 2.4, METAL)]
    fins = [box(13, top, 21, top + 0.6, "#30353A") for top in (23, 24.6, 26.2)]
    exhaust = tube([(19, 28.5), (14, 31), (3.5, 22 if style == "dirt" else 30)], 1.8, "#C3C8CE")
    tank = smooth(
        [(15.5, y + 1.5), (18, y - 3), (23, y - 3.6), (head[0] - 0.4, y - 0.5), (21, y + 3)],
        colour,
        True,
    )
    seat = smooth(
        [(6.5, y), (8, y - 1.6), (12, y - 0.2), (16.5, y - 0.6), (16, y + 2), (9, y + 1.8)],
        "#2A2422",
    )
    tail = smooth(
        [(3.4, y + 0.5), (8, y + 0.6), (14, y + 2), (13, y + 4.5), (8, y + 3.6)], colour, True
    )
    over = hub_y - lift
    guard = smooth(
        [
            (front - 4.5, over - 4.6),
            (front, over - 6.8),
            (front + 4.6, over - 4),
            (front, over - 5.4),
        ],
        colour,
    )
    lamp = [
        ellipse(head[0] + 1.2, bar + 3, 2, 2, "#3B4046"),
        ellipse(head[0] + 1.6, bar + 3, 1.4, 1.5, LIGHT),
    ]
    grip = capsule(
        (head[0] - 4.5, bar + (1 if style == "naked" else -1.5)), (head[0] - 1, bar), 1.2, "#222427"
    )
    screen = smooth(
        [(head[0] + 1, bar + 2), (head[0] - 1.5, bar - 4), (head[0] + 0.5, bar - 4)], GLASS
    )
    shield = [screen] if style == "cruiser" else []
    return [
        *wheels,
        *fork,
        *frame,
        *engine,
        *fins,
        *exhaust,
        tail,
        tank,
        seat,
        guard,
        *shield,
        *lamp,
        grip,
    ]


def plane(rng: Rng, view: str) -> list[Part]:
    """An aeroplane from the 'side', or from above with straight ('top') or swept ('delta')
    wings.
    """
    hull, wing = livery(rng, HULL), pick(rng, HULL) if rng.uniform() < 0.6 else paint(rng)
    dark, pane = shade(wing, 0.85), "#2F4658"
    if view == "side":
        fin = poly([(27, 17), (31, 7), (34.5, 7), (33, 18)], wing)
        body = smooth(
            [
                (0.5, 20),
                (4, 16.8),
                (14, 16),
                (28, 16.4),
                (35.5, 17.4),
                (30, 21.5),
                (15, 23.4),
                (4, 22.8),
            ],
            hull,
            True,
        )
        panes = [ellipse(x, 18.6, 0.6, 0.75, "#35526B") for x in np.arange(8, 29, 2.1)]
        panes.append(smooth([(1.8, 18.4), (4.4, 17.2), (5, 18.8)], pane))
        wings = [
            poly([(14, 21), (21, 21), (29, 29), (25.5, 29)], dark),
            poly([(28.5, 18.6), (32.5, 18.6), (35.5, 22.6), (33, 22.6)], dark),
        ]
        return [fin, body, *panes, *wings, capsule((14.5, 25), (18.5, 25.4), 2.8, METAL)]
    sweep, span = rng.uniform(9, 13) if view == "delta" else rng.uniform(2, 7), rng.uniform(14, 18)
    wings = [
        poly(
            [(18, 12), (18 + s * span, 12 + sweep), (18 + s * span, 16 + sweep), (18, 23)],
            wing,
            True,
        )
        for s in (-1, 1)
    ]
    tails = [
        poly([(18, 29), (18 + s * 6, 32), (18 + s * 6, 34), (18, 33.5)], wing) for s in (-1, 1)
    ]
    engines = [
        capsule((18 + s * 7, 14 + sweep * 0.3), (18 + s * 7, 19 + sweep * 0.3), 2.6, METAL)
        for s in (-1, 1)
    ]
    body = smooth(
        [(18, 0.5), (20.2, 5), (20.4, 24), (18.6, 35), (17.4, 35), (15.6, 24), (15.8, 5)],
        hull,
        True,
    )
    cockpit = smooth([(16.6, 4.6), (18, 3), (19.4, 4.6), (18, 5.6)], pane)
    fin = poly([(17.5, 28), (18.5, 28), (18.3, 35), (17.7, 35)], dark)
    return [*wings, *tails, *engines, body, cockpit, fin]


def decker(rng: Rng) -> list[Part]:
    """A double-decker from the side."""
    colour, dark = livery(rng, BUS), "#2A2E34"
    low, roof = 30, rng.uniform(4, 8)
    middle = (low + roof) / 2
    body = box(1, roof, 35, low, colour, True, radius=1.8)
    rows = [
        box(x, y, x + 4.4, y + (low - roof) * 0.24, GLASS, radius=0.5)
        for y in (roof + 2.2, middle + 1.4)
        for x in np.arange(3, 30, 5.2)
    ]
    door = box(29, middle + 1.4, 33, low - 0.6, "#35526B", radius=0.4)
    band = box(
        1, middle - 1.2, 35, middle + 0.4, pick(rng, ("#F4F0EA", "#2A2E34", "#E8DCC8")), True
    )
    wheels = [
        p
        for x in (9, 26)
        for p in (ellipse(x, low, 3.4, 3.4, dark), ellipse(x, low, 1.5, 1.5, METAL))
    ]
    return [body, *rows, band, door, *wheels, ellipse(34, low - 3, 0.9, 0.9, LIGHT)]


def boat(rng: Rng, style: str) -> list[Part]:
    """A boat from the side; style: 'sail' (one mast), 'ketch' (two), 'tug' (high cabin) or
    'fishing' (low cabin, derrick).
    """
    colour, trim = livery(rng, BOAT), pick(rng, ("#8A5A33", "#F4F0EA", "#C8372D", "#2A3D52"))
    bow, deck, mast = rng.uniform(33, 35.5), rng.uniform(25, 27), "#5A4634"
    hull = poly([(2.5, deck + 0.8), (bow, deck - 1), (bow - 5, 33.5), (5.5, 33.5)], colour, True)
    line = poly([(3.6, 30.2), (bow - 2.6, 30), (bow - 5, 33.5), (5.5, 33.5)], shade(trim, 0.8))
    rail = capsule((2.5, deck + 0.6), (bow - 0.3, deck - 0.8), 1.1, trim)
    if style in ("sail", "ketch"):
        canvas = pick(rng, ("#F4F0EA", "#EFE6CF", "#C8372D", "#DDE3E6"))
        masts = ((17, 1.0),) if style == "sail" else ((22, 2.0), (9, 9.0))
        sails = []
        for x, top in masts:
            sails += [
                capsule((x, deck), (x, top), 0.9, mast),
                smooth(
                    [
                        (x + 0.8, top + 1.5),
                        (x + (bow - x) * 0.5, deck - 11),
                        (bow - 2, deck - 3),
                        (x + 0.8, deck - 3.5),
                    ],
                    canvas,
                    True,
                ),
                smooth(
                    [
                        (x - 0.8, top + 3),
                        (x - 4, deck - 9),
                        (x - 7, deck - 3),
                        (x - 0.8, deck - 2.5),
                    ],
                    shade(canvas, 0.9),
                    True,
                ),
            ]
        return [*sails, hull, line, rail]
    left, right, top = (7, 20, deck - 9) if style == "tug" else (6, 15, deck - 6.5)
    cabin = [
        box(left, top, right, deck + 1, "#EEF0F0", True, radius=0.6),
        box(left - 1, top - 1, right + 1, top + 0.6, trim),
    ]
    panes = [
        box(x, top + 1.8, x + 2.4, top + 4.4, "#35526B", radius=0.4)
        for x in np.arange(left + 1.2, right - 2.5, 3.6)
    ]
    if style == "tug":
        funnel = [
            box(9, top - 8, 13, top, colour, True),
            box(9, top - 6.6, 13, top - 5, trim),
            box(9, top - 8, 13, top - 7.2, TYRE),
        ]
        tyres = [ring(x, deck + 3, 1.7, 0.9, TYRE) for x in (11, 18, 25)]
        return [*funnel, *cabin, *panes, hull, line, rail, *tyres]
    derrick = [
        capsule((23, deck), (23, 6), 0.9, mast),
        *tube([(23, 20), (30, 10)], 0.7, mast),
        *tube([(23, 6.5), (bow - 1, deck - 1)], 0.3, mast),
    ]
    return [*derrick, *cabin, *panes, hull, line, rail]


def railcar(rng: Rng, style: str) -> list[Part]:
    """Rolling stock from the side, on rails; style: 'diesel', 'coach', 'express' (sloping nose) or
    'freight' (a wagon behind).
    """
    colour, band, roof = livery(rng, RAIL), livery(rng, RAIL), rng.uniform(13, 15)
    floor, dark = rng.uniform(26.5, 28), "#3B4046"
    rails = [
        box(-6, 32.6, 42, 33.6, "#7C7F83"),
        *[box(x, 33.6, x + 2, 34.8, "#6B5540") for x in range(-5, 41, 4)],
    ]
    wheels = [
        p
        for x in (-1, 4, 30, 35)
        for p in (ellipse(x, 30, 2.6, 2.6, dark), ellipse(x, 30, 1.1, 1.1, METAL))
    ]
    under = [box(-4, floor, 40, floor + 1.8, dark), *wheels]
    nose = (
        [(-4, roof + 1), (-2, roof)]
        if style != "express"
        else [(-10, floor - 4), (-6, roof + 5), (2, roof)]
    )
    start = [(-10, floor)] if style == "express" else [(-4, floor)]
    body = poly([*start, *nose, (39, roof), (40, roof + 1), (40, floor)], colour, True)
    stripe = box(-4 if style != "express" else -8, floor - 4.4, 40, floor - 2.2, band)
    cap = box(3 if style == "express" else -3, roof - 1.2, 39, roof + 0.4, METAL, radius=0.5)
    if style == "freight":
        wood = pick(rng, ("#8A4B32", "#6B5A48", "#A9572F"))
        wagon = [
            box(16, roof + 1, 40, floor, wood, True),
            *[box(x, roof + 1, x + 0.7, floor, shade(wood, 0.7)) for x in range(17, 40, 4)],
        ]
        engine = [
            box(-4, roof, 14, floor, colour, True, radius=0.6),
            box(-2.6, roof + 2, 1.8, roof + 6, GLASS),
            stripe._replace(contours=box(-4, floor - 4.4, 14, floor - 2.2, band).contours),
        ]
        grill = [box(x, roof + 3, x + 0.8, floor - 5.5, shade(colour, 0.6)) for x in (5, 7, 9, 11)]
        return [*rails, *under, *engine, *grill, *wagon]
    if style == "diesel":
        panes = [
            box(-2.8, roof + 2, 2, roof + 6.5, GLASS),
            box(34, roof + 2, 38.6, roof + 6.5, GLASS),
        ]
        panes += [
            box(x, roof + 3, x + 1, floor - 5.5, shade(colour, 0.6)) for x in np.arange(7, 30, 2.2)
        ]
        lamp = [ellipse(-3.4, floor - 5.6, 1, 1, LIGHT)]
        return [*rails, *under, body, stripe, cap, *panes, *lamp]
    first = 5 if style == "express" else 0
    panes = [
        box(x, roof + 2.4, x + 3, roof + 6.2, GLASS, radius=0.5) for x in np.arange(first, 37, 4.4)
    ]
    front = (
        [
            poly(
                [(-7, roof + 6), (-3.6, roof + 3.2), (1.5, roof + 2.2), (1.5, roof + 5.6)],
                "#2F4658",
            )
        ]
        if style == "express"
        else []
    )
    return [*rails, *under, body, stripe, cap, *panes, *front]


# ============ things of the house ============


ON_THE_TABLE = ("2615", "1f375", "1f382", "1f370", "1f34e", "1f37d", "1f354")


def table(rng: Rng, style: str) -> list[Part]:
    """A laid dining table; style: 'legs', 'round', 'cloth', 'trestle' or 'oval'."""
    wood = livery(rng, LINEN) if style == "cloth" else pick(rng, WOOD)
    dark, depth, thick = shade(wood, 0.65), rng.uniform(5, 9), rng.uniform(1.2, 2.2)
    far = rng.uniform(9, 13)
    near = far + depth
    foot = near + rng.uniform(10, 15)
    left = rng.uniform(4, 6)
    right = 36 - left
    top = [
        poly([(left, far), (right, far), (36, near), (0, near)], wood, True),
        box(0, near, 36, near + thick, dark),
    ]
    if style in ("round", "oval"):
        wide = rng.uniform(15, 18)
        top = [
            ellipse(18, far + depth / 2 + thick, wide, depth / 2, dark),
            ellipse(18, far + depth / 2, wide, depth / 2, wood, True),
        ]
    if style == "round":
        base = [
            capsule((18, near), (18, foot - 1), 3.4, dark),
            ellipse(18, foot, rng.uniform(6, 9), 1.8, shade(wood, 0.5)),
        ]
    elif style == "oval":
        base = [
            capsule(
                (18 + s * x, near - 1 - up),
                (18 + s * (x + 1), foot - 2 * up),
                2,
                shade(dark, 1 - 0.1 * up),
            )
            for x, up in ((7, 2), (11, 0))
            for s in (-1, 1)
        ]
    elif style == "cloth":
        hem = [(x, near + rng.uniform(5, 9)) for x in np.linspace(36, 0, 9)]
        base = [capsule((x, near), (x, foot), 2.2, "#5A3A22") for x in (3, 33)]
        base, top = [*base, poly([(0, near), (36, near), *hem], shade(wood, 0.85), True)], top[:1]
    elif style == "trestle":
        base = [
            capsule((x - s * 3.4, foot), (x + s * 3.4, near), 1.9, shade(dark, 0.9 + 0.1 * s))
            for x in (6, 30)
            for s in (-1, 1)
        ]
        base.append(capsule((6, (foot + near) / 2), (30, (foot + near) / 2), 1.6, dark))
    else:
        half, legs = (
            rng.uniform(0.8, 1.5),
            (
                (left + 2, foot - 4, 0.8),
                (right - 2, foot - 4, 0.8),
                (1.6, foot, 1.1),
                (34.4, foot, 1.1),
            ),
        )
        base = [
            box(x - half, near - 1, x + half, end, shade(dark, light)) for x, end, light in legs
        ]
    dishes: list[Part] = []
    for x in rng.permutation([8.0, 15.0, 22.0, 28.0])[: rng.integers(0, 4)]:
        size = rng.uniform(4.5, 6.5)
        dish = plain(twemoji(ON_THE_TABLE[rng.integers(len(ON_THE_TABLE))]))
        dishes += place(dish, x, far + depth * rng.uniform(0.3, 0.6) - size * 0.4, size)
    return [*base, *top, *dishes]


def chair(rng: Rng, style: str) -> list[Part]:
    """A chair; style: 'side', 'panel', 'office', 'folding' or 'windsor'."""
    wood, cloth, black = pick(rng, WOOD), livery(rng, CLOTH), "#33373B"
    dark = shade(wood, 0.7)
    if style == "office":
        base = [
            capsule((18, 24), (18, 30), 2, METAL),
            *[capsule((18, 30), (x, 33.4), 1.4, black) for x in (9, 14, 22, 27)],
        ]
        castors = [ellipse(x, 34.2, 1.2, 1.2, TYRE) for x in (9, 14, 22, 27)]
        arms = [
            p
            for s in (-1, 1)
            for p in tube([(18 + s * 8, 23), (18 + s * 9.5, 17.5), (18 + s * 6.5, 17)], 1.3, black)
        ]
        back = box(
            11 - rng.uniform(0, 1.5),
            1,
            25 + rng.uniform(0, 1.5),
            rng.uniform(15.5, 18),
            cloth,
            True,
            radius=3,
        )
        seat = box(9.5, 21, 26.5, 25.4, shade(cloth, 0.85), True, radius=2)
        return [*base, *castors, back, capsule((18, 17), (18, 22), 2, black), *arms, seat]
    if style == "folding":
        legs = [
            capsule((9, 34), (24, 14), 1.6, METAL),
            capsule((25, 34), (12, 3), 1.6, METAL),
            capsule((13, 34), (28, 14), 1.4, "#7C848C"),
        ]
        back = smooth([(9.6, 2.5), (20, 2), (22.5, 9), (13, 10)], cloth, True)
        return [
            *legs,
            back,
            smooth([(12, 18), (28, 17), (30, 19.5), (13, 21)], shade(cloth, 0.85), True),
        ]
    lean, wide = rng.uniform(-1.5, 2), rng.uniform(8.5, 10.5)
    left, right = 18 - wide, 14 + wide
    hind = [capsule((x, 22), (x + 0.4, 31), 1.7, dark) for x in (left + 4, right + 3)]
    fore = [
        capsule((left + 0.6, 23), (left, 35), 2, wood),
        capsule((right - 0.4, 23), (right, 35), 2, wood),
    ]
    if style == "panel":
        top = [(left + 3.6 + lean, 2), (right + 3.4 + lean, 2), (right + 3.2, 15), (left + 3.4, 15)]
        posts = [capsule((x, 21), (x + lean * 0.6, 5), 1.7, dark) for x in (left + 3.8, right + 3)]
        back = [*posts, poly(top, shade(wood, 0.95), True)]
    elif style == "side":
        back = [capsule((x, 21), (x - 0.4 + lean, 2), 1.9, wood) for x in (left + 3.4, right + 3.4)]
        back += [
            box(left + 3.6 + lean * 0.7, y, right + 3 + lean * 0.7, y + 2.6, shade(wood, 0.9))
            for y in np.linspace(3, 12, int(rng.integers(2, 5)))
        ]
    else:
        back = tube(
            [
                (left + 3, 21),
                (left + 2, 9),
                (left + 6, 3),
                (right, 3),
                (right + 4, 9),
                (right + 3, 21),
            ],
            1.8,
            wood,
        )
        back += [
            capsule((x, 20), (x, 4), 1.0, shade(wood, 0.85))
            for x in np.linspace(left + 5.5, right + 0.5, 5)
        ]
    top = [(left + 4, 19.4), (right + 4.4, 19.4), (right + 0.8, 23.4), (left - 0.6, 23.4)]
    return [
        *hind,
        *back,
        poly(top, cloth if rng.uniform() < 0.6 else wood, True),
        box(left - 0.6, 23.4, right + 0.8, 24.8, dark),
        *fore,
    ]


def sofa(rng: Rng, style: str) -> list[Part]:
    """A sofa; style: 'cushions', 'corner' (L-shaped), 'chesterfield' (rolled arms, buttons) or
    'daybed'.
    """
    cloth, back, arm = livery(rng, CLOTH), rng.uniform(8, 12), rng.uniform(2.6, 4)
    dark, light = shade(cloth, 0.72), shade(cloth, 1.12)
    feet = [box(x, 29, x + 1.6, 31.6, "#3A2A22") for x in (2.5, 32)]
    if style == "daybed":
        s = rng.choice((-1, 1))
        head = [
            (18 + s * 11, 28),
            (18 + s * 12, 18),
            (18 + s * 16, 12),
            (18 + s * 19, 14),
            (18 + s * 17, 28),
        ]
        rest = smooth(
            [(18 - s * 6, 21), (18 + s * 2, 17), (18 + s * 13, 11), (18 + s * 15, 21)], dark, True
        )
        bolster = capsule((18 + s * 10, 18.6), (18 + s * 10, 19.4), 4, paint(rng))
        seat = [
            box(1, 21, 35, 28.4, cloth, True, radius=2),
            box(1.6, 19.6, 34.4, 23.4, light, radius=1.8),
        ]
        return [*feet, rest, *seat, smooth(head, cloth, True), bolster]
    pillow = box(0, 0, 6, 6, paint(rng), True, radius=1.4)
    pillows = [
        p
        for _ in range(rng.integers(0, 3))
        for p in place([pillow], rng.uniform(8, 28), 17.5, 5.4, angle=rng.uniform(-25, 25))
    ]
    side = 5 if style == "chesterfield" else arm
    edges = np.linspace(side, 36 - side, int(rng.integers(3, 5)))
    seats = [
        box(a + 0.15, 20.5, b - 0.15, 25, light, True, radius=1.1)
        for a, b in itertools.pairwise(edges)
    ]
    if style == "chesterfield":
        buttons = [
            ellipse(
                x + 1.5 * (row % 2), 20.5 - back * 0.75 + 2.6 * row, 0.35, 0.35, shade(cloth, 0.45)
            )
            for row in range(3)
            for x in np.arange(6, 30, 3)
        ]
        rolls = [
            p
            for x in (2.5, 33.5)
            for p in (
                box(x - 2.4, 17, x + 2.4, 29.5, dark, True, radius=1),
                ellipse(x, 17, 3.2, 3.2, cloth),
                ring(x, 17, 2.2, 0.5, dark),
            )
        ]
        frame = box(2.4, 20.5 - back, 33.6, 26, cloth, True, radius=3.4)
        return [
            *feet,
            frame,
            *buttons,
            *pillows,
            *seats,
            box(4, 24.6, 32, 29.5, dark, radius=0.8),
            *rolls,
        ]
    backs = [
        box(a + 0.15, 21 - back, b - 0.15, 21, cloth, True, radius=1.6)
        for a, b in itertools.pairwise(edges)
    ]
    arms = [
        box(0, 16.5, arm, 29.6, cloth, True, radius=1.6),
        box(36 - arm, 16.5, 36, 29.6, cloth, True, radius=1.6),
    ]
    if style == "corner":
        arms[1:] = [
            poly([(22, 21), (35.4, 21), (37, 29), (20, 29)], light, True),
            box(20, 29, 37, 33.4, dark, radius=0.6),
        ]
    frame = [
        box(0.8, 22 - back, 35.2, 27, dark, radius=2),
        *backs,
        *pillows,
        *seats,
        box(1, 24.5, 35, 29.4, dark, True, radius=0.6),
    ]
    return [*feet, *frame, *arms]


def couch(rng: Rng) -> list[Part]:
    """The couch of the pictogram couch-and-lamp, as wide as one for three."""
    return transform(
        emoji(rng, "1f6cb", drop=(0, 1, 2), colours=CLOTH),
        np.array([[rng.uniform(1.3, 1.8), 0, 0], [0, 1, 0]]),
    )


def _screen(rng: Rng, x0: float, y0: float, x1: float, y1: float) -> list[Part]:
    """A screen that is off, or shows bars, hills under a sky, or shapes."""
    kind = rng.integers(4)
    parts = [
        box(x0, y0, x1, y1, shade(paint(rng), 0.4) if kind == 0 else paint(rng), True, radius=0.6)
    ]
    wide, high = x1 - x0, y1 - y0
    if kind == 1:
        parts += [
            box(x0 + wide * k / 6, y0, x0 + wide * (k + 1) / 6, y1, paint(rng)) for k in range(6)
        ]
    elif kind == 2:
        ridge = [(x, y0 + high * rng.uniform(0.35, 0.75)) for x in np.linspace(x0, x1, 6)]
        parts.append(poly([*ridge, (x1, y1), (x0, y1)], paint(rng), True))
    elif kind == 3:
        parts += [
            ellipse(
                x0 + wide * rng.uniform(0.2, 0.8),
                y0 + high * rng.uniform(0.3, 0.7),
                wide * 0.15,
                high * 0.2,
                paint(rng),
            )
            for _ in range(4)
        ]
    return parts


def television(rng: Rng, style: str) -> list[Part]:
    """A screen in its case; style: 'crt' (deep case, knobs), 'flat' (two feet) or 'monitor' (one
    foot).
    """
    case, rim = pick(rng, CASE), rng.uniform(0.9, 1.8)
    dark = shade(case, 0.7)
    if style == "crt":
        low = rng.uniform(26, 31)
        knobs = [
            ellipse(31.6, y, r, r, colour)
            for y in (9, 13)
            for r, colour in ((1.5, METAL), (0.6, TYRE))
        ]
        grill = [box(29.8, y, 33.4, y + 0.6, shade(case, 0.5)) for y in np.arange(17, low - 3, 1.5)]
        feet = [box(x, low, x + 3, low + 1.6, TYRE) for x in (4, 29)]
        body = [
            poly([(4, 4), (32, 4), (28, 1), (9, 1)], dark),
            box(0.5, 4, 35.5, low, case, True, radius=2),
        ]
        glass = [
            box(2, 5.5, 29, low - 2, shade(case, 0.5), radius=2.4),
            *_screen(rng, 3.2, 6.6, 27.8, low - 3.2),
        ]
        return [*feet, *body, *glass, *knobs, *grill]
    low = rng.uniform(20, 25)
    front = [
        box(1, 2, 35, low, case, radius=0.9),
        *_screen(rng, 1 + rim, 2 + rim, 35 - rim, low - rim * 1.5),
    ]
    if style == "flat":
        feet = [
            poly([(x, low), (x + 1.4, low), (x + 4.7, low + 3.5), (x - 2.6, low + 3.5)], dark)
            for x in (7, 27)
        ]
        return [*feet, *front, ellipse(33, low - rim * 0.7, 0.35, 0.35, "#58E06A")]
    stand = [
        box(16, low, 20, low + 6, dark),
        box(10, low + 5.4, 26, low + 7.2, shade(case, 0.9), radius=0.8),
    ]
    return [*stand, *front, box(1, low - rim * 1.5, 35, low + 1.6, case)]


# Half widths at heights (0 bottom .. 1 top) of bottle outlines.
BOTTLES = {
    "wine": (
        (0, 0.95),
        (0.05, 1),
        (0.52, 1),
        (0.62, 0.8),
        (0.7, 0.36),
        (0.94, 0.32),
        (0.95, 0.4),
        (1, 0.4),
    ),
    "beer": ((0, 0.95), (0.05, 1), (0.45, 1), (0.6, 0.7), (0.78, 0.38), (1, 0.34)),
    "water": (
        (0, 0.9),
        (0.06, 1),
        (0.3, 0.9),
        (0.36, 1),
        (0.6, 0.92),
        (0.72, 1),
        (0.84, 0.5),
        (1, 0.42),
    ),
    "soda": ((0, 0.85), (0.08, 1), (0.28, 0.82), (0.5, 1), (0.66, 0.92), (0.82, 0.42), (1, 0.4)),
    "spirits": (
        (0, 1),
        (0.03, 1.05),
        (0.58, 1.05),
        (0.64, 0.95),
        (0.68, 0.4),
        (0.9, 0.36),
        (1, 0.36),
    ),
    "flask": (
        (0, 0.9),
        (0.1, 1.3),
        (0.25, 1.4),
        (0.42, 1.1),
        (0.54, 0.5),
        (0.6, 0.34),
        (0.95, 0.34),
        (1, 0.5),
    ),
}


def bottle(rng: Rng, style: str) -> list[Part]:
    """A bottle with cap, label and a bright line of reflection."""
    wide, profile = rng.uniform(4.6, 6.2), BOTTLES[style]

    def outline(share: float, top: float) -> list[tuple[float, float]]:
        right = [(18 + w * wide * share, 35 - t * 34) for t, w in profile if t <= top]
        return right + [(36 - x, y) for x, y in reversed(right)]

    glass, body, neck = (
        livery(rng, GLASSES),
        profile[2][1] * wide * 0.985,
        profile[-1][1] * wide * 1.15,
    )
    high, low = sorted(rng.uniform(18, 32, 2))
    label = (
        [box(18 - body, high, 18 + body, max(low, high + 5), paint(rng), True)]
        if rng.uniform() < 0.75
        else []
    )
    gleam = capsule((18 - body * 0.6, 15), (18 - body * 0.6, 31), 0.9, mix(glass, (1, 1, 1), 0.6))
    cap = box(18 - neck, 0, 18 + neck, rng.uniform(2, 4.5), paint(rng), radius=0.5)
    return [
        poly(outline(1, 1), glass, True),
        poly(outline(0.86, 0.62), shade(glass, 0.75)),
        *label,
        gleam,
        cap,
    ]


def potted(rng: Rng, plant: str) -> list[Part]:
    """A pot with 'fern', 'snake' or the plant of a Twemoji code."""
    clay = livery(rng, CLAY)
    leaf, top, wide, base = (
        pick(rng, LEAF),
        rng.uniform(21, 24),
        rng.uniform(6.5, 9.5),
        rng.uniform(0.55, 0.95),
    )
    pot = [
        poly(
            [(18 - wide, top), (18 + wide, top), (18 + wide * base, 35), (18 - wide * base, 35)],
            clay,
            True,
        ),
        box(17 - wide, top - 1, 19 + wide, top + 2, shade(clay, 0.85), radius=0.6),
    ]
    leaves: list[Part] = []
    if plant == "fern":
        for angle in rng.permutation(np.linspace(-1.35, 1.35, int(rng.integers(9, 14)))):
            root, tip = (
                np.array([18, top]),
                np.array(
                    [18 + 15 * np.sin(angle), top - rng.uniform(11, 19) * np.cos(angle * 0.8)]
                ),
            )
            side, middle = (
                2.0 * np.array([np.cos(angle), np.sin(angle)]),
                (root + tip) / 2 - np.array([0, 2.5]),
            )
            leaves.append(
                smooth(
                    [root, middle + side, tip, middle - side], shade(leaf, rng.uniform(0.75, 1.2))
                )
            )
    elif plant == "snake":
        for x in rng.permutation(np.linspace(-5.5, 5.5, int(rng.integers(5, 9)))):
            tall, lean = rng.uniform(10, 20), x * rng.uniform(0.2, 0.9)
            x0, half = 18 + x, top - tall / 2
            left, right = x0 + lean / 2 - 1.8, x0 + lean / 2 + 1.8
            blade = [
                (x0 - 1.5, top),
                (left, half),
                (x0 + lean, top - tall),
                (right, half),
                (x0 + 1.5, top),
            ]
            leaves.append(smooth(blade, shade(leaf, rng.uniform(0.75, 1.2)), True))
    else:
        stems = int(rng.integers(1, 4))
        for k in range(stems):
            size = rng.uniform(15, 19) / (1.3 if stems > 1 else 1)
            x = 18 + (k - (stems - 1) / 2) * wide * 0.8
            leaves += place(twemoji(plant), x, top - size * 0.42, size, angle=rng.uniform(-8, 8))
    return [ellipse(18, top - 0.6, wide * 0.95, 1.4, "#3E2C22"), *leaves, *pot]


# ============ who is what ============


def _emojis(*codes: str, colours: Sequence[str] = ()) -> dict[str, Design]:
    """Designs of whole pictograms; 'code:1,2' leaves out parts 1 and 2 (water, rails, a lamp,
    ...).
    """
    split = [
        (code.partition(":")[0], tuple(int(k) for k in code.partition(":")[2].split(",") if k))
        for code in codes
    ]
    return {code: partial(emoji, code=code, drop=drop, colours=colours) for code, drop in split}


def _styles(function: Callable, key: str, *values: str | int) -> dict[str, Design]:
    return {f"{function.__name__}_{value}": partial(function, **{key: value}) for value in values}


def _faces(*codes: str, furs: Sequence[str]) -> dict[str, Design]:
    return {code: partial(animal, head=partial(face, code=code), furs=furs) for code in codes}


def _figures(*codes: str) -> dict[str, Design]:
    return {code: partial(figure, code=code) for code in codes}


def _persons(*codes: str) -> dict[str, Design]:
    return {code: partial(person, code=code) for code in codes}


DESIGNS: dict[str, dict[str, dict[str, Design]]] = {
    "aeroplane": {
        "train": {
            **_emojis("2708", "1f6e9", colours=HULL),
            **_styles(plane, "view", "side", "top"),
        },
        "val": {
            **_emojis("1f6eb:0,1,2", "1f6ec:0,1,2", colours=HULL),
            **_styles(plane, "view", "delta"),
        },
    },
    "bicycle": {
        "train": {
            **_emojis("1f6b2", colours=CYCLE),
            **_styles(bicycle, "style", "diamond", "step"),
        },
        "val": _styles(bicycle, "style", "folding", "penny"),
    },
    "bird": {
        "train": _emojis(
            "1f426", "1f99c", "1f989", "1f986", "1f9a9", "1f413", "1f54a:0,3,4", "1f9a2"
        ),
        "val": _emojis("1f983", "1f424", "1f9a4", "1fabf"),
    },
    "boat": {
        "train": {
            **_emojis("26f5:2", "1f6a4:2,5", "1f6f3:6", colours=BOAT),
            **_styles(boat, "style", "sail", "tug"),
        },
        "val": {
            **_emojis("26f4:23", "1f6e5:6", colours=BOAT),
            **_styles(boat, "style", "ketch", "fishing"),
        },
    },
    "bottle": {
        "train": {
            **_emojis("1f37e:0,1,2,3,4,5", "1f37c", colours=GLASSES),
            **_styles(bottle, "style", "wine", "water", "beer"),
        },
        "val": _styles(bottle, "style", "soda", "spirits", "flask"),
    },
    "bus": {
        "train": _emojis("1f68c", "1f68d", "1f68e", colours=BUS),
        "val": {**_emojis("1f690", colours=BUS), "decker": decker},
    },
    "car": {
        "train": _emojis("1f697", "1f698", "1f695", "1f6fb", colours=CAR),
        "val": _emojis("1f699", "1f696", "1f693", colours=CAR),
    },
    "cat": {
        "train": {
            **_emojis("1f408", colours=CAT_FUR),
            **_faces("1f431", "1f63a", "1f63c", furs=CAT_FUR),
        },
        "val": _faces("1f638", "1f63e", furs=CAT_FUR),
    },
    "chair": {
        "train": {
            **_emojis("1fa91", colours=WOOD),
            **_styles(chair, "style", "side", "office", "folding"),
        },
        "val": _styles(chair, "style", "windsor", "panel"),
    },
    "cow": {
        "train": {
            **_emojis("1f404", "1f402", "1f403", colours=COW_FUR),
            "cow_horned": partial(animal, head=partial(cow_face, horned=True), furs=COW_FUR),
        },
        "val": {
            **_faces("1f42e", furs=COW_FUR),
            "cow_polled": partial(animal, head=partial(cow_face, horned=False), furs=COW_FUR),
        },
    },
    "diningtable": {
        "train": _styles(table, "style", "legs", "round", "cloth"),
        "val": _styles(table, "style", "trestle", "oval"),
    },
    "dog": {
        "train": {**_emojis("1f415", "1f429", colours=DOG_FUR), **_faces("1f436", furs=DOG_FUR)},
        "val": _emojis("1f9ae:10,11,12,13", "1f415-200d-1f9ba", colours=DOG_FUR),
    },
    "horse": {
        "train": {
            **_emojis("1f40e", "1f3a0:1,2,7,8,9", colours=HORSE_FUR),
            **_styles(horse, "build", "riding"),
            "1f434": partial(horse_head, code="1f434"),
        },
        "val": {
            **_styles(horse, "build", "pony"),
            "1f984": partial(horse_head, code="1f984", drop=(6, 7)),
        },
    },
    "motorbike": {
        "train": {
            **_emojis("1f3cd", "1f6f5", colours=CYCLE),
            **_styles(motorbike, "style", "naked", "cruiser"),
        },
        "val": _styles(motorbike, "style", "dirt", "chopper"),
    },
    "person": {
        "train": {
            **_figures("1f9d1", "1f468", "1f469", "1f9d3", "1f471", "1f467"),
            **_persons("1f6b6", "1f3c3", "1f57a", "1f9cd", "1f9d8", "1f477", "1f46e", "1f64b"),
        },
        "val": {
            **_figures("1f475", "1f466", "1f9d4", "1f474"),
            **_persons("1f9ce", "1f483", "1f935", "1f473", "1f9d5", "1f938"),
        },
    },
    "pottedplant": {
        "train": {
            **_emojis("1fab4"),
            **_styles(potted, "plant", "fern", "1f335", "1f337", "1f33b"),
        },
        "val": _styles(potted, "plant", "snake", "1f339", "1f33f"),
    },
    "sheep": {
        "train": {
            **_emojis("1f411", colours=WOOL),
            "sheep_plain": partial(sheep, horns=False),
            "sheep_front": sheep_front,
        },
        "val": {**_emojis("1f40f", colours=WOOL), "sheep_horns": partial(sheep, horns=True)},
    },
    "sofa": {
        "train": {"1f6cb": couch, **_styles(sofa, "style", "cushions", "daybed")},
        "val": _styles(sofa, "style", "corner", "chesterfield"),
    },
    "train": {
        "train": {
            **_emojis("1f682", "1f683", "1f684", "1f68a", "1f68b", colours=RAIL),
            **_styles(railcar, "style", "diesel", "freight"),
        },
        "val": {**_emojis("1f685", colours=RAIL), **_styles(railcar, "style", "coach", "express")},
    },
    "tvmonitor": {
        "train": {
            **_emojis("1f4fa", colours=CASE),
            **_styles(television, "style", "flat", "monitor"),
        },
        "val": {**_emojis("1f5a5:4,5", colours=CASE), **_styles(television, "style", "crt")},
    },
}

# Kinds of surface (voc12/sample/scene.py) that the things of a class mostly have; the background
# has them all.
COATS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("noise",),
    "bicycle": ("noise",),
    "bird": ("dots", "grain"),
    "boat": ("stripes",),
    "bottle": ("noise",),
    "bus": ("noise",),
    "car": ("noise",),
    "cat": ("stripes", "grain"),
    "chair": ("grain", "checks"),
    "cow": ("spots",),
    "diningtable": ("grain",),
    "dog": ("grain", "noise"),
    "horse": ("noise",),
    "motorbike": ("noise",),
    "person": ("checks", "stripes", "noise"),
    "pottedplant": ("speckle",),
    "sheep": ("speckle",),
    "sofa": ("checks", "dots"),
    "train": ("stripes",),
    "tvmonitor": ("noise",),
}

# Things that are none of the classes, by the scene they stand in.
DISTRACTORS = {
    "nature": (
        "1f333",
        "1f332",
        "1f334",
        "1f344",
        "1faa8",
        "1fab5",
        "26f0",
        "1f3e0",
        "1f33d",
        "2601",
        "1f3d4",
        "1f342",
    ),
    "street": (
        "1f3e0",
        "1f3e2",
        "1f3eb",
        "1f3ec",
        "26ea",
        "1f6a6",
        "1f6d1",
        "1f6a7",
        "26fd",
        "1f333",
        "1f4ee",
        "1f3d7",
        "1f5d1",
    ),
    "water": ("2693", "1f6df", "26f0", "1f334", "2601", "1faa8", "1f5fc", "1f3e2", "2602"),
    "indoor": (
        "1f4da",
        "1f4d5",
        "1f4e6",
        "1f381",
        "1f56f",
        "1f5bc",
        "1f9fa",
        "1f570",
        "1f6aa",
        "1fa9f",
        "1f3b8",
        "260e",
        "1f392",
        "1f45c",
        "1f9f9",
        "1faa3",
        "1f382",
        "26bd",
        "1f34e",
        "1f941",
    ),
    "sky": ("2601", "1f388", "1f3d4", "1f31e", "1f333", "1f3e2", "26ea", "1f5fc"),
}
