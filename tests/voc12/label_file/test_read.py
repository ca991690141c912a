"""Image labels in every form in which people have them: the right rows, or the whole message."""

import codecs
import json
import re

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.run.notes import forget_notes
from voc12.labels import load_labels

NAMES = ("cat", "dog", "tv monitor")
IDS = ["a", "b 2", "c.3", "d"]
LABELS = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=np.float32)
ROWS = LABELS.tolist()


def read(folder, content, name, ids=IDS, classes=NAMES, suffix=""):
    path = folder / name
    if isinstance(content, dict | list) and name.endswith("npy"):
        np.save(path, np.array(content, dtype=object), allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_labels(folder, ids, classes, f"{path}{suffix}")


# ============ dicts ============
@pytest.mark.parametrize(
    "table",
    [
        dict(zip(IDS, LABELS, strict=True)),
        {f"{name}.jpg": row for name, row in zip(IDS, LABELS, strict=True)},
        {f"JPEGImages/{name}.JPEG": row for name, row in zip(IDS, LABELS, strict=True)},
        {f"C:\\photos\\{name}.png": row for name, row in zip(IDS, LABELS, strict=True)},
        {name: row[None] for name, row in zip(IDS, LABELS, strict=True)},
        {name: row.astype(bool) for name, row in zip(IDS, LABELS, strict=True)},
        {name: row.astype(int).tolist() for name, row in zip(IDS, LABELS, strict=True)},
        {"a": ["cat"], "b 2": ["dog", "tv monitor"], "c.3": [], "d": ("dog", "Cat")},
        {"a": "cat", "b 2": "dog;tv monitor", "c.3": "", "d": "cat,dog"},
        {"a": [0], "b 2": [1, 2], "c.3": [], "d": [1, 0]},
        {"a": [1], "b 2": [2, 3], "c.3": [], "d": [1, 2]},
        {"a": np.array([0]), "b 2": np.array([1, 2]), "c.3": [], "d": np.array([0, 1])},
        {"a": 0, "b 2": [1, 2], "c.3": [], "d": [0, 1]},
        {"a": 1.0, "b 2": [2.0, 3.0], "c.3": [], "d": [1, 2]},
        {"a": "1", "b 2": ["2", "3"], "c.3": "", "d": "[1, 2]"},
        {
            "a": np.array(["cat"]),
            "b 2": np.array(["dog", "tv monitor"]),
            "c.3": [],
            "d": "cat,dog",
        },
    ],
)
def test_a_pickled_dict_of_any_kind(tmp_path, table):
    assert read(tmp_path, table, "x.npy").tolist() == ROWS


@pytest.mark.parametrize(
    "content",
    [
        {"a": ["cat"], "b 2": ["dog", "tv monitor"], "c.3": [], "d": ["cat", "dog"]},
        {"a.jpg": [1, 0, 0], "b 2.jpg": [0, 1, 1], "c.3.jpg": [0, 0, 0], "d.jpg": [1, 1, 0]},
        [
            {"file_name": "x/a.jpg", "labels": ["cat"]},
            {"file_name": "x/b 2.jpg", "labels": ["dog", "tv monitor"]},
            {"file_name": "x/c.3.jpg", "labels": []},
            {"file_name": "x/d.jpg", "labels": "cat|dog"},
        ],
        {"a": "cat", "b 2": ["dog", None, "tv monitor"], "c.3": None, "d": ["cat", "dog"]},
        {"a": "cat", "b 2": ["dog", "tv monitor"], "c.3": float("nan"), "d": ["cat", "dog"]},
        {"a": "0", "b 2": "1;2", "c.3": None, "d": "0 1"},
        {"a": ["0"], "b 2": ["1", "2"], "c.3": [], "d": ["0", "1"]},
        {"a": 0.0, "b 2": [1.0, 2.0], "c.3": None, "d": [0.0, 1.0]},
        [
            {"image": "a", "tag1": "cat", "tag2": None},
            {"image": "b 2", "tag1": "dog", "tag2": "tv monitor"},
            {"image": "c.3", "tag1": None, "tag2": None},
            {"image": "d", "tag1": "cat", "tag2": "dog"},
        ],
    ],
)
def test_json(tmp_path, content):
    assert read(tmp_path, content, "x.json").tolist() == ROWS


def test_numbers_of_coco(tmp_path):
    ids = ["COCO_train2014_000000000009", "COCO_train2014_000000000025"]
    table = {9: np.array([1, 0, 0]), 25: np.array([0, 0, 1])}
    assert read(tmp_path, table, "x.npy", ids).tolist() == [[1, 0, 0], [0, 0, 1]]


# ============ tables ============
@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na.jpg,cat\nb 2.jpg,dog;tv monitor\nc.3.jpg,\nd.jpg,cat;dog\n",
        "image,labels\na.jpg,cat\nb 2.jpg,dog|tv monitor\nc.3.jpg,\nd.jpg,cat|dog\n",
        'image,labels\na.jpg,cat\nb 2.jpg,"dog,tv monitor"\nc.3.jpg,\nd.jpg,"cat, dog"\n',
        "image,labels\na.jpg,cat\nb 2.jpg,dog,tv monitor\nc.3.jpg,\nd.jpg,cat,dog\n",
        "image;labels\na.jpg;cat\nb 2.jpg;dog,tv monitor\nc.3.jpg;\nd.jpg;cat,dog\n",
        "a.jpg,cat\nb 2.jpg,dog;tv monitor\nc.3.jpg,\nd.jpg,cat;dog\n",
        "a\tcat\nb 2\tdog, tv monitor\nc.3\t\nd\tcat, dog\n",
        "Tags,File\ncat,a.jpg\ndog;tv monitor,b 2.jpg\n,c.3.jpg\ncat;dog,d.jpg\n",
        "filename,tags\r\nsub/a.JPG,CAT\r\nsub/b 2.jpg,dog;tv monitor\r\nc.3.jpg,\r\nd,cat;dog\r\n",
        "image,labels\na.jpg,cat\na.jpg,cat\nb 2,dog;tv monitor\nc.3,background\nd,cat;dog\n",
        "filename,cat,dog,tv monitor\na.jpg,1,0,0\nb 2.jpg,0,1,1\nc.3.jpg,0,0,0\nd.jpg,1,1,0\n",
        "filename, dog, cat, tv monitor\na, 0, 1, 0\nb 2, 1, 0, 1\nc.3, 0, 0, 0\nd, 1, 1, 0\n",
        "id;tv monitor;cat;dog\na;0;1;0\nb 2;1;0;1\nc.3;0;0;0\nd;0;1;1\n",
        "id,cat,dog,tv monitor\na,True,False,False\nb 2,False,True,True\nc.3,no,no,no\nd,1,1,0\n",
        "id,cat,dog,tv monitor\na,1,-1,-1\nb 2,-1,1,1\nc.3,-1,-1,-1\nd,1,1,-1\n",
        "id,split,cat,dog,tv monitor\na,x,1,0,0\nb 2,x,0,1,1\nc.3,y,0,0,0\nd,y,1,1,0\n",
        "a,0\nb 2,1,2\nc.3\nd,0,1\n",
        "a,1\nb 2,2;3\nc.3,\nd,1;2\n",
        "a,1,0,0\nb 2,0,1,1\nc.3,0,0,0\nd,1,1,0\n",
        "a,0.0\nb 2,1.0;2.0\nc.3,\nd,0.0;1.0\n",
        "a,1.0,0.0,0.0\nb 2,0.0,1.0,1.0\nc.3,0.0,0.0,0.0\nd,1.0,1.0,0.0\n",
        "a,1,-1,-1\nb 2,-1,1,1\nc.3,-1,-1,-1\nd,1,1,-1\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables(tmp_path, text, encoding):
    assert read(tmp_path, text.encode(encoding), "x.csv").tolist() == ROWS


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("a 0\nb 1 2\nc\nd 0 1\n", ""),
        ("a 1\nb 2 3\nc\nd 1 2\n", ""),
        ("JPEGImages/a.jpg 0\nJPEGImages/b.jpg 1 2\nJPEGImages/c.jpg\nJPEGImages/d.jpg 0 1\n", ""),
        ("a 1 0 0\nb 0 1 1\nc 0 0 0\nd 1 1 0\n", ""),
        ("a cat\nb dog owl\nc\nd cat dog\n", ""),
        ("a 1\nb 2\n", ":0"),
    ],
)
def test_lists_with_classes_behind_the_id(tmp_path, text, suffix):
    expected = [[0, 1, 0], [0, 0, 1]] if suffix else ROWS
    ids = ["a", "b"] if suffix else ["a", "b", "c", "d"]
    names = ("cat", "dog", "owl")
    assert read(tmp_path, text, "x.txt", ids, names, suffix).tolist() == expected


def test_numbers_count_from_1_when_told(tmp_path):
    assert read(tmp_path, "a 1\nd 2\n", "x.txt", ["a", "d"], suffix=":1").tolist() == [
        [1, 0, 0],
        [0, 1, 0],
    ]


def test_0_is_no_class_number_where_they_count_from_1(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, "a 1\nd 0\n", "x.txt", ["a", "d"], suffix=":1")
    assert str(error.value) == (
        f"{tmp_path / 'x.txt'} line 2: class number 0; 3 classes have 1..3; where 0 is the "
        "background, write 'background' before the classes of the class list"
    )


def test_classes_that_are_numbers_are_names(tmp_path):
    text = "image,label\na,7\nd,9\n"
    assert read(tmp_path, text, "x.csv", ["a", "d"], ("9", "7")).tolist() == [[0, 1], [1, 0]]


BIRDS = ("cat", "dog", "bird")
BY_LIST = [[1, 0, 0], [0, 1, 0], [0, 0, 0]]  # of numbers 1, 2, 0


@pytest.mark.parametrize(
    "class_list",
    [
        "0: background\n1: cat\n2: dog\n3: bird\n",
        "background\ncat\ndog\nbird\n",
        "__ignore__\n_background_\ncat\ndog\nbird\n",
        "1,cat\n2,dog\n3,bird\n",
        '{"cat": 1, "dog": 2, "bird": 3}',
        "background:0,0,0::\ncat:1,1,1::\ndog:2,2,2::\nbird:3,3,3::\n",
    ],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("n.csv", "image,class_id\na.jpg,1\nb.jpg,2\nc.jpg,0\n"),
        ("n.txt", "a 1\nb 2\nc 0\n"),
        ("n.json", {"a": [1], "b": [2], "c": [0]}),
        ("n.npy", {"a": 1, "b": 2, "c": 0}),
        ("n.csv", "image,0,1,2,3\na,0,1,0,0\nb,0,0,1,0\nc,1,0,0,0\n"),
    ],
)
def test_numbers_count_as_those_of_the_class_list(tmp_path, capsys, class_list, name, content):
    (tmp_path / "classes.txt").write_text(class_list)
    forget_notes()
    assert read(tmp_path, content, name, ["a", "b", "c"], BIRDS).tolist() == BY_LIST
    assert (
        f"{name}: class numbers count from 1, as in the class list, and 0 is no class: 1 is cat\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("class_list", "suffix"),
    [("cat\ndog\nbird\n", ""), ("owl\n", ""), ("0: background\n1: cat\n2: dog\n3: bird\n", ":0")],
)
def test_other_numbers_count_by_themselves_or_as_told(tmp_path, capsys, class_list, suffix):
    (tmp_path / "classes.txt").write_text(class_list)
    forget_notes()
    rows = read(tmp_path, "a 1\nb 2\nc 0\n", "n.txt", ["a", "b", "c"], BIRDS, suffix)
    assert rows.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    said = "" if suffix else "n.txt: class numbers count from 0: 0 is cat\n"
    assert capsys.readouterr().out.endswith(said)
    assert not suffix or "count from" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("heading", "rows"),
    [("1,2,3", BY_LIST[:2]), ("0,1,2", BY_LIST[:2]), ("3,2,1", [[0, 0, 1], [0, 1, 0]])],
)
def test_numbers_above_columns_are_class_numbers(tmp_path, heading, rows):
    text = f"image,{heading}\na,1,0,0\nb,0,1,0\n"
    assert read(tmp_path, text, "n.csv", ["a", "b"], BIRDS).tolist() == rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("n.csv", "image,label\na,0 1\nb,1 0\n"),
        ("n.csv", "a,0,1\nb,1,0\nc,0,1\n"),
        ("n.txt", "a 0 1\nb 1 0\n"),
        ("n.json", {"a": [0, 1], "b": [1, 0]}),
        ("n.json", {"a": [0.0, 1.0], "b": [1.0, 0.0]}),
        ("n.json", {"a": ["0", "1"], "b": ["1", "0"]}),
        ("n.npy", {"a": np.array([0, 1]), "b": np.array([1, 0])}),
    ],
)
def test_one_class_and_the_background_in_columns_are_asked_about(tmp_path, name, content):
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    with pytest.raises(InputError, match="are 1 and 0 class numbers, or a yes and a no of backgro"):
        read(tmp_path, content, name, ["a", "b"], ("cat",))
    assert read(
        tmp_path, {"a": [0, 1], "b": [0]}, name[:1] + ".json", ["a", "b"], ("cat",)
    ).tolist() == [[1], [0]]


@pytest.mark.parametrize(("name", "said"), [("x.txt", None), ("cat_train.txt", 1)])
def test_vocs_file_of_a_class(tmp_path, capsys, name, said):
    text, ids = "a  1\nb -1\nc  1\n", ["a", "b", "c"]
    assert read(tmp_path, text, name, ids, ("cat",)).tolist() == [[1], [0], [1]]
    text = text.replace("c  1", "c  0")
    forget_notes()
    if said is None:
        with pytest.raises(InputError, match=r"x.txt: what is 0 beside 1 and -1\? Write 1 or -1"):
            read(tmp_path, text, name, ids, ("cat",))
    else:
        assert read(tmp_path, text, name, ids, ("cat",)).tolist() == [[1], [0], [1]]
        expected = (
            "cat_train.txt: 0, difficult objects alone, is taken for 1, as --labels xml does\n"
        )
        assert expected in capsys.readouterr().out


# ============ folders ============
def test_one_folder_a_class(tmp_path):
    root = tmp_path / "photos"
    for place in ("cat/a.jpg", "dog/x/b 2.PNG", "tv monitor/b 2.PNG", "background/c.3.jpg"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / place)
    (root / "dog" / "notes.txt").touch()
    assert load_labels(tmp_path, IDS[:3], NAMES, root).tolist() == ROWS[:3]
    Image.new("RGB", (3, 3)).save(root / "cat" / "b 2.jpg")
    with pytest.raises(
        InputError, match=re.escape(f"{root / 'dog/x/b 2.PNG'} are two photographs")
    ):
        load_labels(tmp_path, IDS[:3], NAMES, root)
    (root / "zebra").mkdir()
    (root / "cat" / "b 2.jpg").unlink()
    with pytest.raises(InputError, match=re.escape(f"{root / 'zebra'}: 'zebra' is not in the")):
        load_labels(tmp_path, IDS[:3], NAMES, root)


def test_linked_folders_of_classes_are_followed(tmp_path, capsys):
    store, root = tmp_path / "store", tmp_path / "photos"
    for place in (store / "whiskers" / "a.jpg", root / "dog" / "d.jpg"):
        place.parent.mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(place)
    (root / "cat").symlink_to(store, target_is_directory=True)
    (root / "dog" / "gone").symlink_to(tmp_path / "nowhere")
    (root / "@eaDir").mkdir()
    rows = load_labels(tmp_path, ["a", "d"], NAMES, root).tolist()
    assert rows == [[1, 0, 0], [0, 1, 0]]
    said = capsys.readouterr().out
    assert f"{root / 'dog'}: 1 links lead nowhere" in said
    assert f"{root}: folder @eaDir of a system is left out\n" in said


def test_a_folder_of_annotations_and_one_of_nothing(tmp_path):
    root = tmp_path / "xml"
    root.mkdir()
    with pytest.raises(InputError, match=re.escape(f"{root} has no subfolder of a class; image")):
        load_labels(tmp_path, ["a"], NAMES, root)
    (root / "a.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    assert load_labels(tmp_path, ["a"], NAMES, root).tolist() == [[0, 1, 0]]


# ============ what is wrong ============
@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("a,zebra\n", "x.csv", "x.csv line 1: 'zebra' is not in the class list (cat, dog, tv mon"),
        (
            'a,"zebra\nowl"\n',
            "x.csv",
            "line 2: 'zebra\\nowl' is not in the class list (cat, dog, tv",
        ),
        ("a,cats\n", "x.csv", "(cat, dog, tv monitor); did you mean 'cat'?"),
        (
            "a,cat\na.jpg,dog\n",
            "x.csv",
            "line 1 and {path} line 2 say different things of a; leave",
        ),
        ("a 1\n", "x.txt", "class numbers with neither 0 nor 3 for 3 classes can count from 0,"),
        (
            "a 1\n",
            "x.txt",
            "from 0, where 0 is cat, or from 1; give {path}:0 or {path}:1 as the file",
        ),
        (
            "a 0 3\n",
            "x.txt",
            "class numbers with 0 and 3 for 3 classes do not fit them; "
            "where 0 is the background, write 'background' before the classes of the class list",
        ),
        ("image,1,2\na,1,0\n", "x.csv", "class numbers with neither 0 nor 3 for 3 classes can"),
        ("image,0,1\na,1,0\n", "x.csv", "line 1: no column for class number 2, tv monitor; add it"),
        ("a 7\n", "x.txt", "line 1: class number 7; 3 classes have 0..2"),
        ("id,cat,dog\na,1,0\n", "x.csv", "line 1: no column for class 'tv monitor'; add it"),
        ("id,cat,dog,tv monitor\na,1,0,2\n", "x.csv", "class 'tv monitor' has '2'; give 0 or 1"),
        ("id,cat,dog,tv monitor\na,1,0\n", "x.csv", "line 2: 3 fields, the header has 4"),
        ("id,cat,dog,tv monitor,owl\na,1,0,0,1\n", "x.csv", "line 1: 'owl' is not in the class"),
        ("x,cat\ny,dog\n", "x.csv", "has no label of the 1 images, first a; its first line is"),
        (";", "x.csv", "has no label of the 1 images, first a; its first line is ';'; "),
        ("sep=;", "x.csv", "has no label of the 1 images, first a; its first line is 'sep=;'; "),
        ("", "x.csv", "is empty; give a line for each image"),
        (
            b"a,c\xe4t\n",
            "x.csv",
            "is not a text file: byte 3 is not UTF-8; give UTF-8 text",
        ),
        (b"a,cat\0\n", "x.csv", "is no text: it has a NUL character; image labels are a file"),
        (codecs.BOM_UTF16_LE + b"a\0,", "x.csv", "is not a text file: byte 4 is not UTF-16"),
        ("{", "x.json", "is no JSON: "),
        ("[" * 100_000, "x.json", "is no JSON: "),
        ("3", "x.json", "holds no labels: an object or a list of objects is needed"),
        ('{"a": ["cat"], "a": ["dog"]}', "x.json", "says different things of 'a'; leave one"),
        ('[{"image": "a"}]', "x.json", "entry 1: no object with an image (image, filename, file"),
        (
            '{"images": [], "annotations": []}',
            "x.json",
            "instances as COCO's; convert it to labels",
        ),
        ('{"a": [NaN, 0, 1]}', "x.json", "the label of a has values other than 0 and 1: [nan, 0"),
        ('{"a": [[1], [2, 3]]}', "x.json", "the label of a has shape () and type object; give a"),
        ('{"a": [null, 1]}', "x.json", "the label of a has shape (2,) and type object; give a mu"),
        ("image;label\na;1,0\nb;2,0\n", "x.csv", "is '2,0' the number 2 with a decimal comma, or"),
        ('image,label\na,"1,0"\nb,"0,0"\n', "x.csv", "is '1,0' the number 1 with a decimal comma"),
        ("a 1,0\nb 2,00\n", "x.txt", "or the classes 2 and 0? Write 2 for the one, '2 0' for the"),
    ],
)
def test_errors_are_one_line_that_names_the_culprit(tmp_path, content, name, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, content, name, ["a"])
    assert message.replace("{path}", str(tmp_path / name)) in str(error.value)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("image,label,class\n{0},car,1\n{1},van,2\n", "labels.csv"),
        ("image,car,van,tags\n{0},1,0,car\n{1},0,1,van\n", "labels.csv"),
        ("cat,{0},dog\ncat,{1},dog\n", "labels.csv"),
        ("{0},train,car\n{1},val,van\n", "labels.csv"),
        (
            '[{{"image": "{0}", "label": "car", "class": 1}}, '
            '{{"image": "{1}", "label": "van", "class": 2}}]',
            "labels.json",
        ),
        (
            '[{{"image": "{0}.jpg", "file": "{1}.jpg", "label": "car"}}, '
            '{{"image": "{1}.jpg", "file": "{0}.jpg", "label": "van"}}]',
            "labels.json",
        ),
    ],
)
def test_messages_name_no_flag_that_only_masks_from_tags_has(tmp_path, content, name):
    with pytest.raises(InputError) as error:
        read(tmp_path, content.format("a", "d"), name, ["a", "d"], ("car", "van", "cat", "dog"))
    assert "_column" not in str(error.value)
    assert "give" not in str(error.value)


def test_a_field_with_two_readings_is_refused(tmp_path):
    names = ("tv", "monitor", "tv monitor")
    with pytest.raises(InputError, match=re.escape("line 1: 'tv monitor' can be read as ")):
        read(tmp_path, "a,tv monitor\n", "x.csv", ["a"], names)


def test_0_and_1_behind_the_id_of_two_classes_are_refused(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, "a 0 1\nb 1 0\n", "x.txt", ["a", "b"], ("cat", "dog"))
    assert "can be read as class numbers behind the image, parted by spaces, and as 0 or 1" in str(
        error.value
    )


def test_a_bomb_is_quoted_in_short(tmp_path):
    for text in ("a," + "x" * 100_000, "a," + "x" * 200_000, "a," + ",".join("x" * 50_000)):
        with pytest.raises(InputError) as error:
            read(tmp_path, text, "x.csv", ["a"])
        assert len(str(error.value)) < 600 + len(str(tmp_path))
