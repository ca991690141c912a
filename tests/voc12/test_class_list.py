"""Class lists in every form in which people have them: the names, what is said, or why not."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tool.errors import InputError
from tool.names import name_fault
from tool.run.notes import forget_notes
from voc12.class_list import (
    class_list_text,
    has_class_list,
    load_class_list,
    mask_colours,
    write_class_list,
)
from voc12.constants import CLASSES


def read(folder, text, name="classes.txt"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    forget_notes()
    return load_class_list(path)


def test_sources(tmp_path):
    assert load_class_list(None) == load_class_list(tmp_path) == CLASSES
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n\r\ntraffic light \r\n")
    assert load_class_list(path) == load_class_list(tmp_path) == ("cat", "traffic light")


@pytest.mark.parametrize("name", ["labelmap.txt", "class_names.txt", "_classes.csv"])
def test_a_folder_has_a_list_of_another_tool(tmp_path, name):
    read(tmp_path, "_background_\ncat\ndog\n", name)
    assert load_class_list(tmp_path) == ("cat", "dog")
    read(tmp_path, "owl\n")  # our own comes first
    assert load_class_list(tmp_path) == ("owl",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_background_\ncat\ndog\n", "left out _background_"),
        ("__ignore__\n_background_\ncat\ndog\n", "left out __ignore__ and _background_"),
        ("__background__\ncat\ndog\n", "left out __background__"),
        ("background\ncat\ndog\n", "left out background"),
        ("BACKGROUND\ncat\ndog\n", "left out BACKGROUND"),
        ("cat\ndog\n__ignore__\n", "left out __ignore__"),
        ("__ignore__\ncat\ndog\n", "left out __ignore__"),
        ("1 cat\n2 dog\n", "read by its numbers"),
        ("1: cat\n2: dog\n", "read by its numbers"),
        ("1. cat\n2. dog\n", "read by its numbers"),
        ("2,dog\n1,cat\n", "read by its numbers"),
        ("1\tcat\n2\tdog\n", "read by its numbers"),
        ("0,background\n1,cat\n2,dog\n", "read by its numbers, left out background"),
        (
            "0 _background_\n1 cat\n2 dog\n255 void\n",
            "left out _background_ and void",
        ),
        ("sep=;\n1;cat\n2;dog\n", "read by its numbers"),
        ("Pixel Value, Class\n0, background\n1, cat\n2, dog\n", "left out background"),
        ("index name\n1 cat\n2 dog\n", "read by its numbers"),
        ("0: unlabeled\n1: cat\n2: dog\n", "left out unlabeled"),
        ('["cat", "dog"]', "read as JSON"),
        ('["__background__", "cat", "dog"]', "read as JSON, left out __background__"),
        ('{"0": "background", "1": "cat", "2": "dog"}', "read as JSON, left out background"),
        ('{"cat": 1, "dog": 2}', "read as JSON"),
        (
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n",
            "read as CVAT's labelmap, left out background",
        ),
        ("cat:250,50,83::\ndog:1,2,3::\nbackground:0,0,0::\n", "labelmap, left out background"),
        ("background:::\ncat:::\ndog:::\n", "labelmap, left out background"),
        ('{"cat": "1", "dog": "2"}', "read as JSON"),
        ('{"ignore": "-1", "background": "0", "cat": "1", "dog": "2"}', "background and ignore"),
        # what all names have around them
        ('"background"\n"cat"\n"dog"\n', "read without quotes, left out background"),
        ("background,\ncat,\ndog,\n", "read without commas, left out background"),
        ("'cat',\n'dog'\n", "read without commas and quotes"),
        ("background:\ncat:\ndog:\n", "read without colons, left out background"),
        (
            '0: "background",\n1: "cat",\n2: "dog"\n',
            "numbers without commas and quotes, left out ba",
        ),
        # other spellings of numbers
        ("-1 __ignore__\n0 _background_\n1 cat\n2 dog\n", "left out _background_ and __ignore__"),
        ("0=background\n1=cat\n2=dog\n", "read by its numbers, left out background"),
        ("0|background\n1|cat\n2|dog\n", "read by its numbers, left out background"),
        ("(0) background\n(1) cat\n(2) dog\n", "read by its numbers, left out background"),
        ("1 - cat\n2 - dog\n", "read by its numbers"),
        ("1 -> cat\n2 -> dog\n", "read by its numbers"),
        ("1.0 cat\n2.0 dog\n", "read by its numbers"),
        ("0: bg\n1: cat\n2: dog\n", "read by its numbers, left out bg"),
    ],
)
def test_lists_of_other_tools_give_the_real_classes_and_a_line(tmp_path, capsys, text, said):
    assert read(tmp_path, text) == ("cat", "dog")
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'classes.txt'}: ")
    assert out.count("\n") == 1
    assert said in out
    assert out.endswith("; classes 1..2: cat, dog\n")
    assert load_class_list(tmp_path) == ("cat", "dog")
    assert capsys.readouterr().out == ""  # said once


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("7 segment display\ncat\n", ("7 segment display", "cat")),
        ("backgrounds\nblack_background\n", ("backgrounds", "black_background")),
        ("3d printer\nx1\n", ("3d printer", "x1")),
        ("label\n", ("label",)),
        ("cat\nlabel\n", ("cat", "label")),
        ("label printer\nclass room\n", ("label printer", "class room")),
        ("number plate\ncat\n", ("number plate", "cat")),
        ("type 1\ntype 2\n", ("type 1", "type 2")),
        ("tick, alive\nfly,1\n", ("tick, alive", "fly,1")),
        ("1.5 l bottle\n2.0 l bottle\n", ("1.5 l bottle", "2.0 l bottle")),
        ("2-door\n4-door\n", ("2-door", "4-door")),
        ("1-way\n2-way\n", ("1-way", "2-way")),
        ("boeing 737\nairbus 320\n", ("boeing 737", "airbus 320")),
        ("1_euro\n2_euro\n", ("1_euro", "2_euro")),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("cat (wild)\nA&B\nSt. John's\n", ("cat (wild)", "A&B", "St. John's")),
        ("none of the above\nbackground clutter\n", ("none of the above", "background clutter")),
        ("cat\nnone\n", ("cat", "none")),
        ("object\nratio 1:2\n", ("object", "ratio 1:2")),
    ],
)
def test_plain_names_are_names_and_nothing_is_said(tmp_path, capsys, text, names):
    assert read(tmp_path, text) == names
    assert capsys.readouterr().out == ""


def test_numbered_names_may_have_numbers_commas_and_words_for_nothing(tmp_path):
    assert read(tmp_path, "1 type 1\n2 type 2\n") == ("type 1", "type 2")
    assert read(tmp_path, "1: tick, alive\n2: fly, dead\n") == ("tick, alive", "fly, dead")
    assert read(tmp_path, "1: none\n2: void\n") == ("none", "void")


def test_colours_of_a_labelmap(tmp_path):
    text = "# label:color_rgb:parts:actions\ncat:250,50,83::\nbackground:0,0,0::\ndog:1, 2, 3::\n"
    assert read(tmp_path, text, "labelmap.txt") == ("cat", "dog")
    classes = ("cat", "dog")
    coloured = {(250, 50, 83): 1, (1, 2, 3): 2, (0, 0, 0): 0}
    assert mask_colours(tmp_path, classes) == coloured
    (tmp_path / "plain").mkdir()
    read(tmp_path / "plain", "cat\ndog\n")
    assert mask_colours(tmp_path / "plain", classes) == mask_colours(None, classes) == {}
    # a list without colours takes those of a labelmap beside it, or elsewhere, by their names
    assert mask_colours(tmp_path / "plain", classes, [tmp_path]) == coloured
    read(tmp_path, "dog\ncat\n")
    for source in (tmp_path, tmp_path / "classes.txt"):
        found = mask_colours(source, load_class_list(source))
        assert found == {(250, 50, 83): 2, (1, 2, 3): 1, (0, 0, 0): 0}


def test_a_labelmap_beside_a_class_list_has_its_names(tmp_path, capsys):
    read(tmp_path, "cat:1,2,3::\nowl:4,5,6::\nvoid:7,8,9::\n", "labelmap.txt")
    read(tmp_path, "dog\ncat\n")
    capsys.readouterr()
    assert mask_colours(tmp_path, ("dog", "cat")) == {(1, 2, 3): 2, (4, 5, 6): 3, (7, 8, 9): 255}
    assert capsys.readouterr().out == (
        f"{tmp_path}/labelmap.txt: masks in its colours are read by its names\n"
        f"{tmp_path}/labelmap.txt: owl is none of the classes; masks that show it are refused\n"
    )
    with pytest.raises(InputError, match="none of its names, cat, owl, is one of the classes, Cat"):
        mask_colours(tmp_path, ("Cat", "Owl"))
    many = ["cat", *map(str, range(253))]  # the value behind theirs means ignored
    with pytest.raises(InputError, match="owl is none of the 254 classes, and no mask value is"):
        mask_colours(tmp_path, many)
    for other in ("cat\nowl\n", "???\n1 cat 5\n", "cat:::\nowl:::\n"):  # not CVAT's, no colours
        (tmp_path / "labelmap.txt").write_text(other)
        assert mask_colours(tmp_path, ("dog", "cat")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cat\nBackground\n",
            " line 2: 'Background' comes after a class, 'cat'; it is mask",
        ),
        ("background\n_background_\ncat\n", " line 2: '_background_' is a second background"),
        (
            "cat\n__ignore__\ndog\n",
            " line 2: '__ignore__' stands between classes; which mask",
        ),
        ("void\ncat\n", " line 1: is 'void' a class, the background (0) or ignored (255)? Write"),
        ("cat\nunlabeled\n", " line 2: is 'unlabeled' a class, the background (0) or ignored"),
        ("cat\ndog\n\ncat\n", " line 4: class 'cat' is listed twice"),
        ("cat\nmug/cup\n", " line 2: class 'mug/cup' cannot be part of a file's name"),
        ("cat\nmug\rcup\n", " line 2: class 'mug\\rcup' cannot be part of a file's name: it has"),
        (
            "cat\r\nmug\u2028cup\r\n",
            " line 2: class 'mug\\u2028cup' cannot be part of a file's name",
        ),
        *(
            (f"{first}\ncat\ndog\n", f" line 1: '{first}' looks like a heading; remove it. If it")
            for first in ("name", "Class", "Classes:", "labels", "Category", "categories:")
        ),
        ("class name\ncat\n", " line 1: 'class name' looks like a heading; remove it. If it is a"),
        ("name,r,g,b\ncat,250,50,83\n", " line 1: 'name,r,g,b' looks like a heading; remove it."),
        ("id,name\ncat\ndog\n", " line 1: 'id,name' looks like a heading; remove it. If it is a"),
        ("names:\n- cat\n- dog\n", " line 1: 'names:' looks like a heading; remove it. If it is"),
        ("Classes:\n", " line 1: 'Classes:' looks like a heading; remove it. If it is a class,"),
        ("- cat\n- dog\n", " line 1: '- cat' looks like YAML; write a name a line alone. If it"),
        ("nc: 2\nnames: [cat]\n", " line 1: 'nc: 2' looks like YAML; write a name a line alone."),
        ("# my classes\ncat\ndog\n", " line 1: '# my classes' looks like a comment; remove it. I"),
        ("cat\n# later\ndog\n", " line 2: '# later' looks like a comment; remove it. If it is a"),
        ("cat,1\ndog,2\n", " line 1: 'cat,1' has numbers behind the name; write 1: cat where"),
        ("cat: 1\ndog: 2\n", " line 1: 'cat: 1' has numbers behind the name; write 1: cat where"),
        (
            "cat,250,50,83\ndog,1,2,3\n",
            " line 1: 'cat,250,50,83' has numbers behind the name; write 1: cat where they are "
            'mask values, else the name. If it is a class, write the list as JSON, ["cat", "dog"]',
        ),
        *(
            (f"{first}\ncat\ndog\n", f" line 1: is '{first}' a class or the background (0)? Write")
            for first in ("bg", "__BG__", "none", "nothing", "no class", "Hintergrund")
        ),
        *(
            (f"cat\n{name}\n", f" line 2: is '{name}' a class or the background (0)? Write")
            for name in (
                "back ground",
                "back-ground",
                "'background'",
                "background,",
                "background (0)",
            )
        ),
        ("none:0,0,0::\ncat:9,9,9::\n", " line 1: is 'none' a class or the background (0)? Wri"),
        ("1: 'background'\n2: cat\n", " line 1: ''background'' has number 1; the background is"),
        *(
            (
                "\n".join(
                    form.format(i, name) for i, name in enumerate(("background", "cat", "dog"))
                ),
                f" line 1: '{form.format(0, 'background')}' has {what} the name; write 1: cat",
            )
            for form, what in (
                ("{1} {0}", "numbers behind"),
                ("{1} ({0})", "numbers behind"),
                ("{1}={0}", "numbers behind"),
                ("{1}{0}", "numbers behind"),
                ("class {0}: {1}", "a number before"),
                ("{0}-{1}", "a number before"),
                ('"{0}","{1}"', "a number before"),
            )
        ),
        *(
            (text, f" line 1: '{text.splitlines()[0]}' has further columns; leave the number and")
            for text in (
                "1 cat 128 0 0\n2 dog 0 128 0\n",
                "1,cat,#ff0000\n2,dog,#00ff00\n",
                "1,cat,animal\n2,dog,animal\n",
                "1 cat #ff0000\n2 dog #00ff00\n",
                '1 255 0 0 1 1 1 "cat"\n2 0 255 0 1 1 1 "dog"\n',
                "1: cat, 2: dog\n",
            )
        ),
        ("cat 128 0 0\ndog 0 128 0\n", " line 1: 'cat 128 0 0' has numbers behind the name; wri"),
        *(
            (text, f" line 1: '{text.splitlines()[0]}' looks like code, or a part of it; write a")
            for text in (
                "(\n'cat',\n'dog',\n)\n",
                "item {\n id: 1\n name: 'cat'\n}\n",
                "CLASSES = ['cat']\n",
                "---\n- cat\n- dog\n",
            )
        ),
        *(
            (f"{line}\n", f" line 1: '{line}' is one class, as it is one line; write a name a line")
            for line in ("cat,dog,cow", "background;cat;dog", "cat | dog", "N = ('cat', 'dog')")
        ),
        *(
            (f"{first}\ncat\ndog\n", f" line 1: '{first}' looks like a heading; remove it. If it")
            for first in ("My classes:", "20 classes:", "2 labels", "objects")
        ),
        ("cat\nvehicles:\ncar\n", " line 2: 'vehicles:' ends in a colon, as a heading does; re"),
        ("cat\ndog\nTotal: 2\n", " line 3: 'Total: 2' looks like a total, a number beside a word"),
        ("1 cat\n2 dog\ntotal 2\n", " line 3: 'total 2' looks like a total, a number beside a w"),
        (" , ; " * 300_000, " line 1: ', ;  , ;"),  # at once
        ("\n", " is an empty class list"),
        ("_background_\n", " lists no foreground class"),
        ("".join(f"c{i}\n" for i in range(255)), " lists 255 classes; masks have room for 254"),
        (
            "0: cat\n1: dog\n",
            " line 1: number 0 is 'cat', but mask value 0 is the background",
        ),
        (
            "0 cat\n1 dog\n",
            " line 1: number 0 is 'cat', but mask value 0 is the background",
        ),
        (
            "1: cat\n3: dog\n",
            " line 2: 'dog' has number 3, 2 is next; classes have the",
        ),
        ("1: cat\n1: dog\n", " line 2: the number 1 is given twice, to 'cat' and 'dog'"),
        ("1: cat\n2: background\n", " line 2: 'background' has number 2; the background is mask"),
        ("1: cat\ndog\n", " line 2: 'dog' has no number, other lines have; number all classes"),
        (
            "1 euro\n2 euro\n5 euro\n",
            ": every line begins with a number, 1, 2, ...; where they",
        ),
        ('{"images": [], "categories": []}', " is no class list: JSON of another kind"),
        ('["cat"', " is no class list: it begins as JSON and is none"),
        (
            "# label:color_rgb:parts:actions\ncat\n",
            " line 2: 'cat' is not name:r,g,b:parts",
        ),
        ("cat:300,0,0::\n", " line 1: 'cat:300,0,0::' is not name:r,g,b:parts"),
        ("cat:1,1,1::\ndog:1,1,1::\n", " line 2: 'dog' has the colour (1, 1, 1) of another class"),
    ],
)
def test_errors(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        read(tmp_path, text)


def test_room_is_254_and_a_missing_file_is_named(tmp_path):
    path = tmp_path / "names.txt"
    with pytest.raises(InputError, match=re.escape(f"class list not found: {path}; ")):
        load_class_list(path)
    path.write_text("".join(f"c{i}\n" for i in range(254)))
    assert len(load_class_list(path)) == 254


def test_a_file_of_another_kind_is_quoted_in_short(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, "1: a\n" + "x" * 10_000 + "\n")
    assert len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("none")])
def test_a_class_list_that_is_no_file_is_no_missing_one(tmp_path, make):
    assert not has_class_list(tmp_path)
    make(tmp_path / "classes.txt")
    assert has_class_list(tmp_path)
    with pytest.raises(InputError, match="class list not found: "):
        load_class_list(tmp_path)


def test_a_colour_of_strange_spaces_is_no_colour(tmp_path):
    """Found by the fuzzer: a space for a pattern, but not for int()."""
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\ncat:250,\x1c0,83::\n")
    with pytest.raises(InputError, match=r"line 2: .* is not name:r,g,b:parts:actions"):
        load_class_list(path)


# ============ what is written ============
TRICKY = st.sampled_from(
    ["1. cat", "2. dog", "10. sheep", "1", "1 cat", "2,dog", "0: x", "255 y", "#a", "[a", "{b"]
    + ["# label:c", "a:1,2,3::", "b:::", "index name", "id 1", "[ignore", "7 segment", "\u200d1. a"]
    + [
        "none",
        "bg",
        "'background'",
        "b 1",
        "c 2",
        "a:",
        "a: 1",
        "(a",
        "---",
        "1-a",
        "2-b",
        "x 1 2 3",
    ]
    + ['"q"', "a\u0308", "ä", "_cat_", "null", "true", "sep=;", ",a,", "cat;dog", "a  b"]
    + ["background", "__background__", "<void>", "unlabeled", "__ignore__", "", " a", "a/b"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TRICKY | st.text(max_size=6), min_size=1, max_size=5))
@example(["1. cat", "10. sheep", "2. dog"])
@example(["index name", "1 cat"])
@example(["sep=;", "cat"])
def test_what_is_written_is_read_back_or_was_refused(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("list") / "classes.txt"
    with contextlib.suppress(InputError):
        write_class_list(path, names)
        assert load_class_list(path) == tuple(names)
        assert not any(map(name_fault, names))
        return
    assert not path.exists()


def test_ordinary_names_are_written_a_line_each():
    assert class_list_text(["cat", "traffic light", "7 segment"], "x") == (
        "cat\ntraffic light\n7 segment\n"
    )
    assert class_list_text(["2. dog", "1. cat"], "x") == '["2. dog", "1. cat"]\n'
    assert class_list_text(["label", "cat"], "x") == '["label", "cat"]\n'
    assert class_list_text(["#1 fan", "cat"], "x") == '["#1 fan", "cat"]\n'
    assert class_list_text(["none", "cat"], "x") == '{"1": "none", "2": "cat"}\n'


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "Void"], "tags.csv: 'Void' cannot be a class: in a class list it would mean the"),
        (["unlabeled", "cat"], "tags.csv: 'unlabeled' cannot be a class: in a class list it would"),
        (["<background>", "cat"], "tags.csv: '<background>' cannot be a class: in a class list it"),
        (["cat", "cat"], "tags.csv: no class list would give its classes back: classes.txt entry"),
        (list(map(str, range(255))), "tags.csv has 255 classes; masks have room for 254 below"),
    ],
)
def test_what_no_list_gives_back_is_refused(names, message):
    with pytest.raises(InputError) as error:
        class_list_text(names, "tags.csv")
    assert str(error.value).startswith(message)


def test_one_name_in_two_spellings_of_unicode_is_listed_twice(tmp_path):
    with pytest.raises(InputError, match=r"line 2: class '.*' is listed twice"):
        read(tmp_path, "gr\u00fcn\ngru\u0308n\n")
