"""The parts of a run's report page as HTML, which tool/show/page.py puts together: bars, confusion
matrix, three photographs, and a gallery with a class filter whose pictures open large, beside all
stages, with a slider for the threshold of each.

Maps lie in the page as small PNGs whose red is the score and whose green is the class (map_uri), so
that a browser makes the mask of any threshold by itself, without a network.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from tool.mask_values import BACKGROUND, IGNORE_LABEL, voc_palette
from tool.show.overlay import scale_bar
from tool.show.page import escape, isolated
from tool.show.viewer import VIEWER

THUMBNAIL = 320  # pixels of the longer side, in the gallery
SMALL = 168  # of the three photographs on the first screen
LARGE = 480  # of photographs and masks that open large
MAP = 240  # of maps: they are smooth
JPEG_QUALITY = 80
LEVELS = 100  # a map's red is the number of hundredths that the score exceeds


class Layer(NamedTuple):
    """A stage on one image: a map or a label map as a data URI (map_uri, mask_uri), and a JPEG of
    its mask for the first screen (None where it is not shown).
    """

    uri: str
    picture: str | None = None


class Card(NamedTuple):
    """An image of the gallery: its score in percent (NaN: none), the numbers of the classes in it
    and of those that its pictures have (a mask may say another one), pictures as data URIs: a
    thumbnail, the photograph, the ground truth (None: there is none) and its layers, as many as the
    gallery has stages.
    """

    id: str
    score: float
    classes: tuple[int, ...]
    coloured: tuple[int, ...]
    thumbnail: str
    photograph: str
    truth: Layer | None
    layers: tuple[Layer, ...]


class StageView(NamedTuple):
    """A stage in the viewer: its name, and the threshold that it opens with, unit scale; None: its
    label maps have none.
    """

    name: str
    threshold: float | None


# ============ pictures as data URIs ============
def _uri(image: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()


def _size(shape: Sequence[int], longest: int) -> tuple[int, int]:
    """(width, height) of a picture of that shape (height, width, ...) at most `longest` long."""
    scale = min(1, longest / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def jpeg_uri(image: np.ndarray, longest: int = THUMBNAIL) -> str:
    """An (H, W, 3) uint8 RGB picture, at most `longest` long, as a data URI."""
    small = cv2.resize(image, _size(image.shape, longest), interpolation=cv2.INTER_AREA)
    return _uri(Image.fromarray(small), "JPEG", quality=JPEG_QUALITY)


def mask_uri(mask: np.ndarray, longest: int = LARGE) -> str:
    """A label map (H, W) uint8 as a PNG whose green is the label, as a data URI."""
    small = cv2.resize(mask, _size(mask.shape, longest), interpolation=cv2.INTER_NEAREST)
    image = Image.fromarray(small).convert("P")
    image.putpalette([part for value in range(256) for part in (0, value, 0)])
    return _uri(image, "PNG")


def map_uri(cam: np.ndarray, keys: np.ndarray, size: tuple[int, int], longest: int = MAP) -> str:
    """Maps (n, H, W), unit scale, of the classes keys (n,), from 0, as a PNG whose red is the
    number of hundredths that the highest score exceeds and whose green is its mask value, as a data
    URI. So red > 100 t is score > t for every t in hundredths. size: (H, W), for n = 0
    """
    if not len(keys):
        return mask_uri(np.zeros(size, dtype=np.uint8), longest)
    wanted = _size(size, longest)
    small = np.stack([cv2.resize(one, wanted, interpolation=cv2.INTER_AREA) for one in cam])
    pixels = np.zeros((*small.shape[1:], 3), dtype=np.uint8)
    pixels[..., 0] = np.ceil(small.max(axis=0).clip(0, 1).astype(np.float64) * LEVELS - 1e-6)
    pixels[..., 1] = np.asarray(keys)[small.argmax(axis=0)] + 1
    return _uri(Image.fromarray(pixels), "PNG")


# ============ parts of the page ============
def bars(values: Mapping[str, float]) -> str:
    """A bar for each name, percent; NaN, a class that occurs nowhere, is left out."""
    lines = [
        f'<span>{isolated(name)}</span><div class="bar"><i '
        f'style="width:{value:.1f}%"></i></div><span class="value">{value:.1f}</span>'
        for name, value in values.items()
        if not math.isnan(value)
    ]
    return '<div class="bars">\n' + "\n".join(lines) + "\n</div>"


def heat_table(confusion: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix (K, K), rows ground truth, each row as percent of its pixels; classes
    without any pixel are left out.
    """
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    total = confusion.sum(axis=1, keepdims=True)
    share = 100 * confusion / np.maximum(total, 1)
    head = "".join(f"<th><span>{isolated(names[column])}</span></th>" for column in shown)
    rows = []
    for row in shown:
        cells = "".join(_heat_cell(share[row, column], row == column) for column in shown)
        rows.append(f"<tr><th>{isolated(names[row])}</th>{cells}</tr>")
    return (
        f'<table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>'
        + "\n".join(rows)
        + "</tbody></table>"
    )


def _heat_cell(share: float, right: bool) -> str:
    colour = "11,104,203" if right else "194,65,12"
    text = f"{share:.0f}" if share >= 0.5 else ""
    light = ";color:#fff" if share > 60 else ""
    return f'<td style="background:rgba({colour},{min(1, share / 100):.2f}){light}">{text}</td>'


def legend(values: Sequence[int], classes: Sequence[str]) -> str:
    """The colours of the classes (foreground names) with these numbers, from 0, as a line."""
    palette = voc_palette()
    chips = "".join(
        f'<span class="chip"><i style="background:rgb{tuple(map(int, palette[key + 1]))}"></i>'
        f"{isolated(classes[key])}</span>"
        for key in values
    )
    return f'<p class="legend">{chips}</p>'


def _words(card: Card, classes: Sequence[str]) -> str:
    """Score, id and classes of a card."""
    score = "" if math.isnan(card.score) else f"{card.score:.1f}"
    names = ", ".join(isolated(classes[key]) for key in card.classes)
    return f'<b>{score}</b>{isolated(card.id)} <span class="soft">{names}</span>'


def examples(
    cards: Sequence[Card], chosen: Mapping[str, int], stages: Sequence[str], classes: Sequence[str]
) -> str:
    """Some of the cards, each with all its stages small, side by side; they open the viewer.

    chosen: what a card is ("best") -> its place in cards, whose layers have a picture
    """
    titles = ["photograph", *(["ground truth"] if cards[0].truth else []), *stages]
    head = "".join(f"<span>{escape(title)}</span>" for title in titles)
    parts = [f'<div class="examples" style="--columns:{len(titles)}"><div class=row>{head}</div>']
    for what, place in chosen.items():
        card = cards[place]
        layers = [*([card.truth] if card.truth else []), *card.layers]
        pictures = [card.photograph, *(layer.picture or layer.uri for layer in layers)]
        shown = "".join(f'<img src="{uri}" alt="">' for uri in pictures)
        parts.append(
            f'<p class="what">{escape(what)}: {_words(card, classes)}</p>'
            f'<button class="row" data-card="{place}" aria-label="{escape(what)}: '
            f'{escape(card.id)}, open large">{shown}</button>'
        )
    coloured = sorted({key for place in chosen.values() for key in cards[place].coloured})
    return "\n".join([*parts, "</div>", legend(coloured, classes)])


def gallery(cards: Sequence[Card], stages: Sequence[StageView], classes: Sequence[str]) -> str:
    """The cards in the order given, under a filter of the classes (foreground names) that occur in
    them, and the viewer that they open in. Needs style and script of tool/show/viewer.py.
    """
    present = sorted({key for card in cards for key in card.classes})
    options = "".join(f'<option value="{key}">{escape(classes[key])}</option>' for key in present)
    parts = [
        '<div class="controls"><label>Class <select id="class"><option '
        f'value="">all</option>{options}</select></label>'
        '<span id="count" class="soft"></span></div>',
        legend(sorted({key for card in cards for key in card.coloured}), classes),
        '<div class="cards">',
    ]
    for place, card in enumerate(cards):
        parts.append(
            '<figure class="card" '
            f'data-classes="{" ".join(map(str, card.classes))}"><button data-card="{place}">'
            f'<img src="{card.thumbnail}" alt="{escape(card.id)}, open large" loading="lazy">'
            f"</button><figcaption>{_words(card, classes)}</figcaption></figure>"
        )
    return "\n".join([*parts, "</div>", VIEWER, _data(cards, stages, classes)])


def _data(cards: Sequence[Card], stages: Sequence[StageView], classes: Sequence[str]) -> str:
    """What the script reads: names, colours, thresholds and pictures, as JSON that no name can
    break out of.
    """
    palette = voc_palette()
    palette[IGNORE_LABEL] = 160
    data = {
        "classes": [BACKGROUND, *classes],
        "palette": palette.tolist(),
        "heat": scale_bar(1, 256)[0].tolist(),
        "stages": [
            {"name": name, "t": None if threshold is None else round(LEVELS * threshold)}
            for name, threshold in stages
        ],
        "cards": [
            {
                "id": card.id,
                "score": None if math.isnan(card.score) else round(card.score, 1),
                "coloured": card.coloured,
                "photograph": card.photograph,
                "truth": card.truth and card.truth.uri,
                "layers": [layer.uri for layer in card.layers],
            }
            for card in cards
        ],
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>'
