"""Reading and writing photographs and label masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from tool.errors import InputError
from tool.files import atomic_write
from voc12.constants import voc_palette

META_KEY = "cpn"  # the text chunk of a mask that says what made it


def read_image(path: str | Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 RGB, turned as its EXIF tag says; grey, palette, CMYK and 16-bit images are converted.

    Raises InputError naming the file when it is missing, truncated, no image, or larger than Pillow's decompression bomb limit.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16-bit grey: convert() would clip at 255
                values = np.asarray(image, dtype=np.float32)
                grey = (values * (255 / 65535)).round().clip(0, 255).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"image not found: {path}; check the image list and --voc12_root") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}; replace the file or take it off the list") from error


def read_mask(path: str | Path) -> np.ndarray:
    """A label mask as (H, W) uint8: 0 background, c + 1 class c, 255 ignore.

    Raises InputError naming the file when it is missing, unreadable or not a palette or 8-bit grey image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise InputError(f"mask {path} has mode {image.mode}; expected a palette or 8-bit grey PNG of class numbers")
            return np.array(image)
    except FileNotFoundError as error:
        raise InputError(f"mask not found: {path}; check the image list and the mask folder") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read mask {path}: {error}; replace the file or take it off the list") from error


def write_mask(path: str | Path, mask: np.ndarray, meta: dict[str, Any] | None = None) -> None:
    """Write (H, W) uint8 labels as a PNG in the VOC palette; meta, what JSON can hold, goes into a text chunk."""
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette(voc_palette().ravel().tolist())
    info = PngInfo()
    if meta is not None:
        info.add_text(META_KEY, json.dumps(meta, allow_nan=False))
    with atomic_write(path) as file:
        image.save(file, format="PNG", pnginfo=info)


def read_mask_meta(path: str | Path) -> dict[str, Any]:
    """What write_mask was told of the mask; {} for a mask without it, as all from elsewhere.

    Raises InputError naming the file when it is missing, no image, or what it says is no JSON object.
    """
    try:
        with Image.open(path) as image:
            meta = json.loads(image.info.get(META_KEY, "{}"))
    except FileNotFoundError as error:
        raise InputError(f"mask not found: {path}; check the image list and the mask folder") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read what mask {path} says of itself: {error}; make it again") from error
    if not isinstance(meta, dict):
        raise InputError(f"cannot read what mask {path} says of itself: no JSON object; make it again")
    return meta


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB; the ending (.png, .jpg) names the format."""
    with atomic_write(path) as file:
        Image.fromarray(image).save(
            file, format={"jpg": "JPEG"}.get(Path(path).suffix[1:].lower(), Path(path).suffix[1:].upper())
        )
