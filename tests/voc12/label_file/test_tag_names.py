"""Class names that a file of labels uses."""

import json

import numpy as np
import pytest

from tool.errors import InputError
from voc12.label_file.tag_names import tag_names


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("a.csv", "image,tags\na.jpg,cat\nb.jpg,dog;traffic light\n", "cat dog traffic light"),
        ("a.csv", 'image,tags\na.jpg,"cat, dog"\nb.jpg,\n', "cat dog"),
        ("a.tsv", "a\tcat|dog\nb\tnone\n", "cat dog"),
        ("a.txt", "a cat dog\nb owl\n", "cat dog owl"),
        ("a.csv", "image,cat,owl\na.jpg,1,0\nb.jpg,0,1\n", "cat owl"),
        ("a.csv", "image,cat\na.jpg,1\nb.jpg,0\n", "cat"),
        ("a.csv", "a.jpg,cat,dog\nb.jpg,owl\n", "cat dog owl"),
        ("a.json", json.dumps({"a": ["cat", "dog"], "b": "owl; background"}), "cat dog owl"),
        ("a.json", json.dumps([{"image": "a", "labels": ["cat"]}]), "cat"),
    ],
)
def test_names_of_every_form(tmp_path, name, content, names):
    (tmp_path / name).write_text(content)
    expected = names.replace("traffic light", "traffic_light").split()
    assert [one.replace(" ", "_") for one in tag_names(tmp_path / name, ["a", "b"])] == expected


def test_names_of_folders_and_pickled_lists(tmp_path):
    for name in ("cat", "dog", "background", ".hidden"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    assert tag_names(tmp_path / "photos", ["a"]) == ("cat", "dog")
    np.save(tmp_path / "a.npy", {"a": ["owl"], "b": ["cat"]}, allow_pickle=True)
    assert tag_names(tmp_path / "a.npy", ["a"]) == ("cat", "owl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 0\nb 1\n", "has numbers for classes"),
        ("x.jpg,cat\n", "names none of the 2 photographs, e.g. 'a'"),
        ("image,when,what\na.jpg,monday,cat\n", "which of the columns image, when, what"),
        (
            "foto;wann;was\na.jpg;montag;katze\n",
            "which of the columns foto, wann, was has the tags",
        ),
        ("a.jpg,cat dog\nb.jpg,cat\nc.jpg,dog\n", "is 'cat dog' one class, or cat and dog"),
    ],
)
def test_what_has_several_meanings_is_asked(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        tag_names(tmp_path / "a.csv", ["a", "b"])


def test_vectors_need_a_class_list(tmp_path):
    np.save(tmp_path / "a.npy", {"a": np.eye(2)[0]}, allow_pickle=True)
    with pytest.raises(InputError, match="give their names by --classes"):
        tag_names(tmp_path / "a.npy", ["a"])
