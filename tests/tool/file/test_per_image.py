"""Counts of single photographs on disk: what is written is read, another file is named."""

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.per_image import PerImage, load_per_image, save_per_image
from tool.image_counts import ImageCounts


def _per_image():
    counts = ImageCounts(np.int32([0, 0, 2]), np.int32([0, 3, 1]), np.array([7, 1, 2]), 3, 2)
    return PerImage(("a", "b/é", "c"), ("background", "cat"), {"best": counts}, {"best": None})


def test_what_is_written_is_read(tmp_path):
    save_per_image(tmp_path / "folder" / "counts.npz", _per_image())
    found = load_per_image(tmp_path / "folder" / "counts.npz")
    assert found.ids == ("a", "b/é", "c")
    assert found.classes == ("background", "cat")
    assert found.thresholds == {"best": None}
    assert found.counts["best"].confusion().tolist() == [[7, 2], [0, 1]]
    assert found.counts["best"].images == 3


def test_another_file_is_named(tmp_path):
    path = tmp_path / "counts.npz"
    for content in ({"ids": np.array(["a"])}, {"ids": np.array([{}], dtype=object)}):
        np.savez(path, **content)
        with pytest.raises(InputError, match=r"counts\.npz holds no counts .*--per_image"):
            load_per_image(path)
    save_per_image(path, _per_image())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"counts\.npz holds no counts"):
        load_per_image(path)
    with pytest.raises(InputError, match=r"none\.npz holds no counts"):
        load_per_image(tmp_path / "none.npz")


@pytest.mark.parametrize(
    "changed",
    [
        {"best_image": np.int32([0, 0, 2**31 - 1])},  # sums of 2**31 rows
        {"best_cell": np.int32([0, 3, 4])},
        {"best_cell": np.int32([0, 3, -1])},
        {"best_cell": np.int32([0, 3])},
        {"best_image": np.array([0.0, 0.0, 2.0])},
        {"thresholds": np.array([0.5, 0.5])},
        {"thresholds": np.array(["a"])},
    ],
    ids=range(7),
)
def test_places_beyond_its_images_and_classes_are_refused(tmp_path, changed):
    path = tmp_path / "counts.npz"
    save_per_image(path, _per_image())
    with np.load(path) as stored:
        np.savez(path, **{**stored, **changed})
    with pytest.raises(InputError, match=r"counts\.npz holds no counts of single photographs"):
        load_per_image(path)
