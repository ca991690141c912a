"""Lists to test on, cut from a training list."""

import pytest
from PIL import Image

from experiments import cut_lists
from tests.experiments.test_own_sets import root  # noqa: F401  a fixture
from tool.errors import InputError
from voc12.constants import CLASSES
from voc12.labels import load_labels
from voc12.lists import image_path, load_ids


def cut(folder, tmp_path, *more):
    out = tmp_path / "cut"
    flags = ["--voc12_root", str(folder), "--list", "train", "--test_list", "val"]
    flags += ["--out", str(out), *more]
    cut_lists.main(cut_lists.parse_args(flags))
    return out


def test_lists_share_nothing_with_training_or_each_other(root, tmp_path):  # noqa: F811
    lists = root / "ImageSets/Segmentation"
    every = load_ids(root, "train")
    (lists / "val.txt").write_text("other\n")
    out = cut(root, tmp_path, "--cuts", "2", "--count", "2")
    parts = [load_ids(out, f"cut_{number}") for number in (1, 2)]
    train = load_ids(out, "train")
    assert [len(part) for part in parts] == [2, 2]
    assert sorted([*train, *parts[0], *parts[1]]) == every
    assert load_ids(out, "test") == ["other"]
    assert load_ids(out, "val") == ["other", *parts[0], *parts[1]]
    assert image_path(out, train[0]).read_bytes() == image_path(root, train[0]).read_bytes()
    assert (load_labels(out, train, CLASSES) == load_labels(root, train, CLASSES)).all()


def test_photographs_of_other_sets_are_not_drawn(root, tmp_path):  # noqa: F811
    photos = tmp_path / "set/photos"
    photos.mkdir(parents=True)
    for name in ("p0", "p1", "p2", "p3", "p4", "p5"):
        Image.new("RGB", (8, 6)).save(photos / f"{name}.jpg")
    out = cut(root, tmp_path, "--cuts", "1", "--count", "2", "--avoid", str(tmp_path / "set"))
    assert load_ids(out, "cut_1") == ["p6", "p7"]
    assert load_ids(out, "train") == ["p0", "p1", "p2", "p3", "p4", "p5"]
    with pytest.raises(InputError, match="2 photographs are free, 2 lists want 4"):
        cut(root, tmp_path, "--count", "2", "--avoid", str(tmp_path / "set"))


def test_a_folder_that_is_no_set_is_named(root, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="no photographs in"):
        cut(root, tmp_path, "--avoid", str(tmp_path))


def test_a_list_that_has_no_name_in_the_data_set_is_refused(root, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="--list train:4 is no list in"):
        cut(root, tmp_path, "--list", "train:4")
    assert not (tmp_path / "cut").exists()
