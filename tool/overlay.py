"""Pictures of CAMs on photographs."""

from collections.abc import Sequence

import cv2
import numpy as np

from voc12.constants import IGNORE_LABEL, voc_palette


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
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(image, (0, 0), (width + 6, height + base + 4), (0, 0, 0), -1)
    cv2.putText(image, text, (3, height + 3), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def cam_panel(image: np.ndarray, cam: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The photograph beside an overlay for each class with any activation, names in the corners: (H, n * W, 3) uint8.

    image: (H, W, 3) uint8 RGB; cam: (C, H, W), unit scale; classes: C names.
    """
    shown = [index for index in range(len(classes)) if cam[index].max() > 0]
    return np.concatenate([image, *(caption(overlay(image, cam[index]), classes[index]) for index in shown)], axis=1)


def mask_overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """A label mask in VOC colours over the photograph, class borders in white, ignored pixels grey: (H, W, 3) uint8 RGB.

    image: (H, W, 3) uint8 RGB; mask: (H, W) uint8 labels, 0 background is left as it is.
    """
    colours = voc_palette()
    colours[IGNORE_LABEL] = 160
    shown = np.where((mask > 0)[:, :, None], (1 - opacity) * image + opacity * colours[mask], image)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    shown[edge] = 255
    return shown.round().astype(np.uint8)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], tile: tuple[int, int] = (180, 240)) -> np.ndarray:
    """Rows of pictures under column titles, each fitted into a tile: (H', W', 3) uint8 RGB on white.

    rows: pictures (H, W, 3) uint8 RGB of any size, as many a row as titles; tile: (height, width) in pixels.
    """
    gap, head = 6, 28
    height, width = tile
    sheet = np.full((head + len(rows) * (height + gap), gap + len(titles) * (width + gap), 3), 255, dtype=np.uint8)
    for column, title in enumerate(titles):
        origin = (gap + column * (width + gap), head - 9)
        cv2.putText(sheet, title, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            scale = min(height / picture.shape[0], width / picture.shape[1])
            size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            top = head + row * (height + gap) + (height - small.shape[0]) // 2
            left = gap + column * (width + gap) + (width - small.shape[1]) // 2
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return sheet
