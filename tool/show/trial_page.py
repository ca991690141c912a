"""The pictures and scores of app.py's page as HTML, all inside it: no file is served."""

import base64
import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

from tool.mask_values import voc_palette
from tool.show.overlay import mask_overlay, overlay
from tool.show.page import escape

SHOWN = 560  # pixels of the longer side of a picture
QUALITY = 85

STYLE = """
.trial { margin: 0; }
.trial img { display: block; width: 100%; max-height: 62vh; object-fit: contain;
  object-position: left top; border-radius: 6px; }
.trial figcaption { margin: 0 0 6px; color: var(--body-text-color); }
.trial figcaption b { display: block; font-size: 15px; }
.trial figcaption span, .legend { color: var(--body-text-color); font-size: 13px; }
.trial figcaption span { opacity: .75; }
#worst .grid-wrap { max-height: none; height: auto; }
#worst .caption-label { white-space: normal; overflow-wrap: anywhere; }
.legend { margin-top: 6px; display: flex; flex-wrap: wrap; gap: 4px 14px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 5px; vertical-align: -1px; }
.legend .ramp { width: 120px; margin: 0 6px; background: linear-gradient(to right, #30123b, #4777ef,
  #1bd0d5, #61fc6c, #d2e935, #fe9b2d, #d23105); }
.scores { display: grid; grid-template-columns: max-content 1fr max-content; gap: 4px 10px;
  align-items: center; font-size: 14px; color: var(--body-text-color); }
.scores .bar { position: relative; height: 10px; border-radius: 3px;
  background: var(--border-color-primary); }
.scores .bar i { display: block; height: 100%; border-radius: 3px; background: #0b68cb; }
.scores .bar u { position: absolute; top: -3px; width: 2px; height: 16px;
  background: var(--body-text-color); }
.said { padding: 8px 12px; border-radius: 6px; font-size: 14px; color: var(--body-text-color);
  background: var(--background-fill-secondary); border-left: 4px solid #2e7d32; }
.said.wrong { border-left-color: #c2410c; }
"""


def shown_size(size: Sequence[int]) -> tuple[int, int]:
    """(H, W) at which a picture of this size is shown."""
    scale = min(1.0, SHOWN / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_uri(picture: np.ndarray) -> str:
    """An (H, W, 3) uint8 RGB picture as the data URI of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def figure(name: str, title: str, words: str, picture: np.ndarray, legend: str = "") -> str:
    """A picture (H, W, 3) uint8 with a title and words above and a legend, HTML, below; name: its
    id.
    """
    return (
        f'<figure class="trial" id="{escape(name)}"><figcaption><b>{escape(title)}</b>'
        f'<span>{escape(words)}</span></figcaption><img alt="{escape(title)}" '
        f'src="{picture_uri(picture)}">{legend}</figure>'
    )


def fitted(image: np.ndarray) -> np.ndarray:
    """A photograph (H, W, 3) uint8 as large as it is shown."""
    size = shown_size(image.shape[:2])
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def mask_figure(
    name: str,
    title: str,
    words: str,
    photograph: np.ndarray,
    mask: np.ndarray,
    names: Sequence[str],
) -> str:
    """A mask (h, w) over the photograph, fitted, with the share of each class below; names: of the
    values, background first.
    """
    size = photograph.shape[:2]
    large = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    shown = [value for value in np.flatnonzero(shares) if 0 < value < len(names)]
    colours = voc_palette()
    parts = [
        f'<span data-value="{value}" data-share="{shares[value]:.4f}"><i style="background:rgb'
        f'({",".join(map(str, colours[value]))})"></i>{escape(names[value])} '
        f"{100 * shares[value]:.0f} %</span>"
        for value in shown
    ]
    legend = "".join(parts) or "<span>background everywhere</span>"
    return figure(
        name,
        title,
        words,
        mask_overlay(photograph, large),
        f'<div class="legend">{legend}</div>',
    )


def heat_figure(name: str, title: str, words: str, photograph: np.ndarray, heat: np.ndarray) -> str:
    """A CAM (h, w), unit scale, as colours over the photograph, fitted."""
    large = cv2.resize(heat, photograph.shape[1::-1])
    ramp = '<div class="legend"><span>0<i class="ramp"></i>1</span></div>'
    return figure(name, title, words, overlay(photograph, large), ramp)


def score_bars(scores: Mapping[str, float], cut_offs: Mapping[str, float]) -> str:
    """A bar for each class, 0..1, likeliest first, with a mark at its cut-off."""
    lines = [
        f'<span>{escape(name)}</span><div class="bar"><i style="width:{100 * score:.1f}%"></i>'
        f'<u style="left:{100 * cut_offs[name]:.1f}%"></u></div><span>{score:.2f}</span>'
        for name, score in sorted(scores.items(), key=lambda item: -item[1])
    ]
    return (
        '<div id="scores" class="scores">' + "".join(lines) + "</div>"
        '<div class="legend"><span>| from here on the class counts as seen</span></div>'
    )


def said(text: str, wrong: bool = False) -> str:
    """A line that the page says; wrong: something could not be done."""
    return f'<div class="said{" wrong" if wrong else ""}" role="status">{escape(text)}</div>'
