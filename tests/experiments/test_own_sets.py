"""Sets as users have them, cut from a data set in VOC layout."""

import csv

import numpy as np
import pytest
from PIL import Image

from experiments import own_sets
from tool.errors import InputError
from tool.file.images import read_mask, write_mask
from voc12.constants import CLASSES
from voc12.labels import save_labels

SHOWS = ["cat", "cat dog", "dog", "horse", "cat horse", "person", "cow", "cat person"]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "voc"
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    rows = np.zeros((len(SHOWS), 20), dtype=np.float32)
    for row, names in enumerate(SHOWS):
        values = [CLASSES.index(name) for name in names.split()]
        rows[row, values] = 1
        Image.new("RGB", (8, 6)).save(folder / f"JPEGImages/p{row}.jpg")
        mask = np.zeros((6, 8), dtype=np.uint8)
        for place, value in enumerate(values):
            mask[place] = value + 1
        mask[5] = 255
        write_mask(folder / f"SegmentationClassAug/p{row}.png", mask, {})
    ids = [f"p{row}" for row in range(len(SHOWS))]
    save_labels(folder / "cls_labels.npy", ids, rows)
    for name in ("train", "val"):
        (lists / f"{name}.txt").write_text("\n".join(ids) + "\n")
    return folder


def cut(root, tmp_path, monkeypatch, own, *more):
    monkeypatch.setitem(own_sets.SETS, "three", own)
    flags = ["--voc12_root", str(root), "--list", "train", "--test_list", "val"]
    flags += ["--set", "three", "--out", str(tmp_path / "set"), *more]
    own_sets.main(own_sets.parse_args(flags))
    with (tmp_path / "set/tags.csv").open() as file:
        return {row["image"]: row["tags"] for row in csv.DictReader(file)}


def test_a_set_has_no_other_classes(root, tmp_path, monkeypatch):
    own = own_sets.OwnSet(("dog", "cat", "horse"), 5)
    tags = cut(root, tmp_path, monkeypatch, own)
    assert tags.keys() == {f"p{n}.jpg" for n in range(5)}
    assert tags["p1.jpg"] == "cat;dog"  # VOC's order: the same file in every run
    assert sorted(path.name for path in (tmp_path / "set/photos").iterdir()) == sorted(tags)
    mask = read_mask(tmp_path / "set/masks/p1.png")
    assert np.unique(mask).tolist() == [0, 1, 2, 255]
    assert mask[0, 0] == 2
    assert mask[1, 0] == 1
    assert (tmp_path / "set/test/classes.txt").read_text() == "dog\ncat\nhorse\n"
    assert len((tmp_path / "set/test/ImageSets/Segmentation/val.txt").read_text().split()) == 5


def test_negatives_show_none_of_its_classes(root, tmp_path, monkeypatch):
    tags = cut(root, tmp_path, monkeypatch, own_sets.OwnSet(("cat",), 1, negatives=4))
    assert sorted(tags.values()) == ["", "", "", "", "cat"]
    assert len(list((tmp_path / "set/test/JPEGImages").iterdir())) == len(SHOWS)
    assert read_mask(tmp_path / "set/test/SegmentationClassAug/p3.png").max() == 255


def test_smaller_sets_are_among_larger_ones(root, tmp_path, monkeypatch):
    own = own_sets.OwnSet(("dog", "cat", "horse"), 4, negatives=2)
    sets = [
        set(cut(root, tmp_path / str(count), monkeypatch, own, "--count", str(count)))
        for count in (2, 4)
    ]
    assert [len(found) for found in sets] == [2 + 1, 4 + 2]
    assert sets[0] < sets[1]


def test_too_few_photographs(root, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="has 5 of 9 photographs of the set"):
        cut(root, tmp_path, monkeypatch, own_sets.OwnSet(("dog", "cat", "horse"), 9))


def test_a_class_without_photographs_is_named(root, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no photograph of bird without classes that the set has"):
        cut(root, tmp_path, monkeypatch, own_sets.OwnSet(("bird", "cat"), 2))


def test_a_set_that_is_drawn_over_another_has_none_of_its_photographs(root, tmp_path, monkeypatch):
    cut(root, tmp_path, monkeypatch, own_sets.OwnSet(("dog", "cat", "horse"), 5))
    (tmp_path / "set/photos/mine.jpg").touch()
    tags = cut(root, tmp_path, monkeypatch, own_sets.OwnSet(("person",), 1))
    found = {path.name for path in (tmp_path / "set/photos").iterdir()}
    assert found == {*tags, "mine.jpg"}


def test_links_lead_to_the_data_set_that_is_given(root, tmp_path, monkeypatch):
    own = own_sets.OwnSet(("dog", "cat", "horse"), 5)
    cut(root, tmp_path, monkeypatch, own)
    moved = root.rename(tmp_path / "moved")
    tags = cut(moved, tmp_path, monkeypatch, own)
    links = {name: (tmp_path / "set/photos" / name).resolve() for name in tags}
    assert links == {name: moved / "JPEGImages" / name for name in tags}
