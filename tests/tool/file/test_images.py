"""Photographs and masks of every kind that a folder may hold."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from tool.errors import InputError
from tool.file import images
from tool.file.images import (
    META_KEY,
    mask_content,
    photograph_header,
    read_image,
    read_mask,
    read_mask_meta,
    read_picture_meta,
    write_image,
    write_mask,
)
from tool.mask_values import voc_palette

ROOT = Path(__file__).parents[3]
ORIENTATION = 0x0112


def _pixels(height: int = 12, width: int = 16) -> np.ndarray:
    """Smooth colours, which JPEG keeps to a few grey levels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 15, y * 20, 255 - x * 15], axis=2).astype(np.uint8)


# ============ read_image ============
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_rgb_is_read_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(_pixels()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    ours = read_image(path)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, _pixels())


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "PA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "PA", "LA") else "a.png")
    image = Image.fromarray(_pixels()).convert(mode)
    if mode == "PA":
        image = Image.fromarray(_pixels()).convert("P").convert("PA")
    # Pillow before 13 cannot read its own YCbCr without compression
    image.save(path, compression="tiff_deflate" if mode == "YCbCr" else None)
    ours = read_image(path)
    assert ours.shape == (12, 16, 3)
    np.testing.assert_array_equal(ours, np.asarray(Image.open(path).convert("RGB")))
    if mode in ("L", "1", "LA"):
        assert (ours == ours[:, :, :1]).all()


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    Image.fromarray(_pixels()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - _pixels()).mean() < 12


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 12 * 16).reshape(12, 16).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    ours = read_image(tmp_path / "a.png")
    assert (ours == ours[:, :, :1]).all()
    np.testing.assert_allclose(ours[:, :, 0], values / 257.0, atol=0.51)


def _sixteen(brightest: int) -> np.ndarray:
    return np.linspace(0, brightest, 12 * 16).reshape(12, 16).astype(np.uint16)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_shares_of_65535_and_fewer_are_named(tmp_path, name, channels):
    for brightest in (65535, 16383, 0):
        values = np.stack([_sixteen(brightest)] * channels, axis=2)
        values[:, :, 3:] = 65535
        if brightest == 0 and channels > 1:  # of which the upper 8 bits alone are seen
            continue
        cv2.imwrite(str(tmp_path / name), values)
        expected = np.repeat(values[:, :, :1] / 257.0, 3, axis=2)
        np.testing.assert_allclose(read_image(tmp_path / name), expected, atol=1.01)
    for brightest in (4095, 255):
        values = np.stack([_sixteen(brightest)] * channels, axis=2)
        values[:, :, 3:] = 65535
        cv2.imwrite(str(tmp_path / name), values)
        with pytest.raises(InputError, match=r"has 16 bits a channel and no value over 4095"):
            read_image(tmp_path / name)


def test_5_6_5_bits_are_no_16(tmp_path):
    """A BMP of 16 bits a pixel, whose brightest here is dark."""
    header = struct.pack("<2sIHHI", b"BM", 14 + 40 + 4 * 2 * 4, 0, 0, 14 + 40)
    header += struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, 32, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(header + struct.pack("<16H", *[1] * 16))
    assert read_image(tmp_path / "a.bmp").shape == (4, 4, 3)


@pytest.mark.parametrize(
    "values", [_sixteen(65535).astype(np.int32), (_sixteen(65535) / 65535).astype(np.float32)]
)
def test_32_bits_say_nothing_of_white(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"image .*a\.tif has values of 32 bits or with"):
        read_image(tmp_path / "a.tif")


def test_12_bits_are_shares_of_4095(tmp_path):
    values = _sixteen(4095)
    packed = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    Image.fromarray(np.zeros((12, 16), np.uint16)).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    place = data.index(struct.pack("<HHI", TiffImagePlugin.BITSPERSAMPLE, 3, 1))
    data[place + 8] = 12
    with Image.open(tmp_path / "a.tif") as image:
        start = image.tag_v2[TiffImagePlugin.STRIPOFFSETS][0]
    bits = np.packbits(packed.ravel()).tobytes()
    data[start : start + len(bits)] = bits
    (tmp_path / "a.tif").write_bytes(data)
    expected = np.repeat(values[:, :, None] * (255 / 4095), 3, axis=2)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), expected, atol=0.51)


def _pages(path: Path, *kinds: int | None) -> None:
    """A TIFF of a page each, which says that it is of this kind."""
    pages = [Image.fromarray(_pixels()) for _ in kinds]
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {}
        if kind is not None:
            page.encoderinfo["tiffinfo"] = {254: kind}
    first, *others = pages
    info = first.encoderinfo
    first.save(path, save_all=True, append_images=others, **info)


def test_a_tiff_of_several_pages_is_named_unless_they_are_copies(tmp_path):
    for kinds in ((None, None), (0, 2), (None, 1, None), (1, 0)):
        _pages(tmp_path / "a.tif", *kinds)
        for read in (read_image, photograph_header):
            with pytest.raises(InputError, match=rf"is a TIFF of {len(kinds)} pages, of which one"):
                read(tmp_path / "a.tif")
    for kinds in ((None,), (0, 1), (0, 4, 1)):
        _pages(tmp_path / "a.tif", *kinds)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), _pixels())
        assert photograph_header(tmp_path / "a.tif").stored == (12, 16)


def test_a_later_page_that_cannot_be_read_is_named(tmp_path):
    """Pillow raises a KeyError for it."""
    path = tmp_path / "a.tif"
    _pages(path, 0, 1)
    data = bytearray(path.read_bytes())
    place = data.rindex(struct.pack("<HHI", 259, 3, 1))  # compression
    struct.pack_into("<H", data, place + 8, 10825)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: a page of it is damaged, or of a kind .*KeyErr"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_an_animation_gives_its_first_picture(tmp_path, suffix):
    path, lossless = tmp_path / f"a.{suffix}", {"lossless": True} if suffix == "webp" else {}
    others = [Image.new("RGB", (16, 12), "red")]
    first = Image.fromarray(_pixels())
    first.save(path, save_all=True, append_images=others, **lossless)
    np.testing.assert_array_equal(read_image(path), _pixels())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_colours_that_nobody_sees_are_named(tmp_path, mode):
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (40, 40, 4)).astype(np.uint8)
    rgba[..., 3] = 0
    rgba[10:30, 10:30, 3] = 255
    path = tmp_path / "a.png"

    def save(pixels: np.ndarray) -> np.ndarray:
        if mode == "P":
            image = Image.fromarray(pixels[..., :3]).quantize(64)
            index = np.asarray(image).copy()
            index[pixels[..., 3] == 0] %= 32
            index[pixels[..., 3] > 0] = 40
            colours = image.getpalette()
            image = Image.fromarray(index).convert("P")
            image.putpalette(colours)
            image.save(path, transparency=bytes([0] * 32 + [255] * 32))
        else:
            image = Image.fromarray(pixels).convert(mode)
            image.save(path)
        return np.asarray(image.convert("RGB"))

    save(rgba)
    with pytest.raises(
        InputError, match=r"a\.png has colours under transparent pixels, 75 % of it"
    ):
        read_image(path)
    rgba[rgba[..., 3] == 0] = (0, 0, 0, 0)
    if mode != "P":
        np.testing.assert_array_equal(save(rgba), read_image(path))
    # half transparent is seen, and so is a rim
    rgba[..., 3] = 128
    rgba[0, :9, 3] = 0
    if mode != "P":
        np.testing.assert_array_equal(save(rgba), read_image(path))


@pytest.mark.parametrize(
    ("tag", "turn"),
    [(1, None), (3, "ROTATE_180"), (6, "ROTATE_270"), (8, "ROTATE_90"), (2, "FLIP_LEFT_RIGHT")],
)
def test_exif_orientation_is_applied(tmp_path, tag, turn):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    Image.fromarray(_pixels()).save(tmp_path / "a.png", exif=exif)
    expected = Image.fromarray(_pixels())
    expected = expected if turn is None else expected.transpose(Image.Transpose[turn])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(expected))


def test_image_is_writable_and_owned(tmp_path):
    Image.fromarray(_pixels()).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").flags.writeable


def _encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8)).save(
        buffer, format=format
    )
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_truncated_image_is_named_wherever_it_ends(tmp_path, format):
    data, path = _encoded(format), tmp_path / "a.jpg"
    for length in range(0, int(len(data) * 0.95), max(1, len(data) // 40)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as error:
            read_image(path)
        assert str(error.value).startswith(f"cannot read image {path}: ")
        assert str(error.value).endswith("; replace the file or take it off the list")


def test_tiff_whose_pixels_begin_at_a_fraction_is_named(tmp_path):
    """Pillow raises a TypeError for it."""
    data, path = bytearray(_encoded("TIFF")), tmp_path / "a.tif"
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    entries = [place + 2 + 12 * index for index in range(count)]
    tags = {struct.unpack_from("<H", data, at)[0]: at for at in entries}
    struct.pack_into("<HHIf", data, tags[TiffImagePlugin.STRIPOFFSETS], 273, 11, 1, 8.0)
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^cannot read image {path}: .*replace the file"):
        read_image(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_damaged_image_is_read_or_named(tmp_path, format):
    data, path, rng = _encoded(format), tmp_path / "a.jpg", np.random.default_rng(1)
    named = 0
    for _ in range(40):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), size=4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_image(path)
        except InputError:  # anything else is a bug
            named += 1
    assert named > 0


def test_missing_and_empty_images_are_named(tmp_path):
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "no.jpg")
    assert (
        str(error.value)
        == f"image not found: {tmp_path / 'no.jpg'}; check the image list and --voc12_root"
    )
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"^cannot read image .*empty\.jpg: "):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(InputError, match=r"^cannot read image "):
        read_image(tmp_path)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(_pixels()).save(tmp_path / "a.png")
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 12 * 16 // 2 - 1)
    with pytest.raises(InputError, match=r"^cannot read image .*a\.png: "):
        read_image(tmp_path / "a.png")


# ============ masks ============
def test_mask_is_read_back_and_has_the_voc_palette(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = tmp_path / "new" / "a.png"
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask(path), mask)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3)), voc_palette())
    assert read_mask_meta(path) == {}


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_mask_of_any_integer_type_is_written(tmp_path, dtype):
    mask = np.array([[0, 1], [1, 0]], dtype=dtype)
    write_mask(tmp_path / "a.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


def test_grey_mask_is_read(tmp_path):
    mask = np.array([[0, 255], [20, 1]], dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16", "CMYK"])
def test_mask_of_another_mode_is_refused(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = (
        Image.fromarray(np.zeros((4, 4), np.uint16)) if mode == "I;16" else Image.new(mode, (4, 4))
    )
    image.save(path)
    with pytest.raises(InputError) as error:
        read_mask(path)
    assert (
        str(error.value)
        == f"mask {path} has mode {mode}; expected a palette or 8-bit grey PNG of class numbers"
    )


def test_missing_and_damaged_masks_are_named(tmp_path):
    with pytest.raises(InputError) as error:
        read_mask(tmp_path / "no.png")
    assert (
        str(error.value)
        == f"mask not found: {tmp_path / 'no.png'}; check the image list and the mask folder"
    )
    path = tmp_path / "a.png"
    write_mask(path, np.random.default_rng(0).integers(0, 21, size=(30, 30)))
    data = path.read_bytes()
    for length in range(0, len(data) - 20, 40):
        path.write_bytes(data[:length])
        with pytest.raises(
            InputError,
            match=r"^cannot read mask .*a\.png: .*; replace the file or take it off the list$",
        ):
            read_mask(path)


# ============ what a mask says of itself ============
def test_meta_is_read_back_and_leaves_the_mask_alone(tmp_path):
    meta = {"stage": "seed", "thresholds": [0.3, 0.05], "none": None}
    write_mask(tmp_path / "a.png", np.ones((3, 3)), meta)
    assert read_mask_meta(tmp_path / "a.png") == meta
    assert (read_mask(tmp_path / "a.png") == 1).all()
    with pytest.raises(ValueError, match="JSON"):
        write_mask(tmp_path / "a.png", np.zeros((3, 3)), {"x": float("nan")})
    assert read_mask_meta(tmp_path / "a.png") == meta  # the failed write left the file


def test_the_content_of_a_mask_is_its_pixels_whatever_it_says_of_itself(tmp_path):
    def content(mask, meta):
        write_mask(tmp_path / "a.png", mask, meta)
        return mask_content(tmp_path / "a.png")

    mask = np.eye(9, dtype=np.uint8)
    one, other = content(mask, {"weights": "1"}), content(mask, {"weights": "other"})
    foreign = content(mask, None)
    assert one == other
    mask[3, 4] = 2
    changed = content(mask, {"weights": "1"})
    assert len({one, foreign, changed}) == 3  # a mask of ours is read as such
    whole = (tmp_path / "a.png").read_bytes()
    found = {one, foreign, changed}
    for damaged in (b"", b"no mask", whole[:-30], whole[:10], whole + b"x"):
        (tmp_path / "a.png").write_bytes(damaged)
        found.add(mask_content(tmp_path / "a.png"))
    assert len(found) == 8


@pytest.mark.parametrize("text", ["{", json.dumps([1]), "NaN", "[" * 200_000])
def test_meta_that_is_no_json_object_is_named(tmp_path, text):
    info = PngInfo()
    info.add_text(META_KEY, text)
    Image.new("P", (3, 3)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(
        InputError, match=r"^cannot read what mask .*a\.png says of itself: .*; make it again$"
    ):
        read_mask_meta(tmp_path / "a.png")


def test_meta_of_a_missing_mask_names_it(tmp_path):
    with pytest.raises(InputError) as error:
        read_mask_meta(tmp_path / "no.png")
    assert (
        str(error.value)
        == f"mask not found: {tmp_path / 'no.png'}; check the image list and the mask folder"
    )


# ============ write_image ============
@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.JPG", "a.jpeg"])
def test_written_image_is_of_the_format_its_ending_names(tmp_path, name):
    write_image(tmp_path / "new" / name, _pixels())
    with Image.open(tmp_path / "new" / name) as image:
        assert image.format == ("PNG" if name.lower().endswith("png") else "JPEG")
    assert np.abs(read_image(tmp_path / "new" / name).astype(int) - _pixels()).mean() < 8


def test_a_small_file_of_a_huge_image_is_named_where_memory_is_short(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("L", (13_000, 13_000)).save(path, optimize=False)
    assert path.stat().st_size < 200_000
    code = (
        "import resource, sys; from tool.file.images import read_image, read_mask\n"
        "from tool.errors import run_script\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096 + 2**26\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "run_script(globals()[sys.argv[1]], lambda: sys.argv[2])"
    )
    for reader in ("read_image", "read_mask"):
        command = [sys.executable, "-c", code, reader, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"error: {path} does not fit in the machine's memory; " in done.stderr


def test_a_picture_says_what_it_was_made_from(tmp_path):
    path, made = tmp_path / "a.png", {"id": "a", "made_from": "0123"}
    assert read_picture_meta(path) is None
    write_image(path, _pixels(), made)
    assert read_picture_meta(path) == made
    assert np.array_equal(read_image(path), _pixels())
    assert read_mask_meta(path) == {}  # it is no mask
    write_image(path, _pixels())
    assert read_picture_meta(path) is None
    for content in (b"", b"no picture", path.read_bytes()[:40]):
        path.write_bytes(content)
        assert read_picture_meta(path) is None
    info = PngInfo()
    info.add_text("cpn_picture", "[1]")
    Image.new("L", (2, 2)).save(path, pnginfo=info)
    assert read_picture_meta(path) is None
