"""The folder of a model: what road.json says, what it must not say, and corrections of tags."""

import csv
import json
import threading

import pytest

from tool.errors import InputError
from tool.file.model_folder import correct_tags, read_model_folder

ROAD = {
    "version": 1,
    "classes": ["cat", "dog"],
    "classifier": "classifier.pth",
    "model": "model.pth",
    "scales": [0.5, 1],
    "long_side": None,
    "threshold": 0.5,
}


def _folder(tmp_path, **more):
    (tmp_path / "photographs" / "a").mkdir(parents=True, exist_ok=True)
    (tmp_path / "photographs" / "a" / "x 1.JPG").write_bytes(b"")
    road = ROAD | {"images": str(tmp_path / "photographs")} | more
    (tmp_path / "road.json").write_text(json.dumps(road))
    return tmp_path


def test_paths_and_order(tmp_path):
    sureness = {"a/x 1.JPG": 0.5, "y.png": 0.1, "b/y.png": 0.7}
    masks = {"a/x 1.JPG": "a/x 1.png", "y.png": "../out.png"}
    folder = read_model_folder(_folder(tmp_path, sureness=sureness, masks=masks))
    assert folder.worst_first() == ["y.png", "a/x 1.JPG", "b/y.png"]
    (tmp_path / "photographs" / "link.jpg").symlink_to(tmp_path / "road.json")
    assert folder.photograph("link.jpg").samefile(tmp_path / "road.json")
    assert folder.photograph("a/x 1.JPG") == tmp_path / "photographs" / "a" / "x 1.JPG"
    assert folder.refinement is None
    assert read_model_folder(_folder(tmp_path, refinement="pcm")).refinement == "pcm"
    assert (folder.long_side, folder.scales, folder.min_score) == (None, (0.5, 1.0), {})
    (tmp_path / "masks" / "a").mkdir(parents=True)
    (tmp_path / "masks" / "a" / "x 1.png").write_bytes(b"")
    assert folder.mask("a/x 1.JPG") == tmp_path / "masks" / "a" / "x 1.png"
    with pytest.raises(InputError, match="is not in "):
        folder.mask("y.png")
    with pytest.raises(InputError, match=r"knows no mask of b/y\.png"):
        folder.mask("b/y.png")


def test_a_photograph_is_the_runs_by_its_content(tmp_path):
    names = ["a/x.jpg", "b/y.jpg", "c/z.jpg", "c/copy.jpg", "gone.jpg"]
    road = _folder(tmp_path, sureness={names[0]: 0.5}, masks=dict.fromkeys(names[1:], "m.png"))
    contents = [b"one", b"two", b"three", b"three"]
    for name, content in zip(names[:-1], contents, strict=True):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    folder = read_model_folder(road)

    def dropped(name, content):
        (tmp_path / "upload").mkdir(exist_ok=True)
        (tmp_path / "upload" / name).write_bytes(content)
        return folder.name_of(tmp_path / "upload" / name)

    assert dropped("x.jpg", b"one") == "a/x.jpg"
    assert dropped("x.jpg", b"ONE") is None  # of another camera
    assert dropped("gone.jpg", b"one") == "a/x.jpg"  # renamed
    assert dropped("y.jpg", b"two") == "b/y.jpg"  # without tags
    assert dropped("copy.jpg", b"three") == "c/copy.jpg"
    assert dropped("other.jpg", b"three") is None  # two of the content
    assert dropped("gone.jpg", b"four") is None
    assert folder.namesake("X.jpeg") == "a/x.jpg"
    assert folder.namesake("new.jpg") is None


@pytest.mark.parametrize("name", ["../road.json", "/etc/passwd", "a/../../road.json"])
def test_nothing_outside_is_read(tmp_path, name):
    folder = read_model_folder(_folder(tmp_path))
    with pytest.raises(InputError, match="is not in "):
        folder.photograph(name)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"refinement": ["pcm"]}, r"refinement is none of pcm\+prcm, pcm, prcm, none"),
        ({"threshold": 3}, r"threshold 3 is not in 0\.\.1"),
        ({"threshold": "0.5"}, "threshold is no number"),
        ({"long_side": True}, "long_side is no number"),
        ({"long_side": 0}, r"long_side 0 is not in 1\.\.16384"),
        ({"scales": []}, "scales is no list, or an empty one"),
        ({"scales": "1"}, "scales is no list, or an empty one"),
        ({"scales": [1.0, 0]}, r"scale 0 is not in 0\.01\.\.16"),
        ({"scales": [-1]}, r"scale -1 is not in 0\.01\.\.16"),
        ({"classes": []}, "classes is no list, or an empty one"),
        ({"classes": "cat"}, "classes is no list, or an empty one"),
        ({"sureness": {"a": float("nan")}}, r"sureness nan is not in 0\.\.1"),
        ({"sureness": [1]}, "has no attribute"),
        ({"classes": ["a/b"]}, "has a slash"),
    ],
)
def test_a_damaged_road_is_one_line(tmp_path, more, message):
    with pytest.raises(InputError, match=message) as error:
        read_model_folder(_folder(tmp_path, **more))
    assert "road.json" in str(error.value)


def test_other_folders_and_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"--model: .* has no road\.json; give the folder that"):
        read_model_folder(tmp_path)
    (tmp_path / "road.json").write_text("[1")
    with pytest.raises(InputError, match=r"road\.json is damaged \("):
        read_model_folder(tmp_path)
    (tmp_path / "road.json").write_text("{}")
    with pytest.raises(InputError, match=r"road\.json is damaged \(no entry 'classes'\)"):
        read_model_folder(tmp_path)


def _rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_corrections_are_added_and_replaced(tmp_path):
    path = tmp_path / "corrections.csv"
    assert correct_tags(path, "a, b/ü.jpg", ["cat", "dog"]) == 1
    assert correct_tags(path, "c.jpg", []) == 2
    assert correct_tags(path, "a, b/ü.jpg", ["traffic light"]) == 2
    assert _rows(path) == [
        ["image", "labels"],
        ["a, b/ü.jpg", "traffic light"],
        ["c.jpg", "background"],
    ]


def test_corrections_at_once_are_all_there(tmp_path):
    path = tmp_path / "corrections.csv"
    threads = [
        threading.Thread(target=correct_tags, args=(path, f"{number}.jpg", ["cat"]))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(_rows(path)[1:]) == sorted([f"{number}.jpg", "cat"] for number in range(12))


def test_another_file_is_not_overwritten(tmp_path):
    path = tmp_path / "corrections.csv"
    for content in ("my notes\nmore, of them\n", "image,labels\na,b,c\n"):
        path.write_text(content)
        with pytest.raises(InputError, match="is not a CSV of image,labels"):
            correct_tags(path, "a.jpg", ["cat"])
        assert path.read_text() == content
