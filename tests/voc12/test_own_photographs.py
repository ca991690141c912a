"""Photographs and tags as people have them become a data set in VOC layout, or one clear line."""

import json
import os
import re
import shutil
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from voc12.class_list import load_class_list
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.own_photographs import held_out, main, parse_args

NAMES = ["trip 2024/IMG 0001.JPG", "trip 2024/x.jpeg", "x.png", "größe 4.jpg", "empty.jpg"]


def picture(path, size=(20, 16), orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    seed = zlib.crc32((path.name if path.stem == "both" else str(path)).encode())
    image = Image.new("RGB", size, tuple(seed.to_bytes(4)[:3]))
    image.save(path, **({} if path.suffix == ".png" else {"exif": exif}))


@pytest.fixture
def photos(tmp_path):
    for name in NAMES:
        picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


def make(tmp_path, photos, tags=None, *flags):
    out = tmp_path / "data"
    words = ["--images", str(photos), "--out", str(out), "--num_workers", "1", *flags]
    if tags is not None:
        path = tmp_path / "tags.csv"
        path.write_text(tags, encoding="utf-8")
        words += ["--tags", str(path)]
    main(parse_args(words))
    return out


def shown(out, name="tagged"):
    """path -> class names, of the photographs of a list."""
    classes = load_class_list(out)
    ids = load_ids(out, name)
    paths = json.loads((out / "photographs.json").read_text())
    labels = load_labels(out, ids, classes)
    return {
        paths[one]: [c for c, hot in zip(classes, row, strict=True) if hot]
        for one, row in zip(ids, labels, strict=True)
    }


TABLE = """filename,tags
trip 2024/IMG 0001.JPG,cat
trip 2024/x.jpeg,"cat; dog"
x.png,dog
größe 4.jpg,owl
empty.jpg,
"""
SAYS = {
    "trip 2024/IMG 0001.JPG": ["cat"],
    "trip 2024/x.jpeg": ["cat", "dog"],
    "x.png": ["dog"],
    "größe 4.jpg": ["owl"],
}


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        unicodedata.normalize("NFD", TABLE),
        TABLE.replace("trip 2024/", "C:\\me\\trip 2024\\"),
        TABLE.replace("trip 2024/", "/home/me/photos/trip 2024/").replace("x.png", "./x.png"),
        TABLE.replace("trip 2024/IMG 0001.JPG", "img 0001.jpg"),
        TABLE.replace("filename,tags", "Bild,Was"),
        TABLE.replace("empty.jpg,\n", "").replace(",", ";").replace("cat; dog", "cat, dog"),
        "image,cat,dog,owl\ntrip 2024/IMG 0001,1,0,0\ntrip 2024/x,1,1,0\n"
        "x.png,0,1,0\ngröße 4,0,0,1\n",
    ],
)
def test_tags_in_any_spelling(tmp_path, photos, table):
    assert shown(make(tmp_path, photos, table)) == SAYS
    assert load_ids(tmp_path / "data", "untagged") == ["empty"]
    assert len(load_ids(tmp_path / "data", "all")) == 5


def test_what_was_found_by_less_is_said(tmp_path, photos, capsys):
    make(tmp_path, photos, TABLE.replace("trip 2024/IMG 0001.JPG", "IMG 0001.JPG"))
    out = capsys.readouterr().out
    assert (
        "1 photographs are found by their name alone, e.g. trip 2024/IMG 0001.JPG by 'IMG 0001.JPG'"
    ) in out
    make(tmp_path, photos, TABLE.replace("x.png", "x.jpg"))
    out = capsys.readouterr().out
    assert "1 photographs are found by their name before the suffix, e.g. x.png by 'x.jpg'" in out
    make(tmp_path, photos, TABLE.replace("trip 2024/", "JPEGImages/trip 2024/"))
    assert "are found by" not in capsys.readouterr().out
    rows = [f"Bilder/{name},{tag}\n" for name, tag in zip(NAMES[:4], "abab", strict=True)]
    make(tmp_path, photos, "".join(["image,tags\n", *rows]))
    assert "its paths below 'Bilder' are taken for those in " in capsys.readouterr().out


def test_ids_have_no_spaces_and_links_lead_to_the_photographs(tmp_path, photos):
    out = make(tmp_path, photos, TABLE)
    ids = load_ids(out, "all")
    assert sorted(ids) == ["empty", "größe_4", "trip_2024_IMG_0001", "trip_2024_x", "x"]
    link = out / "JPEGImages" / "trip_2024_IMG_0001.jpg"
    assert link.is_symlink()
    assert link.resolve() == (photos / NAMES[0]).resolve()


def test_equal_ids_are_numbered(tmp_path):
    for name in ("a b.jpg", "a_b.jpg", "A b.png"):
        picture(tmp_path / "photos" / name)
    table = "image,tags\na b.jpg,cat\na_b.jpg,dog\nA b.png,cat\n"
    out = make(tmp_path, tmp_path / "photos", table)
    assert sorted(load_ids(out, "all")) == ["A_b", "a_b_2", "a_b_3"]
    assert shown(out) == {"a b.jpg": ["cat"], "a_b.jpg": ["dog"], "A b.png": ["cat"]}


@pytest.mark.parametrize(
    ("flags", "lists"),
    [
        ((), {"tagged": 4, "untagged": 1, "all": 5}),
        (("--untagged", "background"), {"tagged": 5, "all": 5}),
        (("--untagged", "skip"), {"tagged": 4, "all": 4}),
    ],
)
def test_photographs_without_tags(tmp_path, photos, capsys, flags, lists):
    out = make(tmp_path, photos, TABLE, *flags)
    assert {name: len(load_ids(out, name)) for name in lists} == lists
    assert (out / "ImageSets/Segmentation/untagged.txt").exists() == ("untagged" in lists)
    assert "1 photographs without tags" in capsys.readouterr().out


@pytest.mark.parametrize(
    "table",
    [
        TABLE.replace("empty.jpg,", "empty.jpg,background"),
        TABLE.replace("empty.jpg,", "empty.jpg,none"),
        TABLE.replace("empty.jpg,", "empty.jpg,no class"),
        TABLE.replace("empty.jpg,\n", "").replace(",", ";").replace("cat; dog", "cat, dog")
        + "empty.jpg;Background\n",
        "image,cat,dog,owl,background\ntrip 2024/IMG 0001,1,0,0,0\ntrip 2024/x,1,1,0,0\n"
        "x.png,0,1,0,0\ngröße 4,0,0,1,0\nempty,0,0,0,1\n",
    ],
)
@pytest.mark.parametrize("untagged", ["unlabelled", "skip", None])
def test_a_tag_says_that_a_photograph_shows_no_class(tmp_path, photos, table, untagged):
    """So it teaches the background, whatever those without tags do."""
    out = make(tmp_path, photos, table, *(("--untagged", untagged) if untagged else ()))
    assert shown(out) == SAYS | {"empty.jpg": []}
    assert len(load_ids(out, "tagged")) == len(load_ids(out, "all")) == 5


@pytest.mark.parametrize(
    "content",
    [
        {"x.png": "dog", "größe 4.jpg": ["owl"], "empty.jpg": "background"},
        {"x.png": "dog", "größe 4.jpg": ["owl"], "empty.jpg": ["none"]},
        [
            {"image": "x.png", "tags": ["dog"]},
            {"image": "größe 4.jpg", "tags": "owl"},
            {"image": "empty.jpg", "tags": ["nothing"]},
        ],
    ],
)
def test_so_does_a_tag_in_json(tmp_path, photos, content):
    tags = tmp_path / "tags.json"
    tags.write_text(json.dumps(content))
    words = ["--images", str(photos), "--tags", str(tags), "--out", str(tmp_path / "data")]
    main(parse_args(words))
    assert len(load_ids(tmp_path / "data", "tagged")) == 3
    assert shown(tmp_path / "data") == {"x.png": ["dog"], "größe 4.jpg": ["owl"], "empty.jpg": []}


@pytest.mark.parametrize(
    "table",
    [
        "image,cat,dog\nx,1,0\ngröße 4,no,yes\nempty,0,0\nIMG 0001,,\n",
        "image,cat,dog\nx,1,-1\ngröße 4,-1,1\nempty,-1,-1\nIMG 0001,,\n",
        "image,cat,dog\nx,x,-\ngröße 4,-,x\nempty,-,-\nIMG 0001,,\n",
        "image,1,2\nx,1,0\ngröße 4,0,1\nempty,0,0\n",
        "image,cat,dog,tags\nx,1,0,z\ngröße 4,0,1,z\nempty,0,0,z\n",
    ],
)
def test_a_no_to_all_classes_says_that_there_is_none(tmp_path, photos, table):
    classes = tmp_path / "cl.txt"
    classes.write_text("0: background\n1: cat\n2: dog\n")
    flags = ["--tag_columns", "cat", "dog"] if "tags" in table else []
    out = make(tmp_path, photos, table, "--classes", str(classes), *flags)
    assert shown(out) == {"x.png": ["cat"], "größe 4.jpg": ["dog"], "empty.jpg": []}


@pytest.mark.parametrize("table", ["image,cat,dog\nx,x,\ngröße 4,,x\nempty,,\n"])
def test_empty_cells_say_nothing(tmp_path, photos, table):
    assert shown(make(tmp_path, photos, table)) == {"x.png": ["cat"], "größe 4.jpg": ["dog"]}


def test_so_does_a_row_of_zeros_in_json(tmp_path, photos):
    path, classes = tmp_path / "tags.json", tmp_path / "cl.txt"
    classes.write_text("cat\ndog\nowl\n")
    path.write_text(json.dumps({"x": [1, 0, 0], "größe 4": [0, 1, 0], "empty": [0, 0, 0]}))
    out = make(tmp_path, photos, None, "--tags", str(path), "--classes", str(classes))
    assert shown(out) == {"x.png": ["cat"], "größe 4.jpg": ["dog"], "empty.jpg": []}


def test_numbers_count_as_the_list_of_classes_does(tmp_path, photos, capsys):
    classes = tmp_path / "cl.txt"
    classes.write_text("0: background\n1: cat\n2: dog\n3: owl\n")
    table = "image,class_id\nx.png,1\ngröße 4.jpg,2\nempty.jpg,0\n"
    out = make(tmp_path, photos, table, "--classes", str(classes))
    assert shown(out) == {"x.png": ["cat"], "größe 4.jpg": ["dog"], "empty.jpg": []}
    assert "count from 1, as in the class list, and 0 is no class: 1" in capsys.readouterr().out


def test_two_rows_of_which_one_says_that_there_is_no_class(tmp_path, photos):
    with pytest.raises(InputError, match=r"say different things of empty\.jpg"):
        make(tmp_path, photos, TABLE + "empty.jpg,background\n")
    again = make(tmp_path, photos, TABLE + "x.png,dog;background\n")  # which a class overrules
    assert shown(again) == SAYS


def test_one_class_takes_the_others_as_background_and_needs_some(tmp_path, photos):
    table = "image,tags\nx.png,cat\ntrip 2024/x.jpeg,cat\n"
    assert shown(make(tmp_path, photos, table))["empty.jpg"] == []
    with pytest.raises(InputError, match="all 2 photographs with tags show the same, cat"):
        make(tmp_path, photos, table, "--untagged", "unlabelled")


def test_a_subfolder_a_class(tmp_path):
    root = tmp_path / "photos"
    for name in ("cat/1.jpg", "cat/deep/2.jpg", "dog/1.jpg", "background/3.jpg", "loose.jpg"):
        picture(root / name)
    picture(root / "dog/both.jpg")
    picture(root / "cat/both.jpg")
    out = make(tmp_path, root)
    assert load_class_list(out) == ("cat", "dog")
    assert shown(out) == {
        "cat/1.jpg": ["cat"],
        "cat/deep/2.jpg": ["cat"],
        "cat/both.jpg": ["cat", "dog"],
        "dog/both.jpg": ["cat", "dog"],
        "dog/1.jpg": ["dog"],
        "background/3.jpg": [],
    }
    assert load_ids(out, "untagged") == ["loose"]


@pytest.mark.parametrize(
    ("folders", "called"),
    [
        (("train", "val"), "parts of a data set"),
        (("Test", "Train"), "parts of a data set"),
        (("2023", "2024"), "years"),
        (("2023-01-12", "2023-03"), "dates"),
        (("100CANON", "101CANON"), "folders of a camera"),
    ],
)
def test_folders_that_are_called_as_parts_or_years_are_no_classes(tmp_path, folders, called):
    photos = tmp_path / "photos"
    for folder in folders:
        picture(photos / folder / "cat" / f"{folder}.jpg")
        picture(photos / folder / "dog" / f"{folder} 2.jpg")
    expected = (
        f"{photos}: are its folders {', '.join(folders)} classes? They are called as {called}"
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        make(tmp_path, photos)
    with pytest.raises(InputError, match=re.escape(expected)):
        make(tmp_path, photos, None, "--tags", str(photos))
    (tmp_path / "cl.txt").write_text("\n".join(folders))
    out = make(tmp_path, photos, None, "--classes", str(tmp_path / "cl.txt"))
    assert load_class_list(out) == folders
    picture(photos / "bus" / "b.jpg")
    if called == "parts of a data set":
        with pytest.raises(InputError, match=r"is its folder '(Test|val)' a class"):
            make(tmp_path, photos)
    else:
        assert load_class_list(make(tmp_path, photos))[-1] == max("bus", *folders)


@pytest.mark.parametrize(
    "folder",
    ["JPEGImages", "SegmentationClassAug", "images", "labels", "masks", "Annotations", "test"]
    + ["unsorted", "DCIM"],
)
def test_a_folder_that_is_no_class_is_asked_about(tmp_path, folder):
    for name in ("cat", "dog", folder):
        picture(tmp_path / "photos" / name / "x.jpg")
    with pytest.raises(InputError, match=f"photos: is its folder '{folder}' a class"):
        make(tmp_path, tmp_path / "photos")
    with pytest.raises(InputError, match=f"photos: is its folder '{folder}' a class"):
        make(tmp_path, tmp_path / "photos", None, "--tags", str(tmp_path / "photos"))
    other = tmp_path / "photos" / folder
    out = make(tmp_path, tmp_path / "photos", None, "--leave_out", str(other))
    assert load_class_list(out) == ("cat", "dog")
    (tmp_path / "cl.txt").write_text(f"cat\ndog\n{folder}\n")
    out = make(tmp_path, tmp_path / "photos", None, "--classes", str(tmp_path / "cl.txt"))
    assert load_class_list(out) == ("cat", "dog", folder)


def test_folders_of_a_system_are_left_out_with_a_line(tmp_path, capsys):
    for name in ("cat/x.jpg", "dog/y.jpg", "none/z.jpg"):
        picture(tmp_path / "photos" / name)
    for name in ("cat/@eaDir/x.jpg", "$RECYCLE.BIN/x.jpg", "__MACOSX/cat/x.jpg"):
        picture(tmp_path / "photos" / name)
    out = make(tmp_path, tmp_path / "photos")
    assert shown(out) == {"cat/x.jpg": ["cat"], "dog/y.jpg": ["dog"], "none/z.jpg": []}
    assert "photographs; 3 folders of a system are left out (" in capsys.readouterr().out
    tags = make(tmp_path, tmp_path / "photos", None, "--tags", str(tmp_path / "photos"))
    assert load_class_list(tags) == ("cat", "dog")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("yes", "no"), "has no, yes for tags: of which class"),
        (("cat", "-"), "is '-' a class"),
        (("cat", "not_cat"), "is 'not_cat' a class"),
        (("traffic light", "traffic-light"), "'traffic light' and 'traffic-light' one class"),
    ],
)
def test_folders_that_are_hardly_classes_are_asked_about(tmp_path, folders, message):
    for name in folders:
        picture(tmp_path / "photos" / name / "x.jpg")
    with pytest.raises(InputError, match=message):
        make(tmp_path, tmp_path / "photos")


@pytest.mark.parametrize("none", ["no class", "no_class", "No-Class", "bg", "_background_", "none"])
def test_folders_of_no_class(tmp_path, none):
    for name in ("cat", none):
        picture(tmp_path / "photos" / name / "x.jpg")
    out = make(tmp_path, tmp_path / "photos")
    assert shown(out) == {"cat/x.jpg": ["cat"], f"{none}/x.jpg": []}


def test_folders_with_numbers_keep_their_classes(tmp_path):
    """Lines `1. cat`, `10. sheep`, `2. dog` would be read by their numbers, in another order."""
    kinds = ["cat", "dog", "cow", "owl", "pig", "car", "bus", "hen", "fox", "sheep"]
    names = [f"{number}. {kind}" for number, kind in enumerate(kinds, start=1)]
    for name in names:
        picture(tmp_path / "photos" / name / "x.jpg")
    out = make(tmp_path, tmp_path / "photos")
    assert shown(out) == {f"{name}/x.jpg": [name] for name in names}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["unlabeled", "cat"], "photos: 'unlabeled' cannot be a class: in a class list it would"),
        ([f"c{n}" for n in range(255)], "photos has 255 classes; masks have room for 254"),
    ],
)
def test_folders_that_no_class_list_can_hold_are_refused_at_the_start(tmp_path, names, message):
    for name in names:
        picture(tmp_path / "photos" / name / "x.jpg")
    with pytest.raises(InputError, match=message):
        make(tmp_path, tmp_path / "photos")
    assert not (tmp_path / "data").exists()


def test_a_large_photograph_is_kept_smaller_and_upright(tmp_path):
    picture(tmp_path / "photos/cat/a.jpg", (60, 40), orientation=6)
    picture(tmp_path / "photos/dog/b.jpg")
    out = make(tmp_path, tmp_path / "photos", None, "--long_side", "30")
    with Image.open(out / "JPEGImages/cat_a.png") as image:
        assert image.size == (20, 30)


def test_a_photograph_of_another_path_content_or_size_is_kept_anew(tmp_path):
    photos = tmp_path / "photos"
    for name in ("cat/a.jpg", "cat/a b.jpg", "dog/b.jpg"):
        picture(photos / name, (60, 40))

    def pixels(flags=("--long_side", "30")):
        out = make(tmp_path, photos, None, *flags)
        places = sorted((out / "JPEGImages").iterdir())
        return {path.name: np.asarray(Image.open(path)) for path in places}

    first = pixels()
    assert list(first) == ["cat_a.png", "cat_a_b.png", "dog_b.png"]
    assert {array.shape for array in first.values()} == {(20, 30, 3)}
    assert all(np.array_equal(first[name], array) for name, array in pixels().items())
    # another photograph of an older date takes a name, and with it an id
    time = (photos / "cat/a.jpg").stat().st_mtime_ns
    (photos / "cat/a b.jpg").replace(photos / "cat/a.jpg")
    os.utime(photos / "cat/a.jpg", ns=(time - 10**10, time - 10**10))
    second = pixels()
    assert list(second) == ["cat_a.png", "dog_b.png"]
    assert np.array_equal(second["cat_a.png"], first["cat_a_b.png"])
    # another size, and the photographs themselves
    assert pixels(("--long_side", "15"))["dog_b.png"].shape == (10, 15, 3)
    assert pixels(())["dog_b.jpg"].shape == (40, 60, 3)
    assert not list((tmp_path / "data/small").iterdir())
    # links that led elsewhere lead where they should
    photos.rename(tmp_path / "moved")
    photos = tmp_path / "moved"
    assert pixels(())["cat_a.jpg"].shape == (40, 60, 3)


def test_a_folder_with_photographs_of_its_own_is_left_alone(tmp_path, photos):
    picture(tmp_path / "data/JPEGImages/mine.jpg")
    with pytest.raises(InputError, match=r"has photographs of its own, e.g. mine.jpg"):
        make(tmp_path, photos, TABLE)
    assert [path.name for path in tmp_path.glob("data/**/*.*")] == ["mine.jpg"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("JPEGImages/theirs.jpg", "has links of another program, e.g. theirs.jpg in JPEGImages"),
        ("small/theirs.png", "has files of another program, e.g. small/theirs.png"),
    ],
)
def test_a_folder_of_another_program_is_left_alone(tmp_path, photos, place, message):
    picture(tmp_path / "elsewhere/theirs.jpg")
    path = tmp_path / "data" / place
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere/theirs.jpg")
    with pytest.raises(InputError, match=message):
        make(tmp_path, photos, TABLE)
    assert [found.name for found in tmp_path.glob("data/**/*.*")] == [path.name]


def test_a_run_that_was_cut_off_goes_on(tmp_path, photos):
    """photographs.json comes last; links and copies are known without it."""
    flags = ("--long_side", "15")
    make(tmp_path, photos, TABLE, *flags)
    (tmp_path / "data/photographs.json").unlink()
    begun = next((tmp_path / "data/small").iterdir())
    begun.rename(begun.with_name(f".{begun.name}.1x2y.part"))
    make(tmp_path, photos, TABLE, *flags)
    links = list((tmp_path / "data/JPEGImages").iterdir())
    assert links
    assert all(link.exists() for link in links)
    assert len(links) == len(list((tmp_path / "data/small").iterdir()))


def test_a_damaged_photograph_leaves_no_data_set(tmp_path, photos):
    content = (photos / "x.png").read_bytes()
    (photos / "x.png").write_bytes(content[: len(content) // 2])
    expected = r"cannot read image .*x\.png: .*; replace the file or take it out of --images"
    with pytest.raises(InputError, match=expected):
        make(tmp_path, photos, TABLE)
    assert not (tmp_path / "data").exists()
    (photos / "x.png").write_bytes(content)
    out = make(tmp_path, photos, TABLE)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (photos / "y.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cannot read image .*y\.png"):
        make(tmp_path, photos, TABLE)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_copies_of_a_hundred_thousand_photographs_have_names_of_their_own(tmp_path, photos):
    """Eight digits would be alike for two of them more often than not."""
    make(tmp_path, photos, TABLE, "--long_side", "15")
    names = [path.stem for path in (tmp_path / "data/small").iterdir()]
    assert {len(name) for name in names} == {32}


def test_tags_are_needed(tmp_path, photos):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    table = "image,tags\nx.png,\nempty.jpg,\n"
    with pytest.raises(InputError, match="none of the 5 photographs has a tag"):
        make(tmp_path, photos, table, "--classes", str(tmp_path / "classes.txt"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,tags\nx.png,cat\nIMG 0001,dog\n", "'IMG 0001' may be .*1.JPG and .*1.png"),
        ("image,tags\nnowhere.jpg,cat\n", "names none of the 4 photographs"),
        ("image,tags\nx.png,3\nempty.jpg,4\n", "has numbers for classes .3, 4, ...."),
        ("image,date,what\nx.png,monday,cat\n", "which of the columns image, date, what"),
        ("image,tags\nx.png,cat dog\nempty.jpg,cat\ngröße 4.jpg,dog\n", "is 'cat dog' one class"),
        ("image,tags\nx.png,cat\nempty.jpg,Cat\n", "differ by capitals alone"),
        ("image,tags\nx.png,cat\nX.PNG,dog\n", "say different things of x.png"),
        ("image,tags\nx.png,Void\nempty.jpg,c\n", "'Void' cannot be a class: in a class list it"),
        ("image,tags\nx.png,a/b\nempty.jpg,c\n", "tag 'a/b' cannot be a class: it has a slash"),
    ],
)
def test_what_cannot_be_read_for_certain_is_named(tmp_path, photos, table, message):
    if "IMG" in table:
        picture(photos / "trip 2024/IMG 0001.png")
    with pytest.raises(InputError, match=message):
        make(tmp_path, photos, table)
    assert not (tmp_path / "data").exists()


def test_a_folder_without_tags_or_subfolders(tmp_path):
    picture(tmp_path / "photos/a.jpg")
    with pytest.raises(InputError, match="no subfolder of a class, and no --tags"):
        make(tmp_path, tmp_path / "photos")


def test_a_tenth_is_held_out_and_no_class_loses_all():
    labels = np.repeat(np.eye(3, dtype=np.float32), [60, 38, 2], axis=0)
    held = held_out(labels, np.ones(100, dtype=bool), np.arange(100))
    assert held.sum() in (9, 10)
    assert ((labels[~held] > 0).sum(axis=0) > 0).all()
    assert not held_out(labels[:30], np.ones(30, dtype=bool), np.arange(30)).any()


def test_copies_are_held_out_together():
    labels = np.repeat(np.eye(2, dtype=np.float32), 60, axis=0)
    labels = np.concatenate([labels, labels])  # each photograph in two folders
    copy_of = np.tile(np.arange(120), 2)
    held = held_out(labels, np.ones(240, dtype=bool), copy_of)
    assert np.array_equal(held[:120], held[120:])
    assert held.sum() == 24
    # forty files are too few where they are copies of twenty photographs
    few = np.arange(40) // 2 * 2
    assert not held_out(labels[:40], np.ones(40, dtype=bool), few).any()


@pytest.mark.parametrize("link", [os.symlink, shutil.copyfile])
def test_copies_in_several_folders_of_classes_show_all_of_them(tmp_path, capsys, link):
    root = tmp_path / "photos"
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg"):
        picture(root / name)
    link(root / "cat/1.jpg", root / "dog/other name.jpg")
    link(root / "dog/3.jpg", root / "loose.jpg")
    out = make(tmp_path, root)
    assert shown(out) == {
        "cat/1.jpg": ["cat", "dog"],
        "cat/2.jpg": ["cat"],
        "dog/3.jpg": ["dog"],
        "dog/other name.jpg": ["cat", "dog"],
        "loose.jpg": ["dog"],
    }
    said = capsys.readouterr().out
    assert "2 photographs are copies of others, e.g. " in said
    assert "each shows all that any of its copies shows (3 gain tags)" in said


@pytest.mark.parametrize("untagged", ["background", "unlabelled", "skip"])
def test_a_copy_without_tags_has_those_of_the_other(tmp_path, photos, untagged):
    shutil.copyfile(photos / "x.png", photos / "a copy.png")
    (photos / "again").mkdir()
    (photos / "again/x.png").symlink_to(photos / "x.png")  # x.png alone still means both
    said = shown(make(tmp_path, photos, TABLE, "--untagged", untagged))
    assert said["a copy.png"] == said["again/x.png"] == said["x.png"] == ["dog"]


def test_copies_that_cannot_both_be_right_are_named(tmp_path):
    root = tmp_path / "photos"
    for name in ("cat/1.jpg", "dog/2.jpg", "background/3.jpg"):
        picture(root / name)
    shutil.copyfile(root / "cat/1.jpg", root / "background/4.jpg")
    with pytest.raises(InputError, match=r"4\.jpg is said to show no class, and its copy .*1\.jpg"):
        make(tmp_path, root)
    assert not (tmp_path / "data").exists()


def test_a_linked_folder_is_a_class(tmp_path, capsys):
    for name in ("elsewhere/1.jpg", "elsewhere/deep/2.jpg", "photos/dog/3.jpg"):
        picture(tmp_path / name)
    (tmp_path / "photos/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/dog/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "elsewhere/deep/up").symlink_to(tmp_path)
    out = make(tmp_path, tmp_path / "photos")
    assert shown(out) == {"cat/1.jpg": ["cat"], "cat/deep/2.jpg": ["cat"], "dog/3.jpg": ["dog"]}
    said = capsys.readouterr().out
    assert "3 photographs; 1 links to a folder that they lie in are not followed (" in said
    assert "; 1 links lead nowhere (" in said
