"""Which column of a table names the photographs, and which hold their tags: as its headings say, as
a user says, or one line that asks.
"""

import codecs
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.model_folder import correct_tags
from tool.file.photographs import Photograph
from tool.run.notes import forget_notes
from voc12.class_list import ClassList
from voc12.label_file.tables import Chosen
from voc12.labels import load_labels
from voc12.own_tags import read_tags

LETTERS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
NUMBERS = ("1.jpg", "2.jpg", "3.jpg", "4.jpg")


def tags(folder, table, names=LETTERS, name="tags.csv", given=None, image=None, columns=()):
    """photograph -> its tags, of those of which the table says something."""
    photographs = [
        Photograph(folder / "photos" / one, Path(one).stem, folder, Path(one).parent)
        for one in names
    ]
    path = folder / name
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    forget_notes()
    chosen, given = Chosen(image, tuple(columns), by_flags=True), given and ClassList(tuple(given))
    classes, labels, labelled = read_tags(
        str(path), photographs, np.arange(len(names)), given, folder / "photos", chosen
    )
    return {
        one: " ".join(c for c, hot in zip(classes, row, strict=True) if hot)
        for one, row, said in zip(names, labels, labelled, strict=True)
        if said
    }


AB = {"a.jpg": "cat", "b.jpg": "dog"}


@pytest.mark.parametrize(
    ("table", "left_out"),
    [
        ("image,label,split\na.jpg,cat,train\nb.jpg,dog,val\n", "split"),
        ("image,split,label\na.jpg,train,cat\nb.jpg,val,dog\n", "split"),
        ("filename,class,width,xmin\na.jpg,cat,5,1\nb.jpg,dog,6,2\n", "width, xmin"),
        ("n,x,y,Image Name,Label\n1,2,3,a.jpg,cat\n1,2,3,b.jpg,dog\n", "n, x, y"),
        ("photo;keywords;rating\na.jpg;cat;4\nb.jpg;dog;5\n", "rating"),
        ("id,photo,label\n1,a.jpg,cat\n2,b.jpg,dog\n", "id"),
        ("Unnamed: 0,image,label\n0,a.jpg,cat\n1,b.jpg,dog\n", "Unnamed: 0"),
        ("image,tags,was\na.jpg,cat,7\nb.jpg,dog,\n", "was"),
        ("image,tags,class_id\na.jpg,cat,0\nb.jpg,dog,1\n", "class_id"),
        ("image,tags,is_test\na.jpg,cat,0\nb.jpg,dog,1\nb.jpg,dog,0\n", "is_test"),
        ("image,tags,IsOccluded\na.jpg,cat,0\na.jpg,cat,1\nb.jpg,dog,1\n", "IsOccluded"),
        ("image,label,present\na.jpg,cat,1\nb.jpg,dog,1\n", "present"),
    ],
)
def test_columns_that_hold_no_tags_are_left_out_with_a_line(tmp_path, capsys, table, left_out):
    assert tags(tmp_path, table) == AB
    assert f"left out: {left_out}\n" in capsys.readouterr().out
    labels = load_labels(tmp_path, ["a", "b"], ("cat", "dog"), tmp_path / "tags.csv")
    assert labels.tolist() == [[1, 0], [0, 1]]


def test_tags_under_the_name_of_a_class(tmp_path):
    assert tags(tmp_path, "image,cat\na.jpg,cat\nb.jpg,none\n") == {"a.jpg": "cat", "b.jpg": ""}


BOTH = {"a.jpg": "cat dog", "b.jpg": "dog"}


@pytest.mark.parametrize(
    "table",
    [
        "image,tag1,tag2\na.jpg,cat,dog\nb.jpg,dog,\n",
        "image,label_1,label_2\na.jpg,cat,dog\nb.jpg,dog\n",
        "image,tags,tags\na.jpg,cat,dog\nb.jpg,dog,\n",
        "image,was 1,was 2\na.jpg,cat,dog\nb.jpg,dog,\n",
        "image,labels,,\na.jpg,cat,dog,\nb.jpg,dog,,\n",
        "image,labels\na.jpg,cat,dog\nb.jpg,dog\n",
        "a.jpg,cat,dog\nb.jpg,dog\n",
        "gone.jpg,cat,dog\na.jpg,cat,dog\nb.jpg,dog\n",
        "gone,cat,dog\na,cat,dog\nb,dog\n",
        "A.JPG,cat,dog\nB.JPG,dog\n",
        "tags,image\ncat;dog,a.jpg\ndog,b.jpg\n",
        "cat;dog,a.jpg\ndog,b.jpg\n",
        "1,a.jpg,cat,dog\n2,b.jpg,dog\n",
        "name,image\ncat;dog,a.jpg\ndog,b.jpg\n",
        "tags,\ncat;dog,a.jpg\ndog,b.jpg\n",
        "tags;image\n['cat', 'dog'];x/a.jpg\n['dog'];x/b.jpg\n",
        "File Name\ttag1\ttag2\na.jpg\tcat\tdog\nb.jpg\tdog\t\n",
        "sep=;\r\nimage;tags\r\na.jpg;cat,dog\r\nb.jpg;dog\r\n",
        '"sep=\t"\nimage\ttags\na.jpg\tcat;dog\nb.jpg\tdog\n',
        codecs.BOM_UTF16_LE + "SEP=;;\nimage;tags\na.jpg;cat,dog\nb.jpg;dog\n".encode("utf-16-le"),
        "image,tags\na.jpg,\"['cat', 'dog']\"\nb.jpg,\"['dog']\"\nc.jpg,[]\n",
        "image,tags\na.jpg,['cat', 'dog']\nb.jpg,['dog']\n",
        'image,tags\na.jpg,"[""cat"", ""dog""]"\nb.jpg,"[""dog""]"\n',
        'image,choice\na.jpg,"{""choices"": [""cat"",""dog""]}"\nb.jpg,dog\n',
        "image,tags\na.jpg,cat;dog\nb.jpg,dog\nc.jpg,nan\nd.jpg,NaN\n",
        "image,cat,dog\na.jpg,y,y\nb.jpg,n,y\nc.jpg,,\n",
        "image,cat,dog\na.jpg,YES,yes\nb.jpg,no,yes\n",
        "image,cat,dog\na.jpg,x,x\nb.jpg,,x\nc.jpg,,\n",
        "image,cat,dog\na.jpg,true,true\nb.jpg,false,true\n",
        "image,cat,dog\na.jpg,1.0,1.0\nb.jpg,nan,1.0\n",
        "image,cat,dog\na.jpg,1,1\nb.jpg,,1\n",
        "image,cat,dog\na.jpg,1,1\nb.jpg,0,1\nc.jpg,,\n",
        "image,cat,dog\na.jpg,X,x\nb.jpg,-,x\n",
    ],
)
def test_all_tags_are_read(tmp_path, table):
    assert tags(tmp_path, table) == BOTH
    if "A.JPG" not in str(table):  # ids are compared with their capitals
        labels = load_labels(tmp_path, ["a", "b"], ("cat", "dog"), tmp_path / "tags.csv")
        assert labels.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("photo,tag1,tag2\na.jpg,cat,7\nb.jpg,dog,\n", {"a.jpg": "7 cat", "b.jpg": "dog"}),
        ("photo,tag1,tag2\na.jpg,cat,x\nb.jpg,dog,\n", {"a.jpg": "cat x", "b.jpg": "dog"}),
        ("photo,tag1,tag2\na.jpg,cat,train\nb.jpg,dog,test\n", None),
        (",7,cat\na.jpg,yes,no\nb.jpg,no,yes\n", {"a.jpg": "7", "b.jpg": "cat"}),
        ("photo,letter\na.jpg,x\nb.jpg,y\n", {"a.jpg": "x", "b.jpg": "y"}),
    ],
)
def test_columns_that_are_called_tags_hold_any(tmp_path, table, expected):
    expected = expected or {"a.jpg": "cat train", "b.jpg": "dog test"}
    assert tags(tmp_path, table) == expected


@pytest.mark.parametrize(
    ("table", "flags", "expected"),
    [
        ("image,label,class\na.jpg,cat,3\nb.jpg,dog,4\n", {"columns": ["Label"]}, AB),
        ("image,when,what\na.jpg,1,cat\nb.jpg,2,dog\n", {"columns": ["what"]}, AB),
        ("foto;wann;was\na.jpg;1;cat\nb.jpg;2;dog\n", {"columns": ["was"], "image": "foto"}, AB),
        ("a.jpg,train,cat\nb.jpg,val,dog\n", {"columns": ["3"]}, AB),
        ("a.jpg,cat,train,dog\nb.jpg,dog,val,dog\n", {"columns": ["2", "4"]}, BOTH),
        ("image,cat,dog,ok\na.jpg,1,1,1\nb.jpg,0,1,0\n", {"columns": ["cat", "dog"]}, BOTH),
    ],
)
def test_flags_say_which_columns(tmp_path, table, flags, expected):
    assert tags(tmp_path, table, **flags) == expected


PERMUTED = {"1.jpg": "dog", "2.jpg": "cat"}


@pytest.mark.parametrize(
    "head", ["id,photo,label", "id,image,label", ",filename,label", "name,File,label"]
)
def test_a_number_a_row_is_no_photograph_where_a_column_is_called_so(tmp_path, head):
    """1.jpg is not the photograph of the first row."""
    assert tags(tmp_path, f"{head}\n1,2.jpg,cat\n2,1.jpg,dog\n", NUMBERS) == PERMUTED
    assert tags(tmp_path, "1,2.jpg,cat\n2,1.jpg,dog\n", NUMBERS) == PERMUTED


@pytest.mark.parametrize("head", ["id,foto,label", "file,image,label", "nr,bild,tags"])
def test_two_columns_that_may_both_name_photographs_are_asked_about(tmp_path, head):
    table = f"{head}\n1,2.jpg,cat\n2,1.jpg,dog\n"
    first, second, _ = head.split(",")
    with pytest.raises(InputError) as error:
        tags(tmp_path, table, NUMBERS)
    assert str(error.value) == (
        f"{tmp_path / 'tags.csv'}: column 1, '{first}', and column 2, '{second}', both name "
        "photographs, and not the same (line 2: '1' and '2.jpg'); call the right one 'image', or "
        "give --image_column"
    )
    assert tags(tmp_path, table, NUMBERS, image=second) == PERMUTED
    assert tags(tmp_path, table, NUMBERS, image=first) == {"1.jpg": "cat", "2.jpg": "dog"}
    with pytest.raises(InputError, match="both name photographs"):
        load_labels(tmp_path, ["1", "2"], ("cat", "dog"), tmp_path / "tags.csv")


def test_two_columns_of_numbers_without_a_heading_are_asked_about(tmp_path):
    with pytest.raises(InputError, match="column 1 and column 2 both name photographs, and not"):
        tags(tmp_path, "1,2,cat\n2,3,dog\n3,4,cat\n4,1,dog\n", NUMBERS)
    (tmp_path / "x.txt").write_text("1 2\n2 1\n3 2\n4 0\n")  # class numbers
    labels = load_labels(tmp_path, ["1", "2", "3", "4"], ("a", "b", "c"), tmp_path / "x.txt")
    assert labels.argmax(axis=1).tolist() == [2, 1, 2, 0]


def test_two_columns_that_name_the_same_photographs_are_no_question(tmp_path):
    table = "id,file,path,label\n1,1.jpg,x/1.jpg,cat\n2,2.jpg,x/2.jpg,dog\n"
    assert tags(tmp_path, table, NUMBERS) == {"1.jpg": "cat", "2.jpg": "dog"}


def test_classes_and_values_that_are_called_as_photographs_are(tmp_path):
    names = ("0.jpg", "1.jpg", "cat.jpg", "image.jpg")
    table = "id,cat,dog\n0,1,0\n1,0,1\ncat,1,1\nimage,0,0\n"
    expected = {"0.jpg": "cat", "1.jpg": "dog", "cat.jpg": "cat dog", "image.jpg": ""}
    assert tags(tmp_path, table, names) == expected
    assert tags(tmp_path, "image,tags\nimage.jpg,cat\n0,dog\n", names) == {
        "image.jpg": "cat",
        "0.jpg": "dog",
    }
    assert tags(tmp_path, "cat.jpg,dog\n0.jpg,cat\n", names) == {"cat.jpg": "dog", "0.jpg": "cat"}


def test_the_first_row_is_a_photograph_in_any_spelling(tmp_path):
    names = ("gr\u00fcn.jpg", "b.jpg")
    assert tags(tmp_path, "gru\u0308n.jpg,cat\nB.jpg,dog\n", names) == {
        "gr\u00fcn.jpg": "cat",
        "b.jpg": "dog",
    }


def test_one_name_in_two_spellings_of_unicode_is_one_class(tmp_path):
    table = "image,tags\na.jpg,gr\u00fcn\nb.jpg,gru\u0308n\nc.jpg,dog\n"
    assert tags(tmp_path, table) == {"a.jpg": "gr\u00fcn", "b.jpg": "gr\u00fcn", "c.jpg": "dog"}
    assert tags(tmp_path, table, given=("dog", "gru\u0308n"))["a.jpg"] == "gru\u0308n"


def test_what_is_taken_for_no_tag_is_said(tmp_path, capsys):
    table = "image,tags\na.jpg,cat\nb.jpg,nan\nc.jpg,dog\n"
    assert "b.jpg" not in tags(tmp_path, table)
    assert "tags.csv: 'nan' is taken for no tag; where it is a class" in capsys.readouterr().out
    assert tags(tmp_path, table, given=("cat", "dog", "nan"))["b.jpg"] == "nan"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label,class\na.jpg,cat,3\nb.jpg,dog,4\n", "which of the columns label, class has"),
        (
            "image,label,present\na.jpg,cat,1\nb.jpg,dog,0\n",
            "does 'present' say no of some labels?",
        ),
        ("image,label,Correct\na.jpg,cat,yes\nb.jpg,dog,no\n", "does 'Correct' say no of some lab"),
        ("image,label,da\na.jpg,cat,1\nb.jpg,dog,1\nc.jpg,cat,0\n", "'da' say no of some labels?"),
        ("image,cat,dog\na.jpg,0.9,0.1\nb.jpg,0.2,1\n", "'0.1' in cat, dog is no yes or no; write"),
        ("image,cat\na.jpg,0.9\nb.jpg,0.2\n", "'0.2' in cat is no yes or no; write 1 or 0 there"),
        ("image,cat\na.jpg,cat\nb.jpg,no\n", "is 'no' a class? Where a photograph shows none of "),
        ("image,split\na.jpg,train\nb.jpg,val\n", "are its tags train, val classes? They are cal"),
        ("image,label,category\na.jpg,cat,x\nb.jpg,dog,x\n", "which of the columns label, categ"),
        ("image,labels,cat,dog\na.jpg,cat,1,0\nb.jpg,dog,0,1\n", "which has the tags, column 'lab"),
        ("a.jpg,cat,train\nb.jpg,dog,val\n", "does column 3 hold tags? It has train, val; take"),
        ("a.jpg,cat,0.9\nb.jpg,dog,0.8\n", "does column 3 hold tags? It has 0.8, 0.9; take it"),
        ("a.jpg,cat,train\nb.jpg,dog,train\n", "does column 3 hold tags? It has train; take it"),
        ("a.jpg,x,-,cat\nb.jpg,-,x,dog\n", "does column 2 hold tags? It has -, x; take it out"),
        ("a.jpg,['cat'],anna\nb.jpg,['dog'],bob\n", "does column 3 hold tags? It has anna, bob"),
        ("a.jpg,0.9\nb.jpg,0.8\n", " has numbers for classes (0.8, 0.9, ...); give their names"),
        ("cat,a.jpg,x1\ndog,b.jpg,x2\n", "which columns hold the tags? Column 2 names the"),
        ("cat,owl,a.jpg\ndog,,b.jpg\n", "which columns hold the tags? Column 3 names the"),
        ("image,label\na.jpg,cat,0.9\nb.jpg,dog,0.8\n", "does column 3 hold tags? It has 0.8, 0"),
        ("image,labels,split\na.jpg,cat,dog,val\nb.jpg,dog,val\n", " line 2: 4 fields, the head"),
        ("image,cat,dog\na.jpg,1,\nb.jpg,0,1\n", " line 2: nothing is said of class 'dog'; write"),
        ("image,label\na.jpg,yes\nb.jpg,no\n", " has no, yes for tags: of which class? Call the"),
        ("image;tags\na.jpg;[cat, dog]\nb.jpg;[dog]\n", " line 2: '[cat, dog]' is no list of name"),
        ("image,tags\na.jpg,\"{'cat': 1}\"\nb.jpg,dog\n", " line 2: '{'cat': 1}' is no list of"),
    ],
)
def test_what_has_two_meanings_is_asked(tmp_path, table, message):
    with pytest.raises(InputError) as error:
        tags(tmp_path, table)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "tags.csv"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"columns": ["score"]}, "'0.5' in score is no yes or no; write 1 or 0 there: from which"),
        ({"columns": ["what"]}, "has no column 'what' for --tag_columns; it has image, tags, sc"),
        ({"image": "4"}, "has no column '4' for --image_column; it has image, tags, s"),
        ({"columns": ["image"]}, "--tag_columns names column 1, 'image', that of the photographs"),
    ],
)
def test_columns_that_are_not_there(tmp_path, flags, message):
    with pytest.raises(InputError) as error:
        tags(tmp_path, "image,tags,score\na.jpg,cat,0.5\nb.jpg,dog,1\n", **flags)
    assert message in str(error.value)


def test_corrections_are_read_back(tmp_path):
    classes = ("cat, black", "dog", "[owl]", "a b", "(x)")
    for name, row in (("a.jpg", classes), ("b.jpg", ()), ("c.jpg", ("dog", "a b"))):
        correct_tags(tmp_path / "tags.csv", name, row)
    table = (tmp_path / "tags.csv").read_text()
    said = tags(tmp_path, table, given=classes)
    assert said == {"a.jpg": " ".join(classes), "b.jpg": "", "c.jpg": "dog a b"}


@pytest.mark.parametrize(
    ("table", "number", "row"),
    [
        ("Photo tags 2024;;\nimage;cat;dog\na.jpg;1;0\nb.jpg;0;1\n", 2, "image, cat, dog"),
        ("Photo tags 2024\nimage;cat;dog\na.jpg;1;0\nb.jpg;0;1\n", 2, "image, cat, dog"),
        ("Photos,,\n\nimage,tags,notes\na.jpg,cat,nice\nb.jpg,dog,\n", 3, "image, tags, notes"),
        ("# ours\n# of 2024\nimage,tags\na.jpg,cat\nb.jpg,dog\n", 3, "image, tags"),
        ("Our tags,\ntags,photo\ncat,a.jpg\ndog,b.jpg\n", 2, "tags, photo"),
        ("Our photographs\nid,label\na,cat\nb,dog\n", 2, "id, label"),
    ],
)
def test_what_stands_above_the_heading_is_refused(tmp_path, table, number, row):
    expected = f"tags.csv line {number}: the heading is here, '{row}'; remove what is above it"
    for given in (None, ("cat", "dog")):
        with pytest.raises(InputError, match=re.escape(expected)):
            tags(tmp_path, table, given=given)


def test_an_image_that_is_called_as_a_column_is_no_heading(tmp_path):
    table = "gone.jpg,cat\nimage.jpg,dog\nimage,dog\na,cat\n"
    assert tags(tmp_path, table) == {"a.jpg": "cat"}
    assert tags(tmp_path, "a.jpg,image\nb.jpg,photo\n") == {"a.jpg": "image", "b.jpg": "photo"}


@pytest.mark.parametrize("last", ["Total,2", "2 photographs,owl", ",cat;owl"])
def test_a_class_that_no_photograph_has_is_refused(tmp_path, last):
    table = f"image,tags\na.jpg,cat\nb.jpg,dog\n{last}\n"
    key, name = last.split(",")[0], last.replace(";", ",").split(",")[-1]
    with pytest.raises(InputError) as error:
        tags(tmp_path, table)
    assert str(error.value) == (
        f"{tmp_path / 'tags.csv'} line 4: '{key}' names no photograph, and no photograph has the "
        f"tag '{name}'; remove the line, or give the classes by --classes FILE"
    )
    assert tags(tmp_path, table.replace(name, "dog")) == AB
    gone = table.replace(last, f"gone.jpg,{name}")
    assert name == "2" or tags(tmp_path, gone) == AB


# ============ JSON, by the same rules ============
def records(*rows):
    return json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]])


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (records(("id", "photo", "label"), (1, "2.jpg", "cat"), (2, "1.jpg", "dog")), {}),
        (
            records(("id", "foto", "was"), (1, "2.jpg", "cat"), (2, "1.jpg", "dog")),
            {"image": "foto", "columns": ["was"]},
        ),
        (records(("image", "tag1", "tag2"), ("2", "cat", ""), ("1", "", "dog")), {}),
        (records(("image", "choice"), ("2", {"choices": ["cat"]}), ("1", "['dog']")), {}),
        (json.dumps({"2.jpg": {"choices": ["cat"]}, "1.jpg": '["dog"]'}), {}),
    ],
)
def test_json(tmp_path, content, flags):
    assert tags(tmp_path, content, NUMBERS, "tags.json", **flags) == PERMUTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records(("id", "foto", "label"), (1, "2.jpg", "cat")), "entry 1: which of id, foto names"),
        (records(("file", "image", "tag"), ("1", "2", "x")), "entry 1: which of file, image names"),
        (records(("image", "label", "class"), ("1", "cat", "x")), "entry 1: which of label, class"),
        (
            records(("image", "label", "present"), ("1", "cat", True), ("2", "dog", False)),
            "does 'present' say no of some labels? It has false, true, and is not read; take out",
        ),
    ],
)
def test_json_with_two_meanings_is_asked(tmp_path, content, message):
    with pytest.raises(InputError) as error:
        tags(tmp_path, content, NUMBERS, "tags.json")
    assert message in str(error.value)


def test_flags_of_columns_are_for_tables(tmp_path):
    with pytest.raises(InputError, match="--tag_columns are for tables"):
        tags(tmp_path, '{"a": "cat", "b": "dog"}', name="tags.json", columns=["2"])


# ============ lists of ids that are numbers ============
def test_zeros_before_a_number_belong_to_a_name(tmp_path):
    (tmp_path / "x.csv").write_text("image,labels\n007,cat\n7,dog\n08,cat\n")
    labels = load_labels(tmp_path, ["007", "7"], ("cat", "dog"), tmp_path / "x.csv")
    assert labels.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match="has no label of the 1 images, first 8;"):
        load_labels(tmp_path, ["8"], ("cat", "dog"), tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("image,labels\n7,dog\n8,cat\n")  # Excel takes the zeros away
    labels = load_labels(tmp_path, ["007", "008"], ("cat", "dog"), tmp_path / "x.csv")
    assert labels.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InputError, match="has no image label for 1 of 2 images: 007;"):
        load_labels(tmp_path, ["007", "7"], ("cat", "dog"), tmp_path / "x.csv")
