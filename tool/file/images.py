"""Reading and writing photographs and label masks."""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from tool.errors import InputError, memory_error
from tool.file.atomic import atomic_write
from tool.mask_values import voc_palette

# what Pillow raises for files that are no images, damaged or enormous
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
)
META_KEY = "cpn"  # the text chunk of a mask that says what made it
PICTURE_KEY = "cpn_picture"  # the same of an overlay and other pictures for people
# In the meta of a mask that a network made: the digest of its photograph's file. CAM files have it
# as tool.file.cam_file.PHOTOGRAPH, which in masks of voc12.own_masks is the photograph's path.
PHOTOGRAPH_DIGEST = "photograph_digest"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PHOTOGRAPH = "photograph"  # in the meta of a mask put back beside others: its photograph's path

# A photograph with an EXIF orientation is turned as the tag says, or left as stored.
APPLY_EXIF, IGNORE_EXIF = EXIF_CHOICES = ("apply", "ignore")
EXIF_KEY = "exif"  # in the meta of CAM files and masks: how their photograph was read
UPRIGHT = 1  # the orientation of a photograph that needs no turn, or has no tag
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


class PhotographHeader(NamedTuple):
    """What a photograph's header says: size (H, W) of the stored pixels, EXIF orientation 1 to
    8.
    """

    stored: tuple[int, int]
    orientation: int

    def size(self, exif: str) -> tuple[int, int]:
        """(H, W) as read_image gives it under exif, "apply" or "ignore"."""
        turned = exif == APPLY_EXIF and self.orientation in SIDEWAYS
        return self.stored[::-1] if turned else self.stored


def read_image(path: str | Path, exif: str = APPLY_EXIF) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 RGB; grey, palette, CMYK and 16-bit images are converted.

    exif: "apply" turns it as its EXIF orientation says, "ignore" leaves it as stored
    Raises InputError naming the file when it is missing, truncated, no image, or larger than
    Pillow's decompression bomb limit.
    """
    with _opened_photograph(path) as image:
        if exif == APPLY_EXIF:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # 16-bit grey: convert() would clip at 255
            values = np.asarray(image, dtype=np.float32)
            grey = (values * (255 / 65535)).round().clip(0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(image.convert("RGB"))


def photograph_header(path: str | Path) -> PhotographHeader:
    """Size and orientation of a photograph, without decoding it. Raises InputError as read_image
    does.
    """
    with _opened_photograph(path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        known = isinstance(orientation, int) and UPRIGHT <= orientation <= max(SIDEWAYS)
        return PhotographHeader(image.size[::-1], orientation if known else UPRIGHT)


def mask_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a label mask, without decoding it. Raises InputError naming the file."""
    with opened_mask(path) as image:
        return image.size[::-1]


@contextlib.contextmanager
def _opened(path: str | Path, what: str, where: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except MemoryError as error:
        raise memory_error(path) from error
    except FileNotFoundError as error:
        raise InputError(f"{what} not found: {path}; check the image list and {where}") from error
    except UNREADABLE as error:
        raise InputError(
            f"cannot read {what} {path}: {error}; replace the file or take it off the list"
        ) from error


def _opened_photograph(path: str | Path) -> contextlib.AbstractContextManager[Image.Image]:
    return _opened(path, "image", "--voc12_root")


def opened_mask(path: str | Path) -> contextlib.AbstractContextManager[Image.Image]:
    """The mask at path as an open image. Raises InputError naming the file when it is missing,
    unreadable or too large for the memory, on opening or while it is read in the with block.
    """
    return _opened(path, "mask", "the mask folder")


def read_mask(path: str | Path) -> np.ndarray:
    """A label mask as (H, W) uint8: 0 background, c + 1 class c, 255 ignore.

    Raises InputError naming the file when it is missing, unreadable or not a palette or 8-bit grey
    image.
    """
    with opened_mask(path) as image:
        if image.mode not in ("P", "L"):
            raise InputError(
                f"mask {path} has mode {image.mode}; expected a palette or 8-bit grey PNG of "
                "class numbers"
            )
        return np.array(image)


def same_making(found: dict[str, Any], meta: dict[str, Any]) -> bool:
    """Whether two metas of masks or CAM files say the same; those that do not say how their
    photograph was read are from when all were turned.
    """
    turned = {EXIF_KEY: APPLY_EXIF}
    return turned | found == turned | meta


def write_mask(
    path: str | Path, mask: np.ndarray, meta: dict[str, Any] | None = None, sync: bool = True
) -> None:
    """Write mask_png. sync: as in atomic_write."""
    with atomic_write(path, sync=sync) as file:
        file.write(mask_png(mask, meta))


def mask_png(mask: np.ndarray, meta: dict[str, Any] | None = None) -> bytes:
    """(H, W) uint8 labels as a PNG in the VOC palette; meta, what JSON can hold, goes into a text
    chunk.
    """
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette(voc_palette().ravel().tolist())
    content = io.BytesIO()
    info = None if meta is None else _text_chunk(META_KEY, meta)
    image.save(content, format="PNG", pnginfo=info)
    return content.getvalue()


def read_mask_meta(path: str | Path) -> dict[str, Any]:
    """What write_mask was told of the mask; {} for a mask without it, as all from elsewhere.

    Raises InputError naming the file when it is missing, no image, or what it says is no JSON
    object.
    """
    with opened_mask(path) as image:
        text = image.info.get(META_KEY, "{}")
    try:
        meta = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"cannot read what mask {path} says of itself: {error}; make it again"
        ) from error
    if not isinstance(meta, dict):
        raise InputError(
            f"cannot read what mask {path} says of itself: no JSON object; make it again"
        )
    return meta


def mask_content(path: str | Path) -> str:
    """What tells a mask's file from others, whatever write_mask was told of the way that it was
    made: the first 16 hexadecimal digits of a SHA-256. Equal pixels that another program has
    written, or compressed otherwise, differ. Raises OSError for a file that cannot be read.
    """
    content = Path(path).read_bytes()
    found, start, own = hashlib.sha256(), 0, f"tEXt{META_KEY}\0".encode()
    if content.startswith(PNG_SIGNATURE):
        start = len(PNG_SIGNATURE)
        while start < len(content):  # chunks: length, type, that many bytes, checksum
            end = start + int.from_bytes(content[start : start + 4]) + 12
            chunk = content[start:end]
            # that it is one of ours counts, not what it says
            found.update(own if chunk[4:].startswith(own) else chunk)
            start = end
    found.update(content[start:])
    return found.hexdigest()[:16]


def write_image(path: str | Path, image: np.ndarray, made: dict[str, Any] | None = None) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint8 grey; the ending (.png, .jpg) names the format.

    made: of a PNG, what it shows and was made from, what JSON can hold, for read_picture_meta
    """
    said = {} if made is None else {"pnginfo": _text_chunk(PICTURE_KEY, made)}
    with atomic_write(path) as file:
        Image.fromarray(image).save(
            file,
            format={"jpg": "JPEG"}.get(
                Path(path).suffix[1:].lower(), Path(path).suffix[1:].upper()
            ),
            **said,
        )


def read_picture_meta(path: str | Path) -> dict[str, Any] | None:
    """What write_image was told of the picture at path; None where it was told nothing, and where
    there is no such picture.
    """
    try:
        with _opened(path, "picture", "the folder") as image:
            made = json.loads(image.info.get(PICTURE_KEY, "null"))
    except (InputError, ValueError, TypeError, RecursionError):
        return None
    return made if isinstance(made, dict) else None


def _text_chunk(key: str, said: dict[str, Any]) -> PngInfo:
    info = PngInfo()
    info.add_text(key, json.dumps(said, allow_nan=False))
    return info
