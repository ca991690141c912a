"""Which photograph a file means by a name: the one of that path, or none."""

from pathlib import Path

import numpy as np
import pytest

from tool.file.photographs import Photograph
from voc12.label_file.entries import Entry
from voc12.named_photographs import Finder


def found(folder, names, photographs, root="photos"):
    """name -> the photograph that a file of these names means by it."""
    given = [
        Photograph(folder / root / one, Path(one).stem, folder, Path(one).parent)
        for one in photographs
    ]
    find = Finder(given, np.arange(len(given)), names, folder / root)
    places = {name: find(Entry("tags.csv", name, np.zeros(0))) for name in names}
    return {name: None if place is None else find.paths[place] for name, place in places.items()}


ROOT_AND_2024 = ("IMG_1.jpg", "IMG_3.jpg", "2024/IMG_2.jpg")


@pytest.mark.parametrize(
    "others",
    [
        ["2024/IMG_2.jpg"],
        ["IMG_3.jpg"],
        ["IMG_3"],
        ["2022/x.jpg"],
        ["/x/photos/IMG_3.jpg"],
        ["x/photos/2024/IMG_2.jpg"],
    ],
)
@pytest.mark.parametrize("gone", ["2023/IMG_1.jpg", "2023/img_1", "2023/photos/IMG_1.jpg"])
def test_a_photograph_that_is_gone_is_no_other_of_its_name(tmp_path, others, gone):
    assert found(tmp_path, [gone, *others], ROOT_AND_2024)[gone] is None


@pytest.mark.parametrize(
    ("gone", "other"),
    [
        ("/me/x/2023/IMG_1.jpg", "/me/x/IMG_3.jpg"),
        ("C:\\me\\2023\\IMG_1.jpg", "C:\\me\\2024\\IMG_2.jpg"),
        ("https://x.org/a/2023/IMG_1.jpg", "https://x.org/a/2024/IMG_2.jpg"),
        ("/me/photos/2023/IMG_1.jpg", "/me/photos/IMG_3.jpg"),
    ],
)
def test_nor_is_one_by_its_whole_path(tmp_path, gone, other):
    said = found(tmp_path, [gone, other], ROOT_AND_2024)
    assert said[gone] is None
    assert said[other] in ROOT_AND_2024


@pytest.mark.parametrize(
    "above",
    ["photos/", "./photos/", "../photos/", "/a/b/photos/", "D:\\photos\\", "C:/me/", "/data/?d=x/"]
    + ["JPEGImages/", "a/b/", "https://x.org/y/", "~/x/"],
)
def test_paths_that_begin_above_the_folder(tmp_path, above):
    names = [f"{above}{name}" for name in ROOT_AND_2024]
    assert list(found(tmp_path, names, ROOT_AND_2024).values()) == list(ROOT_AND_2024)


def test_zeros_before_a_number_belong_to_a_name(tmp_path):
    assert found(tmp_path, ["007", "007.jpg"], ["7.jpg"]) == {"007": None, "007.jpg": None}
    assert found(tmp_path, [7, "8"], ["007.jpg", "08.jpg"]) == {7: "007.jpg", "8": "08.jpg"}
    assert found(tmp_path, [7, "007"], ["7.jpg", "007.jpg"]) == {7: "7.jpg", "007": "007.jpg"}
