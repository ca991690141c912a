"""Masks in every form in which people have them: the right class numbers, or why not."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tool.errors import InputError
from tool.file.images import write_mask
from tool.file.mask_reader import choose_mask_reader
from tool.mask_values import voc_palette

CLASSES = ("cat", "dog", "owl")
MASK = np.array([[0, 0, 1, 1], [0, 2, 2, 255], [3, 3, 0, 0]], dtype=np.uint8)
VOC = voc_palette()


def save_palette(path, indices, palette):
    image = Image.fromarray(np.asarray(indices, dtype=np.uint8))
    image.putpalette(np.asarray(palette, dtype=np.uint8).ravel().tolist())
    image.save(path)
    return path


def save(path, array):
    Image.fromarray(np.asarray(array)).save(path)
    return path


def save_grey_png(path, rows, depth):
    """A grey PNG of 1, 2 or 4 bits a pixel."""
    height, width = len(rows), len(rows[0])

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    lines = b""
    for row in rows:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    return path


def reordered(mask, colours):
    """(indices, palette) as an image tool leaves them: values in falling order of their colour."""
    values = sorted({int(v) for v in mask.ravel()}, key=lambda v: tuple(colours[v]), reverse=True)
    index = {value: place for place, value in enumerate(values)}
    return [[index[int(v)] for v in row] for row in mask], [colours[value] for value in values]


def masks(reader, paths):
    return [reader(path) for path in paths]


# ============ what is certain ============
@pytest.mark.parametrize("kind", ["ours", "voc", "short palette", "grey", "grey palette", "black"])
def test_class_numbers_are_read_as_they_are_and_nothing_is_said(tmp_path, kind):
    path = tmp_path / "a.png"
    match kind:
        case "ours":
            write_mask(path, MASK, {"stage": "x"})
        case "voc":
            save_palette(path, MASK, VOC)
        case "short palette":
            save_palette(path, MASK % 255, VOC[:4])
        case "grey":
            save(path, MASK)
        case "grey palette":
            save_palette(path, MASK, np.arange(256).repeat(3))
        case "black":
            save_palette(path, MASK, np.zeros((256, 3)))
    reader, said = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), MASK % 255 if kind == "short palette" else MASK)
    assert said == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_voc_are_read(tmp_path, mode):
    path = save(tmp_path / "a.png", np.array(Image.fromarray(VOC[MASK]).convert(mode)))
    reader, said = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), MASK)
    assert said == ["1 of 1 masks are in RGB, read by their colours"]


def test_grey_rgb_is_class_numbers(tmp_path):
    path = save(tmp_path / "a.png", MASK[:, :, None].repeat(3, axis=2))
    reader, _ = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), MASK)


def test_a_reordered_palette_of_voc_colours_is_read_by_colour(tmp_path):
    paths = [
        save_palette(tmp_path / "a.png", *reordered(MASK, VOC)),
        save_palette(tmp_path / "b.png", *reordered(MASK[:1] * 3, VOC)),
        save_palette(tmp_path / "c.png", MASK, VOC),
    ]
    reader, said = choose_mask_reader(paths, CLASSES)
    for mask, expected in zip(masks(reader, paths), (MASK, MASK[:1] * 3, MASK), strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert said == [
        "2 of 3 masks are with a palette in another order than VOC's, read by their colours"
    ]
    stored, _ = choose_mask_reader(paths, CLASSES, values="ignore")
    np.testing.assert_array_equal(stored(paths[0]), reordered(MASK, VOC)[0])


def test_colours_of_the_class_list_are_read_from_rgb_palettes_and_grey(tmp_path):
    colours = {(0, 0, 0): 0, (250, 50, 83): 1, (9, 9, 9): 2, (1, 2, 3): 3}
    table = {value: colour for colour, value in colours.items()} | {255: (224, 224, 192)}
    shown = np.array([[table[int(v)] for v in row] for row in MASK], dtype=np.uint8)
    grey = np.array([[0, 9]], dtype=np.uint8)
    paths = [
        save(tmp_path / "a.png", shown),
        save_palette(tmp_path / "b.png", *reordered(MASK, table)),
        save(tmp_path / "c.png", grey),
        save(tmp_path / "d.png", MASK),
    ]
    reader, _ = choose_mask_reader(paths, CLASSES, colours)
    for path, expected in zip(paths, (MASK, MASK, [[0, 2]], MASK), strict=True):
        np.testing.assert_array_equal(reader(path), expected)


@pytest.mark.parametrize("background", [{}, {(0, 0, 0): 0}], ids=["no background", "background"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_list_that_reorders_vocs_colours_is_read_by_them(tmp_path, background, ignored):
    colours = {(0, 128, 0): 1, (128, 0, 0): 2} | background
    indices = np.array([[0, 1, 2, 255 if ignored else 0]], np.uint8)
    palette = [tuple(colour) for colour in voc_palette().tolist()]
    paths = [
        save_palette(tmp_path / "p.png", indices, palette),
        save(tmp_path / "rgb.png", voc_palette()[indices]),
    ]
    reader, said = choose_mask_reader(paths, CLASSES, colours)
    assert [mask.tolist() for mask in masks(reader, paths)] == [
        [[0, 2, 1, 255 if ignored else 0]]
    ] * 2
    assert said == [
        "1 of 2 masks are in RGB, read by their colours",
        "1 of 2 masks are with a palette in another order than VOC's, read by their colours",
    ]
    ordered, said = choose_mask_reader(paths[:1], CLASSES, {(128, 0, 0): 1, (0, 128, 0): 2})
    assert (ordered(paths[0]).tolist(), said) == (indices.tolist(), [])


def test_a_palette_of_which_a_list_reorders_a_part_is_refused(tmp_path):
    """By index two of its classes would be swapped, by colour one is unknown."""
    palette = [tuple(colour) for colour in voc_palette().tolist()]
    path = save_palette(tmp_path / "p.png", [[0, 1, 2, 3]], palette)
    reader, _ = choose_mask_reader([path], CLASSES, {(0, 128, 0): 1, (128, 0, 0): 2})
    with pytest.raises(InputError, match=r"such as \(128, 128, 0\), and the class list has others"):
        reader(path)


@pytest.mark.parametrize("background", [{}, {(0, 0, 0): 0}], ids=["no background", "background"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_list_that_reorders_grey_levels_is_read_by_them(tmp_path, background, ignored):
    colours = {(2, 2, 2): 1, (1, 1, 1): 2} | background
    levels = np.array([[0, 1, 2, 255 if ignored else 0]], np.uint8)
    paths = [
        save(tmp_path / "grey.png", levels),
        save(tmp_path / "rgb.png", levels[..., None].repeat(3, axis=2)),
        save_palette(tmp_path / "p.png", levels, [(level,) * 3 for level in range(256)]),
    ]
    reader, _ = choose_mask_reader(paths, CLASSES, colours)
    assert [mask.tolist() for mask in masks(reader, paths)] == [
        [[0, 2, 1, 255 if ignored else 0]]
    ] * 3


def test_a_palette_of_its_own_is_read_by_index_where_all_masks_agree(tmp_path):
    palette = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    whole = np.where(MASK == 255, 0, MASK)
    paths = [
        save_palette(tmp_path / "a.png", whole, palette),
        save_palette(tmp_path / "b.png", np.where(whole == 1, 0, whole), palette),
    ]
    reader, said = choose_mask_reader(paths, CLASSES)
    np.testing.assert_array_equal(reader(paths[0]), whole)
    assert said == ["2 of 2 masks are with a palette in other colours, read by index"]


@pytest.mark.parametrize("scale", [1, 257])
def test_16_bit_numbers(tmp_path, scale):
    values = MASK.astype(np.uint16) * scale
    path = save(tmp_path / "a.png", values)
    reader, said = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), MASK)
    assert said == ["1 of 1 masks are of 16 bits, read as class numbers"]


def test_16_bit_white_is_ignored_beside_class_numbers(tmp_path):
    path = save(tmp_path / "a.png", np.where(MASK == 255, 65535, MASK).astype(np.uint16))
    reader, _ = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), MASK)


@pytest.mark.parametrize("depth", [2, 4])
def test_2_and_4_bits_are_class_numbers(tmp_path, depth):
    path = save_grey_png(tmp_path / "a.png", [[0, 1, 2], [2, 0, 0]], depth)
    reader, _ = choose_mask_reader([path], CLASSES)
    np.testing.assert_array_equal(reader(path), [[0, 1, 2], [2, 0, 0]])


# ============ one class ============
OBJECT = np.array([[0, 1], [0, 1], [1, 1]], dtype=bool)


@pytest.mark.parametrize("kind", ["grey", "rgb", "1-bit", "2-bit", "16-bit", "palette"])
def test_black_and_white_masks_of_one_class(tmp_path, kind):
    path, empty = tmp_path / "a.png", save(tmp_path / "b.png", np.zeros((3, 2), np.uint8))
    white = (OBJECT * 255).astype(np.uint8)
    match kind:
        case "grey":
            save(path, white)
        case "rgb":
            save(path, white[:, :, None].repeat(3, axis=2))
        case "1-bit":
            save(path, OBJECT)
        case "2-bit":
            save_grey_png(path, (OBJECT * 3).tolist(), 2)
        case "16-bit":
            save(path, (OBJECT * 65535).astype(np.uint16))
        case "palette":
            save_palette(path, white, np.arange(256).repeat(3))
    reader, said = choose_mask_reader([empty, path], ["crack"])
    np.testing.assert_array_equal(reader(path), OBJECT)
    np.testing.assert_array_equal(reader(empty), np.zeros((3, 2)))
    assert said[-1] == (
        "0 and 255 alone: 255 is read as crack; give --mask_values ignore if it is ignored"
    )
    ignoring, said = choose_mask_reader([empty, path], ["crack"], values="ignore")
    np.testing.assert_array_equal(ignoring(path), OBJECT * 255)
    assert said == []
    binary, _ = choose_mask_reader([empty, path], ["crack"], values="binary")
    np.testing.assert_array_equal(binary(path), OBJECT)


def test_one_mask_with_the_value_1_makes_255_ignored_in_all(tmp_path):
    paths = [save(tmp_path / "a.png", np.array([[0, 255]], np.uint8))]
    paths.append(save(tmp_path / "b.png", np.array([[1, 255]], np.uint8)))
    reader, said = choose_mask_reader(paths, ["crack"])
    assert [mask.tolist() for mask in masks(reader, paths)] == [[[0, 255]], [[1, 255]]]
    assert said == []


@pytest.mark.parametrize("values", ["auto", "binary", "ignore"])
def test_our_masks_have_no_say_in_what_255_is_in_others(tmp_path, values):
    paths = [tmp_path / "ours.png", save(tmp_path / "b.png", np.array([[0, 255]], np.uint8))]
    write_mask(paths[0], np.array([[0, 1, 255]], np.uint8), {"stage": "irn_mask"})
    reader, said = choose_mask_reader(paths, ["crack"], values=values)
    other = 255 if values == "ignore" else 1
    assert [mask.tolist() for mask in masks(reader, paths)] == [[[0, 1, 255]], [[0, other]]]
    assert ("ignored in 1 masks of this repository" in "".join(said)) == (values != "ignore")
    alone, said = choose_mask_reader(paths[:1], ["crack"])
    assert (alone(paths[0]).tolist(), said) == ([[0, 1, 255]], [])


def test_several_classes_leave_255_ignored(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 255]], np.uint8))
    reader, said = choose_mask_reader([path], CLASSES)
    assert reader(path).tolist() == [[0, 255]]
    assert said == []


# ============ what is not certain ============
@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (
            lambda p: save(p, VOC[[[9]]]),
            "auto",
            "has the colour (192, 0, 0), none of VOC's for",
        ),
        (
            lambda p: save_palette(p, [[0, 1]], [(0, 0, 255), (0, 0, 0)]),
            "auto",
            "has a palette of its own, such as (0, 0, 255), and the masks of the list do not agree",
        ),
        (
            lambda p: save_palette(p, [[0, 1, 2]], [(0, 0, 0), (0, 0, 0), (128, 0, 0)]),
            "auto",
            "has a palette of its own, two of them alike, and the masks of the list",
        ),
        (lambda p: save(p, OBJECT), "auto", "has 1 bits a pixel, whose white can be a class or"),
        (lambda p: save_grey_png(p, [[3, 1]], 2), "auto", "has 2 bits a pixel, whose white can"),
        (
            lambda p: save(p, np.array([[0, 300]], np.uint16)),
            "auto",
            "of 16 bits has the value 300, no class number; save the class numbers",
        ),
        (
            lambda p: Image.fromarray(np.full((2, 2, 4), 9, np.uint8)).save(p),
            "auto",
            "has transparent pixels, whose class is not certain",
        ),
        (lambda p: Image.new("CMYK", (2, 2)).save(p, "TIFF"), "auto", "has mode CMYK; save the"),
        (lambda p: p.write_bytes(b"x"), "auto", "cannot read mask"),
        (lambda p: None, "auto", "mask not found: "),
    ],
)
def test_errors_name_the_mask_and_what_to_do(tmp_path, make, values, message):
    path = tmp_path / "a.png"
    make(path)
    reader, _ = choose_mask_reader([path], CLASSES, values=values)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        reader(path)
    assert str(path) in str(error.value)


def test_grey_that_reads_in_two_ways_is_refused(tmp_path):
    many = tuple(f"c{i}" for i in range(200))
    path = save(tmp_path / "a.png", np.full((2, 2, 3), 128, np.uint8))  # class 7, or class 128
    reader, _ = choose_mask_reader([path], many)
    with pytest.raises(InputError, match="can be read as VOC's colours and as class numbers"):
        reader(path)


def test_palettes_that_disagree_are_refused(tmp_path):
    paths = [
        save_palette(tmp_path / "a.png", [[0, 1]], [(0, 0, 0), (255, 0, 0)]),
        save_palette(tmp_path / "b.png", [[0, 1]], [(0, 0, 0), (0, 255, 0)]),
    ]
    reader, said = choose_mask_reader(paths, CLASSES)
    assert said == []
    unasked, _ = choose_mask_reader(paths, CLASSES, values=None)
    with pytest.raises(InputError, match=r"or save class numbers as 8-bit grey$"):
        masks(unasked, paths)
    with pytest.raises(InputError, match=re.escape("give --mask_values ignore if its indices")):
        reader(paths[0])
    stored, _ = choose_mask_reader(paths, CLASSES, values="ignore")
    assert stored(paths[1]).tolist() == [[0, 1]]


def test_binary_is_for_one_class_and_two_values(tmp_path):
    path = save(tmp_path / "a.png", np.array([[1, 255]], np.uint8))
    with pytest.raises(InputError, match="--mask_values binary is for one class, the class list"):
        choose_mask_reader([path], CLASSES, values="binary")
    reader, _ = choose_mask_reader([path], ["crack"], values="binary")
    with pytest.raises(InputError, match="has 1 beside 255; masks of --mask_values binary have 0"):
        reader(path)


def test_a_mask_too_large_for_the_memory_is_named(tmp_path, monkeypatch):
    def load(_image: Image.Image) -> None:
        raise MemoryError

    path = tmp_path / "a.png"
    write_mask(path, np.zeros((4, 4)))
    reader, _ = choose_mask_reader([path], ("cat",))
    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(InputError, match=r"a\.png does not fit in the machine's memory; "):
        reader(path)
