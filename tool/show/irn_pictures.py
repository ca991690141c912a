"""Pictures of what IRN's network puts out."""

import cv2
import numpy as np


def boundary_picture(edge: np.ndarray, scale: int) -> np.ndarray:
    """A boundary map (h, w), probability, in grey, white 1: (scale * h, scale * w) uint8."""
    grey = (edge.clip(0, 1) * 255).round().astype(np.uint8)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def displacement_picture(displacement: np.ndarray, scale: int) -> np.ndarray:
    """A displacement field (2, h, w), dy first, as colours: hue its direction, brightness its
    length, the longest full; (scale * h, scale * w, 3) uint8 RGB.
    """
    dy, dx = displacement
    length = np.hypot(dy, dx)
    hue = np.degrees(np.arctan2(dy, dx)) % 360 / 2  # OpenCV's hue of uint8 images is in 0..179
    full = np.full(hue.shape, 255.0)
    hsv = np.stack([hue, full, 255 * length / max(float(length.max()), 1e-12)], axis=2).astype(
        np.uint8
    )
    colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return cv2.resize(colours, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
