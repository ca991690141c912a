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
from tool.file.digests import FILE_DIGITS
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
TWELVE, SIXTEEN = 12, 16  # bits a channel
HIDDEN = 0.01  # share of a photograph that may have colours under transparency, rims for instance
ONE_COLOUR = 32  # levels by which colours that lossy files have for one differ
# tags of TIFF, and what the second says: bit 0 a smaller copy, bit 2 a mask of transparency; the
# third has 2 for a smaller copy
TIFF_BITS, TIFF_KIND, TIFF_OLD_KIND, TIFF_SIGN = 258, 254, 255, 339
DERIVED, REDUCED = 0b101, 2
META_KEY = "cpn"  # the text chunk of a mask that says what made it
PICTURE_KEY = "cpn_picture"  # the same of an overlay and other pictures for people
# In the meta of a mask that a network made: the digest of its photograph's file. CAM files have it
# as tool.file.cam_file.PHOTOGRAPH, whose word is the photograph's path in masks that
# voc12.own_masks has put back.
PHOTOGRAPH_DIGEST, PHOTOGRAPH_PATH = "photograph_digest", "photograph"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

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

    16 bits are shares of 65535: 257 of them are one of 8 bits. Of an animated PNG or WebP, or a
    JPEG with further pictures, it is the first. Transparency is left out.

    exif: "apply" turns it as its EXIF orientation says, "ignore" leaves it as stored
    Raises InputError naming the file when it is missing, truncated, no image, or larger than
    Pillow's decompression bomb limit; and where it can be read in several ways: values in 32 bits,
    16 bits of which 12 are enough, a TIFF of several pages, colours under transparent pixels.
    """
    with _opened_photograph(path) as image:
        bits = _bits(image)
        if exif == APPLY_EXIF:
            image = ImageOps.exif_transpose(image)
        if bits is not None and image.mode.startswith("I"):  # convert() would clip at 255
            values = np.asarray(image, dtype=np.float32)
            if bits == SIXTEEN:
                _require_bright(path, int(values.max()))
            grey = (values * (255 / (2**bits - 1))).round().clip(0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"image {path} has values of 32 bits or with a sign, of which nothing says what is "
                "white; save it with 8 bits, or with 16, where 65535 is white"
            )
        if "A" in image.getbands() or (image.mode == "P" and "transparency" in image.info):
            pixels = _without_alpha(path, np.array(image.convert("RGBA")))
        else:
            pixels = np.array(image.convert("RGB"))
        if bits == SIXTEEN:  # of which Pillow has the upper 8
            _require_bright(path, 256 * int(pixels.max()) + 255)
        return pixels


def _bits(image: Image.Image) -> int | None:
    """12 or 16 for a PNG or TIFF, not loaded yet, that has so many bits a channel, without a sign;
    None for others.
    """
    if image.format == "PNG":
        return SIXTEEN if any(";16" in str(tile[3]) for tile in image.tile) else None
    if image.format != "TIFF":
        return None
    bits, signs = (set(_numbers(image.tag_v2.get(tag))) for tag in (TIFF_BITS, TIFF_SIGN))
    known = len(bits) == 1 and bits <= {TWELVE, SIXTEEN} and signs <= {1}
    return bits.pop() if known else None


def _numbers(found: Any) -> tuple:
    """What a tag of a TIFF holds, one or several; none where there is no such tag."""
    return () if found is None else found if isinstance(found, tuple) else (found,)


def _require_bright(path: str | Path, brightest: int) -> None:
    """Raise InputError for 16 bits whose brightest value is within 12, and not black alone."""
    if 0 < brightest < 2**TWELVE:
        raise InputError(
            f"image {path} has 16 bits a channel and no value over {2**TWELVE - 1}, so that it "
            "would be almost black; save it with 8 bits, or so that 65535 is white"
        )


def _without_alpha(path: str | Path, rgba: np.ndarray) -> np.ndarray:
    """The colours (H, W, 3) of (H, W, 4). Raises InputError where pixels that are not seen at all
    have colours of their own, more than HIDDEN of the image.
    """
    colours, hidden = rgba[:, :, :3].copy(), rgba[:, :, 3] == 0
    if hidden.any():
        unseen = colours[hidden].astype(np.int16)
        strange = np.abs(unseen - np.median(unseen, axis=0)).max(axis=1) > ONE_COLOUR
        if strange.sum() > HIDDEN * hidden.size:
            raise InputError(
                f"image {path} has colours under transparent pixels, {100 * hidden.mean():.0f} % "
                "of it, which viewers do not show: whether they are to be seen is not certain; "
                "save it without transparency"
            )
    return colours


def _require_one_page(path: str | Path, image: Image.Image) -> None:
    """Raise InputError for a TIFF of several pages, unless the others are smaller copies of the
    first or its transparency, and say so.
    """
    if image.format != "TIFF":
        return
    others = 0
    try:
        pages = image.n_frames
        for page in range(pages) if pages > 1 else ():
            image.seek(page)
            kinds = _numbers(image.tag_v2.get(TIFF_KIND)), _numbers(image.tag_v2.get(TIFF_OLD_KIND))
            derived = any(kind & DERIVED for kind in kinds[0]) or REDUCED in kinds[1]
            others += not derived if page else derived
        if pages > 1:
            image.seek(0)
    except MemoryError:
        raise
    # values that nobody wrote reach Pillow: whatever it raises means a damaged page
    except Exception as error:
        raise InputError(
            f"cannot read image {path}: a page of it is damaged, or of a kind that is not known "
            f"({type(error).__name__}); replace the file or take it off the list"
        ) from error
    if others:
        raise InputError(
            f"image {path} is a TIFF of {pages} pages, of which one alone would be read; save each "
            "as a file of its own"
        )


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


@contextlib.contextmanager
def _opened_photograph(path: str | Path) -> Iterator[Image.Image]:
    with _opened(path, "image", "--voc12_root") as image:
        _require_one_page(path, image)
        yield image


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
    made: the first FILE_DIGITS of a SHA-256. Equal pixels that another program has
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
    return found.hexdigest()[:FILE_DIGITS]


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
