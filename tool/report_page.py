"""The parts of a run's report page as HTML, which tool/page.py puts together: bars, confusion matrix, gallery with class filter."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from tool.page import escape

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 5px 12px; align-items: center; }
.bars .bar { background: #eef0f4; border-radius: 3px; height: 12px; }
.bars .bar i { display: block; height: 100%; border-radius: 3px; background: var(--accent); }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; }
.heat { font-size: 12px; } .heat td, .heat th { padding: 3px 6px; border: 0; text-align: right; } .heat tbody th { font-weight: 400; }
.heat thead th { vertical-align: bottom; text-align: left; }
.heat thead th span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400; }
.controls { display: flex; gap: 14px; align-items: center; margin: 0 0 12px; flex-wrap: wrap; }
select { font: inherit; padding: 4px 8px; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
.card { margin: 0; padding: 12px 0 14px; border-top: 1px solid var(--line); } .card[hidden] { display: none; }
.card figcaption { margin-bottom: 7px; } .card figcaption b { font-variant-numeric: tabular-nums; margin-right: 8px; }
.strip { display: flex; flex-wrap: wrap; gap: 10px; } .strip div { font-size: 12px; color: var(--soft); }
.strip img { display: block; border-radius: 4px; margin-bottom: 3px; background: #eee; }
"""

SCRIPT = """
const select = document.getElementById("class");
const count = document.getElementById("count");
const cards = [...document.querySelectorAll(".card")];
function show() {
  let shown = 0;
  for (const card of cards) {
    card.hidden = select.value !== "" && !card.dataset.classes.split(" ").includes(select.value);
    shown += !card.hidden;
  }
  count.textContent = shown + " of " + cards.length + " images";
}
function fromAddress() {  // report.html#class=3 opens with the filter set
  const match = /^#class=(\\d+)$/.exec(location.hash);
  if (match) select.value = match[1];
  show();
}
select.addEventListener("change", show);
addEventListener("hashchange", fromAddress);
fromAddress();
"""

THUMBNAIL = 168  # pixels of the longer side
JPEG_QUALITY = 78


class Card(NamedTuple):
    """An image of the gallery: its score in percent, the numbers of the classes in it, and pictures as data URIs by title."""

    id: str
    score: float
    classes: tuple[int, ...]
    pictures: Mapping[str, str]


def jpeg_uri(image: np.ndarray) -> str:
    """A thumbnail of an (H, W, 3) uint8 RGB picture as a data URI."""
    scale = min(1, THUMBNAIL / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    file = io.BytesIO()
    Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)).save(file, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def bars(values: Mapping[str, float]) -> str:
    """A bar for each name, percent; NaN, a class that occurs nowhere, is left out."""
    lines = [
        f'<span>{escape(name)}</span><div class="bar"><i style="width:{value:.1f}%"></i></div><span class="value">{value:.1f}</span>'
        for name, value in values.items()
        if not math.isnan(value)
    ]
    return '<div class="bars">\n' + "\n".join(lines) + "\n</div>"


def heat_table(confusion: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix (K, K), rows ground truth, each row as percent of its pixels; classes without any pixel are left out."""
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    total = confusion.sum(axis=1, keepdims=True)
    share = 100 * confusion / np.maximum(total, 1)
    head = "".join(f"<th><span>{escape(names[column])}</span></th>" for column in shown)
    rows = []
    for row in shown:
        cells = "".join(_heat_cell(share[row, column], row == column) for column in shown)
        rows.append(f"<tr><th>{escape(names[row])}</th>{cells}</tr>")
    return f'<table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>' + "\n".join(rows) + "</tbody></table>"


def _heat_cell(share: float, right: bool) -> str:
    colour = "11,104,203" if right else "194,65,12"
    text = f"{share:.0f}" if share >= 0.5 else ""
    light = ";color:#fff" if share > 60 else ""
    return f'<td style="background:rgba({colour},{min(1, share / 100):.2f}){light}">{text}</td>'


def gallery(cards: Sequence[Card], classes: Sequence[str]) -> str:
    """The cards in the order given, under a filter of the classes (foreground names) that occur in them. Needs SCRIPT and STYLE."""
    present = sorted({key for card in cards for key in card.classes})
    options = "".join(f'<option value="{key}">{escape(classes[key])}</option>' for key in present)
    parts = [
        f'<div class="controls"><label>Class <select id="class"><option value="">all</option>{options}</select></label>'
        '<span id="count" class="soft"></span></div>'
    ]
    for card in cards:
        names = ", ".join(classes[key] for key in card.classes)
        pictures = "".join(
            f'<div><img src="{uri}" alt="{escape(title)} of {escape(card.id)}" loading="lazy">{escape(title)}</div>'
            for title, uri in card.pictures.items()
        )
        parts.append(
            f'<figure class="card" data-classes="{" ".join(map(str, card.classes))}"><figcaption><b>{card.score:.1f}</b>'
            f'{escape(card.id)} <span class="soft">{escape(names)}</span></figcaption><div class="strip">{pictures}</div></figure>'
        )
    return "\n".join(parts)
