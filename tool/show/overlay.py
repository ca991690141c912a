"""Pictures of CAMs on photographs."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from tool.mask_values import IGNORE_LABEL, voc_palette
from tool.show.letters import draw_text, text_width


def overlay(image: np.ndarray, cam: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """A CAM as colours (turbo, blue 0 to red 1) over the photograph: (H, W, 3) uint8 RGB.

    image: (H, W, 3) uint8 RGB; cam: (H, W), unit scale; values outside [0, 1] are cut.
    """
    heat = cv2.applyColorMap((cam.clip(0, 1) * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.addWeighted(image, 1 - opacity, cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), opacity, 0)


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """A copy of image with text in white on black in its top left corner."""
    image = image.copy()
    scale = max(0.4, image.shape[1] / 900)
    if not text.isascii():
        return _written(image, text, size=round(30 * scale))  # as large as the letters below
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(image, (0, 0), (width + 6, height + base + 4), (0, 0, 0), -1)
    cv2.putText(
        image,
        text,
        (3, height + 3),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )
    return image


def _written(image: np.ndarray, text: str, size: int) -> np.ndarray:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, int(text_width(text, size)) + 6, size + size // 3), "black")
    draw_text(draw, (3, size * 2 // 3), text, size, "white", "lm")
    return np.array(picture)


def cam_panel(image: np.ndarray, cam: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The photograph beside an overlay for each class with any activation, names in the corners:
    (H, n * W, 3) uint8.

    image: (H, W, 3) uint8 RGB; cam: (C, H, W), unit scale; classes: C names.
    """
    shown = [index for index in range(len(classes)) if cam[index].max() > 0]
    return np.concatenate(
        [image, *(caption(overlay(image, cam[index]), classes[index]) for index in shown)], axis=1
    )


def mask_overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """A label mask in VOC colours over the photograph, borders of classes a white pixel wide,
    ignored pixels, which have none, in grey: (H, W, 3) uint8 RGB.

    image: (H, W, 3) uint8 RGB; mask: (H, W) uint8 labels, 0 background is left as it is.
    """
    colours = voc_palette()
    colours[IGNORE_LABEL] = 160
    window = np.ones((3, 3), np.uint8)
    ignored = cv2.dilate((mask == IGNORE_LABEL).astype(np.uint8), window) > 0
    shown = np.where((mask > 0)[:, :, None], (1 - opacity) * image + opacity * colours[mask], image)
    shown[(mask != cv2.erode(mask, window)) & ~ignored] = 255
    return shown.round().astype(np.uint8)


def with_legend(picture: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The picture, below it a line for each class in its label mask, the colour and the name:
    (H', W, 3) uint8 RGB.

    picture: (H, W, 3) uint8 RGB; mask: (H, W) uint8 labels; names: of the values, background first
    """
    shown = [int(value) for value in np.unique(mask) if 0 < value < len(names)]
    if not shown:
        return picture
    width = picture.shape[1]
    side = max(12, width // 40)
    gap = side // 3
    height = gap + len(shown) * (side + gap)
    legend = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(legend)
    colours = voc_palette()
    for row, value in enumerate(shown):
        top = gap + row * (side + gap)
        colour = tuple(int(part) for part in colours[value])
        draw.rectangle((gap, top, gap + side, top + side - 1), fill=colour)
        draw_text(draw, (2 * gap + side, top + side // 2), names[value], side, "black", "lm")
    return np.concatenate([picture, np.asarray(legend)])


def with_inner_legend(picture: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A copy of the picture with the names of the classes in its label mask in the top left corner,
    a line each on its colour; the largest first to be named where not all fit: (H, W, 3) uint8.

    The size stays, which a film's pictures need. picture: (H, W, 3) uint8 RGB; mask: (H, W) uint8
    labels; names: of the values, background first
    """
    areas = np.bincount(mask.ravel(), minlength=256)[1 : len(names)]
    height, width = picture.shape[:2]
    side = max(12, width // 40)
    line = side + side // 3
    fitting = max(1, height // line - 1)
    largest = np.argsort(-areas, kind="stable")[:fitting]
    shown = sorted(int(index) + 1 for index in largest if areas[index])
    image = Image.fromarray(picture)
    draw, colours = ImageDraw.Draw(image), voc_palette()
    for row, value in enumerate(shown):
        top, text = row * line, f" {names[value]} "
        colour = tuple(int(part) for part in colours[value])
        box = (0, top, min(width, int(text_width(text, side)) + 1), top + line - 1)
        draw.rectangle(box, fill=colour)
        ink = "black" if np.dot(colour, (0.3, 0.59, 0.11)) > 128 else "white"
        draw_text(draw, (0, top + line // 2), text, side, ink, "lm")
    return np.array(image)


def scale_bar(height: int, width: int) -> np.ndarray:
    """The colours of a CAM from 0 to 1, (height, width, 3) uint8 RGB."""
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))
    return overlay(np.zeros((height, width, 3), np.uint8), ramp, opacity=1.0)
