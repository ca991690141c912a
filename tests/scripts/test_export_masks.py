"""Masks to COCO, Labelme and colour PNGs, and back again to the same masks."""

import base64
import csv
import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw
from pycocotools.coco import COCO

import export_masks
from tool.errors import InputError
from tool.file.images import read_image, read_mask, write_image, write_mask
from tool.mask_values import voc_palette
from voc12 import coco

CLASSES = ("cat", "dog", "owl")
SIZES = ((30, 41), (25, 25), (33, 20))


@pytest.fixture
def masks(tmp_path):
    """Three masks of random parts with holes, one of background alone, and their photographs; the
    masks carry their class names.
    """
    rng = np.random.default_rng(0)
    found = {}
    for number, size in enumerate(SIZES):
        mask = np.kron(rng.integers(0, 4, (11, 14)), np.ones((3, 3), np.uint8))[
            : size[0], : size[1]
        ]
        found[f"im{number}"] = mask.astype(np.uint8)
    found["none"] = np.zeros((8, 9), dtype=np.uint8)
    for name, mask in found.items():
        write_image(tmp_path / "photos" / f"{name}.png", np.stack([mask] * 3, axis=2))
        write_mask(tmp_path / "masks" / f"{name}.png", mask, {"classes": list(CLASSES)})
    return found


def run(tmp_path, *flags, images=True):
    words = [str(tmp_path / "masks"), "--num_workers", "0", *map(str, flags)]
    if images:
        words += ["--images", str(tmp_path / "photos")]
    export_masks.main(export_masks.parse_args(words))


@pytest.mark.parametrize("shape", ["rle", "polygon"])
@pytest.mark.parametrize("each", ["part", "class"])
def test_coco_and_back(tmp_path, masks, each, shape):
    flags = ["--each", each, "--shape", shape]
    run(tmp_path, "--to", "coco", "--out", tmp_path / "masks.json", *flags)
    words = ["--instances", "masks.json", "--images", "photos", "--out", "back"]
    words = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    coco.main(coco.parse_args([*words, "--num_workers", "0"]))
    for name, mask in masks.items():
        back = read_mask(tmp_path / "back" / "SegmentationClassAug" / f"{name}.png")
        np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("shape", ["rle", "polygon"])
@pytest.mark.parametrize(("each", "areas"), [("part", [4, 6, 4]), ("class", [10, 4])])
def test_specks_are_left_out(tmp_path, capsys, shape, each, areas):
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[0, 0] = mask[9, 19] = mask[4, 4] = 1  # three specks of one class, one of another
    mask[0:2, 5:7], mask[5:7, 5:8], mask[0:2, 12:14], mask[9, 0:3] = 1, 1, 2, 2
    write_mask(tmp_path / "masks" / "a.png", mask, {"classes": ["cat", "dog"]})
    write_image(tmp_path / "photos" / "a.png", np.zeros((10, 20, 3), dtype=np.uint8))
    flags = ["--each", each, "--shape", shape, "--min_area", "0.02"]  # four pixels
    run(tmp_path, "--to", "coco", "--out", tmp_path / "masks.json", *flags)
    assert "4 parts under 0.02 of their photographs are left out" in capsys.readouterr().out
    found = json.loads((tmp_path / "masks.json").read_text())["annotations"]
    assert [item["area"] for item in found] == areas


@pytest.mark.parametrize("shape", ["rle", "polygon"])
@pytest.mark.parametrize("each", ["part", "class"])
def test_pycocotools_reads_the_same(tmp_path, masks, each, shape):
    flags = ["--each", each, "--shape", shape]
    run(tmp_path, "--to", "coco", "--out", tmp_path / "masks.json", *flags)
    api = COCO(str(tmp_path / "masks.json"))
    assert [item["name"] for item in api.loadCats(api.getCatIds())] == list(CLASSES)
    assert len(api.imgs) == 4
    for item in api.imgs.values():
        mask = masks[item["file_name"].removesuffix(".png")]
        drawn = np.zeros_like(mask)
        annotations = api.imgToAnns[item["id"]]
        for annotation in annotations:
            layer = api.annToMask(annotation).astype(bool)
            assert not drawn[layer].any()
            drawn[layer] = annotation["category_id"]
            assert annotation["area"] == layer.sum()
            rows, columns = np.nonzero(layer)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        np.testing.assert_array_equal(drawn, mask)
        if each == "class":
            assert len(annotations) == len(np.unique(mask[mask > 0]))


def labelme_mask(path):
    """The mask of a Labelme file as labelme.utils.shapes_to_label draws it."""
    content = json.loads(path.read_text())
    drawn = np.zeros((content["imageHeight"], content["imageWidth"]), dtype=np.uint8)
    for shape in content["shapes"]:
        value = CLASSES.index(shape["label"]) + 1
        if shape["shape_type"] == "mask":
            (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
            part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            drawn[y1 : y2 + 1, x1 : x2 + 1][part.astype(bool)] = value
        else:
            layer = Image.fromarray(np.zeros_like(drawn))
            points = [tuple(point) for point in shape["points"]]
            ImageDraw.Draw(layer).polygon(points, outline=1, fill=1)
            drawn[np.asarray(layer).astype(bool)] = value
    return drawn


@pytest.mark.parametrize("each", ["part", "class"])
def test_labelme_masks_are_exact(tmp_path, masks, each):
    run(tmp_path, "--to", "labelme", "--out", tmp_path / "labelme", "--each", each)
    for name, mask in masks.items():
        path = tmp_path / "labelme" / f"{name}.json"
        np.testing.assert_array_equal(labelme_mask(path), mask)
        content = json.loads(path.read_text())
        photograph = path.parent / content["imagePath"]
        np.testing.assert_array_equal(read_image(photograph)[..., 0], mask)
        assert content["imageData"] is None
        groups = [shape["group_id"] for shape in content["shapes"]]
        assert groups == list(range(len(groups)))


def test_labelme_polygon_stays_within_a_pixel(tmp_path):
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[4:12, 5:16] = 2
    write_mask(tmp_path / "masks" / "a.png", mask, {"classes": list(CLASSES)})
    write_image(tmp_path / "photos" / "a.jpg", np.zeros((20, 20, 3), np.uint8))
    run(tmp_path, "--to", "labelme", "--out", tmp_path / "labelme", "--shape", "polygon")
    (shape,) = json.loads((tmp_path / "labelme" / "a.json").read_text())["shapes"]
    assert sorted(shape["points"]) == [[5, 4], [5, 12], [16, 4], [16, 12]]
    drawn = labelme_mask(tmp_path / "labelme" / "a.json")
    mask[4:13, 5:17] = 2
    np.testing.assert_array_equal(drawn, mask)


def test_colour_pngs_and_legend(tmp_path, masks):
    colours = tmp_path / "colours.txt"
    colours.write_text("dog #ff8000\n")
    flags = ["--to", "png", "--out", tmp_path / "png", "--colours", colours]
    run(tmp_path, *flags, images=False)
    palette = voc_palette()
    palette[2] = (255, 128, 0)
    for name, mask in masks.items():
        np.testing.assert_array_equal(read_image(tmp_path / "png" / f"{name}.png"), palette[mask])
    with (tmp_path / "png" / "legend.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[1:3] == [["0", "background", "0", "0", "0"], ["1", "cat", "128", "0", "0"]]
    assert rows[3] == ["2", "dog", "255", "128", "0"]
    assert read_image(tmp_path / "png" / "legend.png").shape[0] > 90


def test_own_class_names(tmp_path, masks):
    (tmp_path / "names.txt").write_text("tiger\nwolf\neagle\n")
    flags = ["--classes", tmp_path / "names.txt", "--out", tmp_path / "masks.json"]
    run(tmp_path, "--to", "coco", *flags)
    content = json.loads((tmp_path / "masks.json").read_text())
    assert [item["name"] for item in content["categories"]] == ["tiger", "wolf", "eagle"]


def test_masks_of_a_data_set_are_of_its_classes(tmp_path, pets_root):
    words = [str(pets_root / "SegmentationClassAug"), "--to", "coco", "--num_workers", "2"]
    export_masks.main(export_masks.parse_args([*words, "--out", str(tmp_path / "pets.json")]))
    content = json.loads((tmp_path / "pets.json").read_text())
    assert [item["name"] for item in content["categories"]] == ["cat", "dog", "owl"]
    assert content["images"][0]["file_name"] == "2007_000000.jpg"


def save_picture(path, pixels, palette=None):
    """A mask as another program leaves it."""
    image = Image.fromarray(np.asarray(pixels))
    if palette is not None:
        image.putpalette(np.asarray(palette, dtype=np.uint8).ravel().tolist())
    path.parent.mkdir(exist_ok=True)
    image.save(path)


FOREIGN = np.array([[0, 1, 1], [2, 2, 3]], dtype=np.uint8)


@pytest.mark.parametrize("form", ["order", "quantized", "rgb", "16-bit", "named", "colours"])
@pytest.mark.parametrize("to", ["coco", "labelme", "png"])
def test_masks_of_other_tools_are_read_as_everywhere(tmp_path, form, to):
    """In two masks: what a palette means is chosen for all of them."""
    palette, table = voc_palette(), voc_palette()
    lines = [f"{name}\n" for name in CLASSES]
    if form in ("named", "colours"):  # where the class list has VOC's colours in another order
        table[1:4] = table[[3, 1, 2]] if form == "named" else [[9, 8, 7], [200, 1, 2], [0, 0, 50]]
        lines = [
            f"{name}:{','.join(map(str, table[value].tolist()))}::\n"
            for value, name in enumerate(CLASSES, start=1)
        ]
    (tmp_path / "names.txt").write_text("".join(lines))
    for name, mask in (("a", FOREIGN), ("b", FOREIGN[:, ::-1].copy())):
        path = tmp_path / "masks" / f"{name}.png"
        match form:
            case "order":
                order = np.array([2, 0, 3, 1])  # index -> value
                save_picture(path, np.argsort(order)[mask].astype(np.uint8), palette[order])
            case "quantized":
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(palette[mask]).quantize().save(path)
            case "16-bit":
                save_picture(path, mask.astype(np.uint16))
            case "named":
                save_picture(path, np.array([0, 3, 1, 2], np.uint8)[mask], palette)
            case _:
                save_picture(path, table[mask])
        save_picture(tmp_path / "photos" / f"{name}.jpg", np.zeros((2, 3, 3), np.uint8))
    out = tmp_path / "out"
    run(
        tmp_path,
        *("--to", to, "--classes", tmp_path / "names.txt", "--out", out),
        images=to != "png",
    )
    for name, mask in (("a", FOREIGN), ("b", FOREIGN[:, ::-1])):
        match to:
            case "coco":
                made = COCO(str(out))
                found = np.zeros_like(mask)
                (image,) = [one for one in made.imgs.values() if one["file_name"] == f"{name}.jpg"]
                for one in made.imgToAnns[image["id"]]:
                    found[made.annToMask(one).astype(bool)] = one["category_id"]
            case "labelme":
                found = labelme_mask(out / f"{name}.json")
            case "png":
                found = read_image(out / f"{name}.png")
                mask = palette[mask]
        np.testing.assert_array_equal(found, mask)


def test_colours_of_the_data_sets_own_list_count(tmp_path):
    """CVAT's layout: no class list but labelmap.txt beside the masks' folder."""
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:0,128,0::\ndog:128,0,0::\n")
    save_picture(tmp_path / "masks/a.png", voc_palette()[np.array([[0, 1, 2]])])
    run(tmp_path, "--to", "png", "--out", tmp_path / "png", images=False)
    np.testing.assert_array_equal(read_image(tmp_path / "png/a.png"), voc_palette()[[[0, 2, 1]]])


def test_white_of_one_class(tmp_path, capsys):
    (tmp_path / "names.txt").write_text("crack\n")
    flags = ("--to", "coco", "--classes", tmp_path / "names.txt", "--out", tmp_path / "m.json")
    save_picture(tmp_path / "photos/a.jpg", np.zeros((2, 3, 3), np.uint8))
    save_picture(tmp_path / "masks/a.png", np.array([[0, 255, 255], [0, 0, 255]], np.uint8))

    def areas(*more):
        run(tmp_path, *flags, "--overwrite", *more)
        return [one["area"] for one in json.loads((tmp_path / "m.json").read_text())["annotations"]]

    assert areas() == areas("--mask_values", "binary") == [3]
    assert "0 and 255 alone: 255 is read as crack; give --mask_values" in capsys.readouterr().out
    assert areas("--mask_values", "ignore") == []
    write_mask(tmp_path / "masks/a.png", np.array([[0, 255, 255], [0, 0, 255]]), {"stage": "x"})
    assert areas() == []  # in our own 255 is ignored


def test_own_masks_stay_by_index(tmp_path, masks):
    """Whatever colours --classes gives their names."""
    lines = ("cat:0,128,0::", "dog:128,0,0::", "owl:128,128,0::")
    (tmp_path / "labelmap.txt").write_text("\n".join(lines))
    flags = ("--classes", tmp_path / "labelmap.txt", "--out", tmp_path / "png")
    run(tmp_path, "--to", "png", *flags, images=False)
    for name, mask in masks.items():
        found = read_image(tmp_path / "png" / f"{name}.png")
        np.testing.assert_array_equal(found, voc_palette()[mask])


@pytest.mark.parametrize(
    ("to", "fault"),
    [("labelme", "value"), ("labelme", "size"), ("png", "value")],
)
def test_a_fault_of_the_last_mask_is_said_before_anything_is_written(tmp_path, masks, to, fault):
    last = tmp_path / "masks/none.png"
    right = last.read_bytes()
    match fault:
        case "value":
            write_mask(last, np.full((8, 9), 9), {"classes": list(CLASSES)})
        case "size":
            write_mask(last, np.zeros((9, 8)), {"classes": list(CLASSES)})
    flags = ("--to", to, "--out", tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.png"):
        run(tmp_path, *flags, images=to != "png")
    assert not (tmp_path / "out").exists()
    last.write_bytes(right)
    run(tmp_path, *flags, images=to != "png")


def test_ignored_pixels_are_left_out_and_said(tmp_path, masks, capsys):
    masks["im0"][:3] = 255
    write_mask(tmp_path / "masks" / "im0.png", masks["im0"], {"classes": list(CLASSES)})
    run(tmp_path, "--to", "coco", "--out", tmp_path / "masks.json")
    assert "1 of 4 masks have ignored pixels (255), which are left out" in capsys.readouterr().out
    content = json.loads((tmp_path / "masks.json").read_text())
    area = sum(item["area"] for item in content["annotations"] if item["image_id"] == 1)
    assert area == ((masks["im0"] > 0) & (masks["im0"] < 255)).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("value", "has value 9, there are 3 classes"),
        ("no photograph", r"no photograph for mask .*im0\.png"),
        ("size", r"im0\.png is of size \[30, 41\], its photograph"),
        ("stored", r"im0\.png is of size .* follows the stored pixels, .* --exif apply"),
        ("lists", "of several class lists"),
        ("no names", "carry no class names"),
        ("no masks", r"has no mask <id>\.png"),
        ("there", "is there already"),
    ],
)
def test_refused(tmp_path, masks, change, message):
    first, out = tmp_path / "masks" / "im0.png", tmp_path / "masks.json"
    match change:
        case "value":
            write_mask(first, np.full(SIZES[0], 9), {"classes": list(CLASSES)})
        case "no photograph":
            (tmp_path / "photos" / "im0.png").unlink()
        case "size":
            write_image(tmp_path / "photos" / "im0.png", np.zeros((5, 6, 3), np.uint8))
        case "stored":
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = 6
            photo = Image.new("RGB", SIZES[0][::-1])
            photo.save(tmp_path / "photos" / "im0.png", exif=exif)
        case "lists":
            write_mask(first, masks["im0"], {"classes": ["other"]})
        case "no names":
            for name, mask in masks.items():
                write_mask(tmp_path / "masks" / f"{name}.png", mask)
        case "no masks":
            for name in masks:
                (tmp_path / "masks" / f"{name}.png").unlink()
        case "there":
            out.write_text("mine")
    with pytest.raises(InputError, match=message):
        run(tmp_path, "--to", "coco", "--out", out)
    assert not out.exists() or out.read_text() == "mine"


@pytest.mark.parametrize(
    "flags",
    [
        ("--to", "png", "--each", "class"),
        ("--to", "png", "--shape", "rle"),
        ("--to", "png", "--images", "photos"),
        ("--to", "coco", "--colours", "colours.txt"),
    ],
)
def test_flags_that_nothing_would_read_are_refused(tmp_path, masks, flags):
    with pytest.raises(InputError, match=f"{flags[2]} is not for --to {flags[1]}"):
        run(tmp_path, *flags, "--out", tmp_path / "out", images=False)


def test_masks_in_folders_are_of_the_photographs_there(tmp_path):
    """And where two photographs of one name differ by suffix, their masks have it."""
    for number, name in enumerate(("x.jpg.png", "x.png.png", "trip a/x.png"), start=1):
        write_mask(tmp_path / "masks" / name, np.full((6, 8), number), {"classes": list(CLASSES)})
    for name in ("x.jpg", "x.png", "trip a/x.JPG"):
        (tmp_path / "photos/trip a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "photos" / name)
    run(tmp_path, "--to", "coco", "--out", tmp_path / "m.json")
    made = COCO(str(tmp_path / "m.json"))
    names = {one["id"]: one["file_name"] for one in made.imgs.values()}
    found = {names[one["image_id"]]: one["category_id"] for one in made.anns.values()}
    assert found == {"x.jpg": 1, "x.png": 2, "trip a/x.JPG": 3}
    run(tmp_path, "--to", "labelme", "--out", tmp_path / "lm")
    path = tmp_path / "lm" / "trip a" / "x.json"
    image = path.parent / json.loads(path.read_text())["imagePath"]
    assert image.resolve() == (tmp_path / "photos/trip a/x.JPG").resolve()
    run(tmp_path, "--to", "png", "--out", tmp_path / "png", images=False)
    assert (tmp_path / "png/trip a/x.png").is_file()


def test_the_photograph_that_a_mask_says_it_is_of(tmp_path):
    write_mask(tmp_path / "masks/x.png", np.ones((4, 5)), {"classes": ["cat"]})
    for name, size in (("x.jpg", (5, 4)), ("x.png", (5, 4)), ("c.Jpg", (6, 4))):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "photos" / name, "JPEG")
    with pytest.raises(InputError, match=r"may be of .*x\.jpg or .*x\.png; call it x\.jpg\.png or"):
        run(tmp_path, "--to", "coco", "--out", tmp_path / "a.json")
    for said in ("x.png", "../photos/x.png", "gone.png"):
        meta = {"classes": ["cat"], "photograph": said}
        write_mask(tmp_path / "masks/x.png", np.ones((4, 5)), meta)
        if said == "x.png":
            write_mask(tmp_path / "masks/c.png", np.ones((4, 6)), {"classes": ["cat"]})
            run(tmp_path, "--to", "coco", "--out", tmp_path / "a.json")
            names = [
                one["file_name"] for one in json.loads((tmp_path / "a.json").read_text())["images"]
            ]
            assert names == ["c.Jpg", "x.png"]
            continue
        with pytest.raises(InputError, match="may be of"):  # of its name again
            run(tmp_path, "--to", "coco", "--out", tmp_path / "b.json")


def test_masks_beside_their_photographs_and_with_suffixes_in_capitals(tmp_path):
    write_mask(tmp_path / "masks/x.png", np.ones((4, 5)), {"classes": ["cat"]})
    (tmp_path / "masks/x.png").rename(tmp_path / "masks/x.PNG")
    Image.new("RGB", (5, 4)).save(tmp_path / "masks/x.jpg")
    words = [str(tmp_path / "masks"), "--images", str(tmp_path / "masks"), "--num_workers", "0"]
    words += ["--to", "coco", "--out", str(tmp_path / "a.json")]
    export_masks.main(export_masks.parse_args(words))
    (image,) = json.loads((tmp_path / "a.json").read_text())["images"]
    assert image["file_name"] == "x.jpg"
    write_mask(tmp_path / "masks/x.jpg.png", np.ones((4, 5)), {"classes": ["cat"]})
    with pytest.raises(
        InputError, match=r"x\.PNG and .*x\.jpg\.png are both masks of .*x\.jpg; leave"
    ):
        export_masks.main(export_masks.parse_args([*words, "--overwrite"]))
