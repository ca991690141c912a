"""COCO's instances JSON into VOC layout: masks by hand, exports as tools write them, refusals that
leave nothing, and runs that were cut off.
"""

import json
import os

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tool.errors import InputError
from tool.file.images import read_mask
from voc12 import coco
from voc12.class_list import load_class_list
from voc12.constants import IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.labels import load_labels
from voc12.lists import load_ids

HEIGHT, WIDTH = 40, 60


def square(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(image, category, segmentation, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation} | more


class Export:
    """An instances JSON and its photographs, to be changed before it is converted."""

    def __init__(self, folder, names=("a.jpg", "b.jpg"), instances="instances.json"):
        self.folder, self.instances = folder, instances
        self.out = folder / "out"
        self.content = {
            "images": [
                {"id": number + 5, "file_name": name, "height": HEIGHT, "width": WIDTH}
                for number, name in enumerate(names)
            ],
            "categories": [{"id": 30, "name": "owl"}, {"id": 4, "name": "cat"}],
            "annotations": [annotation(5, 30, square(0, 0, 20, 20))],
        }
        for name in names:
            self.photograph(name)

    def photograph(self, name, size=(WIDTH, HEIGHT), **save):
        path = self.folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 90, 90)).save(path, **save)

    def run(self, *flags):
        path = self.folder / self.instances
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content))
        words = ["--instances", path, "--images", self.folder / "photos", "--out", self.out]
        coco.main(coco.parse_args([str(word) for word in (*words, "--num_workers", 0, *flags)]))

    def mask(self, name):
        return read_mask(self.out / MASK_DIR / f"{name}.png")

    def labels(self, ids):
        return load_labels(self.out, ids, load_class_list(self.out), "npy")


def test_layout_labels_and_values_by_rank(tmp_path):
    export = Export(tmp_path, ("a.jpg", "b.JPEG", "c.png"))
    export.content["annotations"] += [
        annotation(6, 4, square(5, 5, 15, 15)),
        annotation(6, 30, square(20, 20, 30, 25)),
    ]
    export.run()
    assert load_class_list(export.out) == ("cat", "owl")
    assert load_ids(export.out, "train") == load_ids(export.out, "train_aug") == ["a", "b"]
    assert load_ids(export.out, "train_all") == ["a", "b", "c"]
    np.testing.assert_array_equal(export.labels(["a", "b", "c"]), [[0, 1], [1, 1], [0, 0]])
    expected = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    expected[0, :20, :20] = 2
    expected[1, 5:15, 5:15] = 1
    expected[1, 20:25, 20:30] = 2
    for name, mask in zip("abc", expected, strict=True):
        np.testing.assert_array_equal(export.mask(name), mask)
    links = sorted((export.out / IMAGE_DIR).iterdir())
    assert [path.name for path in links] == ["a.jpg", "b.jpeg", "c.png"]
    assert all(path.is_symlink() for path in links)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instances.json", "out", "photos"]


def test_names_with_spaces_of_all_kinds(tmp_path, capsys):
    names = (
        "Screenshot at 3.00.00\u202fPM.png",
        "写真\u3000一.jpg",
        "a\xa0b\ue000.jpg",
        "c\u200dd.jpg",
    )
    export = Export(tmp_path, names)
    export.content["categories"][0]["name"] = "barn\xa0owl"
    export.run()
    ids = ["Screenshot_at_3.00.00_PM", "写真_一", "a_b_", "c\u200dd"]
    assert load_ids(export.out, "train_all") == ids
    assert load_class_list(export.out) == ("cat", "barn owl")
    assert "class 'barn\xa0owl' is called 'barn owl'" in capsys.readouterr().out
    assert (export.mask(ids[0])[:20, :20] == 2).all()
    assert export.labels(ids).tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("flip", [False, True])
def test_smaller_lies_over_larger_and_of_equals_the_first(tmp_path, flip):
    export = Export(tmp_path)
    objects = [
        annotation(5, 30, square(0, 0, 40, 30)),
        annotation(5, 4, square(10, 10, 20, 20)),
        annotation(5, 30, square(15, 10, 25, 20)),
    ]
    export.content["annotations"] = objects[::-1] if flip else objects
    export.run()
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[:30, :40] = 2
    expected[10:20, 10 : 15 if flip else 20] = 1
    np.testing.assert_array_equal(export.mask("a"), expected)


@pytest.mark.parametrize(("crowd", "value"), [("class", 1), ("ignore", 255)])
def test_crowds(tmp_path, crowd, value):
    export = Export(tmp_path)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[3:9, 30:50] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    rle = {"size": [HEIGHT, WIDTH], "counts": packed}
    export.content["annotations"].append(annotation(5, 4, rle, iscrowd=1))
    export.run("--crowd", crowd)
    mask *= value
    mask[:20, :20] = 2
    np.testing.assert_array_equal(export.mask("a"), mask)
    np.testing.assert_array_equal(export.labels(["a"]), [[1, 1]])


@pytest.mark.parametrize(
    ("said", "value"),
    [(0, 1), (1, 255), (False, 1), (True, 255), (None, 1), (1.0, 255)]
    + [("0", 1), ("1", 255), ("false", 1), ("True", 255), ("2", 0), (2, 0), ("", 0), ([], 0)],
)
def test_what_says_that_an_annotation_is_of_a_crowd(tmp_path, said, value):
    export = Export(tmp_path)
    export.content["annotations"] = [annotation(5, 4, square(0, 0, 20, 20), iscrowd=said)]
    if not value:
        with pytest.raises(
            InputError, match=r"annotation 1 of 'a\.jpg': its 'iscrowd' is .*; give"
        ):
            export.run("--crowd", "ignore")
        return
    export.run("--crowd", "ignore")
    assert set(np.unique(export.mask("a"))) == {0, value}


def test_polygons_in_shares_of_the_sides_are_refused(tmp_path):
    export = Export(tmp_path)
    shares = [[0.1, 0.1, 0.5, 0.1, 1.002, 0.6]]
    export.content["annotations"] = [annotation(5, 4, shares), annotation(6, 4, None, bbox=[0] * 4)]
    with pytest.raises(InputError, match="all coordinates of its polygons are between 0 and 1, sh"):
        export.run()
    export.content["annotations"].append(annotation(5, 4, square(0, 0, 20, 20)))
    export.run()  # one of a pixel beside others
    assert (export.mask("a")[:20, :20] == 1).all()


@pytest.mark.parametrize("empty", [[[3, 3, 9, 9]], [3, 3, 9, 9], [[3, 3, 9, 9, 3, 3]]])
def test_segmentations_without_a_pixel_are_counted_and_refused_where_all_are(
    tmp_path, capsys, empty
):
    export = Export(tmp_path)
    export.content["annotations"] = [annotation(5, 4, empty), annotation(6, 4, empty)]
    for _ in range(2):  # the first leaves nothing that would be taken for finished
        with pytest.raises(
            InputError, match="none of its 2 segmentations draws a pixel; a polygon"
        ):
            export.run()
    export.content["annotations"].append(annotation(5, 4, square(0, 0, 20, 20)))
    export.run()
    assert (export.mask("a")[:20, :20] == 1).all()
    assert "2 of 3 segmentations draw no pixel" in capsys.readouterr().out


def test_box_without_segmentation_is_ignored_below_what_is_drawn(tmp_path, capsys):
    export = Export(tmp_path)
    box = {"bbox": [10, 10, 5, 30]}
    export.content["annotations"] += [annotation(5, 4, [], **box), annotation(6, 4, None, **box)]
    export.run()
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[10:40, 10:15] = 255
    np.testing.assert_array_equal(export.mask("b"), expected)
    expected[:20, :20] = 2
    np.testing.assert_array_equal(export.mask("a"), expected)
    np.testing.assert_array_equal(export.labels(["a", "b"]), [[1, 1], [1, 0]])
    assert "2 of 3 annotations have no segmentation, only a box" in capsys.readouterr().out


def test_boxes_alone_give_labels_and_no_masks(tmp_path):
    export = Export(tmp_path)
    export.content["annotations"] = [{"image_id": 5, "category_id": 4, "bbox": [1, 1, 5, 5]}]
    export.run()
    assert not (export.out / MASK_DIR).exists()
    np.testing.assert_array_equal(export.labels(["a", "b"]), [[1, 0], [0, 0]])
    assert (export.out / IMAGE_DIR / "b.jpg").is_file()


# ============ exports of tools ============
def test_roboflow(tmp_path, capsys):
    """Class 0 is the project's name, above the classes; a folder a split; suffixes inside names."""
    export = Export(tmp_path, ("x_jpg.rf.1a2b.jpg", "y.jpg.rf.jpg"), "valid/_annotations.coco.json")
    export.content["categories"] = [
        {"id": 0, "name": "cats", "supercategory": "none"},
        {"id": 1, "name": "tabby", "supercategory": "cats"},
        {"id": 2, "name": "cats", "supercategory": "cats"},
    ]
    export.content["annotations"] = [annotation(5, 2, square(0, 0, 20, 20))]
    export.run()
    assert load_class_list(export.out) == ("tabby", "cats")
    assert load_ids(export.out, "val") == ["x_jpg.rf.1a2b"]
    assert not (export.out / LIST_DIR / "train_aug.txt").exists()
    assert export.mask("x_jpg.rf.1a2b").max() == 2
    assert "left out: category 0, 'cats', which stands above" in capsys.readouterr().out


def test_category_ids_from_zero_are_classes(tmp_path):
    """As Label Studio counts; a class without annotations stays one."""
    export = Export(tmp_path, ("images\\1\\a.jpg", "/data/local-files/?d=photos/b c.jpg"))
    export.photograph("a.jpg")
    export.photograph("photos/b c.jpg")
    export.content["categories"] = [{"id": 1, "name": "owl"}, {"id": 0, "name": "cat"}]
    export.content["annotations"] = [annotation("5", "1", square(0, 0, 20, 20))]
    export.run()
    assert load_class_list(export.out) == ("cat", "owl")
    assert load_ids(export.out, "train_all") == ["a", "b_c"]
    assert set(np.unique(export.mask("a"))) == {0, 2}


def test_cvat(tmp_path):
    """Folders in names, run-lengths as a list, attributes, one mask of many parts."""
    export = Export(tmp_path, ("Train/day 1/a.jpg", "b.jpg"), "annotations/instances_Train.json")
    counts = [3 * HEIGHT + 2, 5, HEIGHT - 5, 5, 56 * HEIGHT - 2 - 5 - HEIGHT + 5 - 5]
    counts[-1] += HEIGHT * WIDTH - sum(counts)
    rle = {"size": [HEIGHT, WIDTH], "counts": counts}
    more = {"id": 1, "iscrowd": 1, "area": 10.0, "attributes": {"occluded": False}}
    export.content["annotations"] = [annotation(5, 4, rle, **more)]
    export.run()
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[2:7, 3:5] = 1
    np.testing.assert_array_equal(export.mask("a"), expected)


def test_ids_of_text_come_after_numbers(tmp_path):
    export = Export(tmp_path)
    ids = ("b", "10", 9, "a")
    export.content["categories"] = [{"id": key, "name": f"class {key}"} for key in ids]
    export.content["annotations"] = [annotation(5, "a", square(0, 0, 20, 20))]
    export.run()
    assert load_class_list(export.out) == ("class 9", "class 10", "class a", "class b")


def test_background_category_is_left_out(tmp_path, capsys):
    export = Export(tmp_path)
    export.content["categories"].append({"id": 0, "name": "_background_"})
    export.run()
    assert load_class_list(export.out) == ("cat", "owl")
    assert "left out: category 0, '_background_', mask value 0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["<background>", "Void", "unlabeled", "__ignore__"])
def test_what_a_class_list_takes_for_no_class_is_left_out(tmp_path, capsys, name):
    """Else the list would give one class less, and every mask value another class."""
    export = Export(tmp_path)
    export.content["categories"].append({"id": 1, "name": name})
    export.run()
    assert load_class_list(export.out) == ("cat", "owl")
    assert f"left out: category 1, '{name}'" in capsys.readouterr().out


def test_categories_with_numbers_keep_their_order(tmp_path):
    export = Export(tmp_path)
    names = ["10. sheep", "2. cow", "1. cat"]
    export.content["categories"] = [{"id": 4 + 13 * n, "name": x} for n, x in enumerate(names)]
    export.content["annotations"] = [annotation(5, 30, square(0, 0, 20, 20))]
    export.run()
    assert load_class_list(export.out) == tuple(names)
    assert export.mask("a").max() == 3
    assert load_labels(export.out, ["a"], names).tolist() == [[0, 0, 1]]


def test_two_categories_of_one_name(tmp_path):
    export = Export(tmp_path)
    export.content["categories"].append({"id": 50, "name": "cat"})
    export.content["annotations"].append(annotation(6, 50, square(0, 0, 5, 5)))
    with pytest.raises(InputError, match="two categories are called 'cat'"):
        export.run()
    export.run("--merge_names")
    assert load_class_list(export.out) == ("cat", "owl")
    assert export.mask("b").max() == 1


def test_two_categories_of_one_name_in_two_spellings_of_unicode(tmp_path):
    export = Export(tmp_path)
    export.content["categories"] = [
        {"id": 4, "name": "gr\u00fcn"},
        {"id": 30, "name": "gru\u0308n"},
    ]
    with pytest.raises(InputError, match="two categories are called"):
        export.run()
    export.run("--merge_names")
    assert load_class_list(export.out) == ("gr\u00fcn",)
    assert export.mask("a").max() == 1


def test_size_is_the_photographs_where_the_json_says_none(tmp_path):
    export = Export(tmp_path)
    for image in export.content["images"]:
        del image["height"], image["width"]
    export.run()
    assert export.mask("a").shape == (HEIGHT, WIDTH)


def test_turned_photograph_is_of_the_size_that_is_shown(tmp_path):
    export = Export(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    export.photograph("a.jpg", (HEIGHT, WIDTH), exif=exif)
    export.run()
    assert export.mask("a").shape == (HEIGHT, WIDTH)


def test_annotations_of_the_stored_pixels(tmp_path):
    export = Export(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    export.photograph("a.jpg", (WIDTH, HEIGHT), exif=exif)
    with pytest.raises(InputError, match=r"fit it as stored, so give --exif ignore, here and to"):
        export.run()
    export.run("--exif", "ignore")
    assert export.mask("a").shape == (HEIGHT, WIDTH)
    assert json.loads((export.out / coco.RECORD).read_text())["sources"][0]["exif"] == "ignore"


def test_copies_where_the_disk_has_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    export = Export(tmp_path)
    export.run()
    copy = export.out / IMAGE_DIR / "a.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (tmp_path / "photos" / "a.jpg").read_bytes()


# ============ refusals ============
def more_classes(count):
    return [{"id": number, "name": f"class {number}"} for number in range(count)]


def with_images(*names):
    return [{"id": number + 5, "file_name": name} for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("images", with_images("a.jpg", "c.jpg"), r"photograph .*c\.jpg not found"),
        ("images", with_images("a.jpg", "../photos/b.jpg"), "is no name of a file in"),
        ("images", with_images("a.jpg", "x/a.png"), r"'x/a\.png' and 'a\.jpg' have the same id, a"),
        ("images", with_images("a.jpg", "a.jpg"), "have the same id"),
        ("images", with_images("a.jpg", "note.txt"), r"note\.txt is no \.jpg"),
        ("images", with_images("a.jpg", "bad.jpg"), r"cannot read image .*bad\.jpg"),
        ("categories", more_classes(255), "has 255 classes; masks have room for 254"),
        ("categories", [{"id": 30, "name": "Background"}], "annotations are of category 30"),
        ("annotations", [], "has no annotation"),
        (
            "annotations",
            [annotation(5, 4, [[1, 2, 3, 4, 5]])],
            r"annotation 1 of 'a\.jpg': a polygon has 5 numbers",
        ),
        ("annotations", [annotation(5, 4, [[0, 0, 300, 0, 300, 9]])], r"point \(300, 0\), outside"),
        (
            "annotations",
            [annotation(6, 4, {"size": [HEIGHT, WIDTH], "counts": [10**9]})],
            r"annotation 1 of 'b\.jpg': its run-lengths",
        ),
        (
            "annotations",
            [annotation(5, 4, square(0, 0, 9, 9)), annotation(5, 4, [])],
            "annotation 2 of 'a.jpg': it has neither",
        ),
    ],
)
def test_refused_and_nothing_made(tmp_path, part, value, message):
    export = Export(tmp_path)
    (tmp_path / "photos" / "note.txt").write_text("no photograph")
    (tmp_path / "photos" / "bad.jpg").write_text("no photograph")
    export.content[part] = value
    with pytest.raises(InputError, match=message):
        export.run()
    assert not export.out.exists()


def test_254_classes_are_read(tmp_path):
    export = Export(tmp_path)
    export.content["categories"] = more_classes(254)
    export.content["annotations"] = [annotation(5, 253, square(0, 0, 9, 9))]
    export.run()
    assert export.mask("a").max() == 254


def test_photograph_of_another_size(tmp_path):
    export = Export(tmp_path)
    export.photograph("a.jpg", (30, 20))
    with pytest.raises(InputError, match=r"is of size \[20, 30\], the JSON says \[40, 60\]"):
        export.run()


def test_folder_with_something_else_is_left_alone(tmp_path):
    export = Export(tmp_path)
    export.out.mkdir()
    (export.out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not from this command"):
        export.run()
    assert [path.name for path in export.out.iterdir()] == ["mine.txt"]


# ============ several files, several runs ============
def test_second_file_adds_its_list(tmp_path):
    Export(tmp_path).run()
    export = Export(tmp_path, ("c.jpg", "d.jpg"), "instances_val.json")
    export.run()
    assert load_ids(export.out, "train_all") == ["a", "b"]
    assert load_ids(export.out, "val_all") == ["c", "d"]
    np.testing.assert_array_equal(
        export.labels(["a", "b", "c", "d"]), [[0, 1], [0, 0], [0, 1], [0, 0]]
    )
    assert export.mask("c").max() == 2
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out"]


@pytest.mark.parametrize("change", ["same photograph", "other classes", "same list"])
def test_second_file_that_does_not_fit(tmp_path, change):
    Export(tmp_path).run()
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    export = Export(
        tmp_path,
        ("a.jpg" if change == "same photograph" else "c.jpg",),
        "instances_train.json" if change == "same list" else "instances_val.json",
    )
    if change == "other classes":
        export.content["categories"].append({"id": 99, "name": "dog"})
    message = {
        "same photograph": "'a.jpg' and an image of instances.json in",
        "other classes": "was made for other classes",
        "same list": "has a list train already",
    }[change]
    with pytest.raises(InputError, match=message):
        export.run()
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before


def test_same_file_again_does_nothing(tmp_path, capsys):
    export = Export(tmp_path)
    export.run()
    before = (export.out / LABEL_FILE).stat().st_mtime_ns
    export.run()
    assert "nothing to do" in capsys.readouterr().out
    assert (export.out / LABEL_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("added", [False, True])
def test_goes_on_where_it_stopped(tmp_path, added, monkeypatch, capsys):
    """One image is spoilt; after its repair the other ones are not drawn again."""
    names = [f"{number}.jpg" for number in range(20)]
    if added:
        Export(tmp_path).run()
    export = Export(tmp_path, names, "instances_val.json")
    (tmp_path / "photos" / "18.jpg").write_text("damaged")
    with pytest.raises(InputError, match=r"18\.jpg"):
        export.run()
    assert (export.out / LIST_DIR / "val.txt").exists() is False
    export.photograph("18.jpg")
    (tmp_path / "out.part" / MASK_DIR / ".19.png.x.part").write_text("of a killed run")
    drawn = []
    paint = coco.Painter.paint
    monkeypatch.setattr(
        coco.Painter, "paint", lambda *args: drawn.append(args[1].id) or paint(*args)
    )
    export.run()
    assert drawn == ["18", "19"]
    assert "18 of 20 images are finished already" in capsys.readouterr().out
    assert len(list((export.out / MASK_DIR).iterdir())) == 20 + 2 * added
    assert not (tmp_path / "out.part").exists()


def test_changed_file_starts_again(tmp_path):
    export = Export(tmp_path, [f"{number}.jpg" for number in range(3)])
    (tmp_path / "photos" / "2.jpg").write_text("damaged")
    with pytest.raises(InputError):
        export.run()
    export.photograph("2.jpg")
    export.content["annotations"][0]["category_id"] = 4
    export.run()
    assert export.mask("0").max() == 1


def test_workers_draw_the_same(tmp_path):
    names = [f"{number}.jpg" for number in range(40)]
    export = Export(tmp_path, names)
    export.content["annotations"] = [
        annotation(5 + number, (4, 30)[number % 2], square(number, 0, number + 9, 9))
        for number in range(40)
    ]
    export.run()
    alone = [export.mask(str(number)) for number in range(40)]
    export.out = tmp_path / "parallel"
    export.run("--num_workers", "2")
    for number in range(40):
        np.testing.assert_array_equal(export.mask(str(number)), alone[number])


# ============ COCO 2014 ============
@pytest.mark.parametrize(
    ("images", "with_class", "says"),
    [
        (82_783, 82_081, "82,081 of 82,783 images have a class, as they should"),
        (40_504, 40_137, "40,137 of 40,504 images have a class"),
        (5_000, 4_952, "counts are not checked"),
    ],
)
def test_counts_of_coco14(images, with_class, says):
    info = {"description": "COCO 2014 Dataset", "year": 2014}
    coco14 = type("", (), {"info": info, "images": range(images), "path": "instances.json"})
    classes = coco.Classes(tuple(f"class {number}" for number in range(80)), (), ())
    assert says in coco.check_coco14(coco14, classes, with_class)
    if images > 5_000:
        with pytest.raises(InputError, match="is COCO 2014's, but"):
            coco.check_coco14(coco14, classes, with_class - 1)
    coco14.info = {"description": "mine"}
    assert coco.check_coco14(coco14, classes, with_class - 1) == ""
