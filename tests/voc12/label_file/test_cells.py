"""What a cell of a table of labels says."""

import pytest

from tool.errors import InputError
from voc12.label_file.cells import Exact, are_yes_or_no, listed, names_of, split_tags


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("1 0", True),
        ("1.0 0.0 nan", True),
        ("yes no", True),
        ("y n", True),
        ("TRUE FALSE", True),
        ("WAHR FALSCH", True),
        ("x -", True),
        ("X", True),
        ("1 -1", True),
        ("x y", False),  # two letters to tell apart
        ("t n", False),
        ("0 no", False),  # never a yes
        ("1 2", False),
        ("cat", False),
        ("nan", False),
    ],
)
def test_yes_and_no(cells, expected):
    assert are_yes_or_no([*cells.split(), ""]) is expected


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['cat', 'dog']", ["cat", "dog"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ("('cat', 'dog')", ["cat", "dog"]),
        ("{'cat'}", ["cat"]),
        ("[]", []),
        ("['']", []),
        ("['tabby; black']", ["tabby; black"]),
        ('{"choices": ["cat", "dog"]}', ["cat", "dog"]),
        ("{'choices': 'cat'}", ["cat"]),
        ('[{"x": 1, "rectanglelabels": ["cat"]}, {"rectanglelabels": ["dog"]}]', ["cat", "dog"]),
        ("[0, 2]", ["0", "2"]),
        ("cat", None),
        ("(cat)", None),
        ("cat [tabby]", None),
        ("[", None),
        ("", None),
    ],
)
def test_lists_in_a_cell(cell, names):
    assert listed(cell, "line 1") == names


@pytest.mark.parametrize(
    "cell",
    ["[cat, dog]", "['cat'", "['cat', None]", "{'cat': 1}", '{"text": "cat"}', "[1.5]", "[[", "{a}"]
    + ["[" * 50_000 + "]" * 50_000, "['cat'; 'dog']", '{"choices": 3}'],
)
def test_what_begins_as_a_list_and_is_none_is_one_line(cell):
    if cell == "[[":
        assert listed(cell, "line 1") is None
        return
    with pytest.raises(InputError) as error:
        listed(cell, "tags.csv line 1")
    assert str(error.value).startswith("tags.csv line 1: '")
    assert "is no list of names; write ['cat', 'dog'] in a cell" in str(error.value)
    assert len(str(error.value)) < 200


def test_a_name_of_a_list_is_not_split():
    assert split_tags("a; b,c") == ["a", "b", "c"]
    assert split_tags(Exact("a; b,c")) == ["a; b,c"]
    assert names_of({"choices": ["a; b"]}) == ["a; b"]
    assert names_of(["a"]) is None
