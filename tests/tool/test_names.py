"""What is a name and what is none, by one rule for sessions, ids and classes."""

import pytest

from tool.errors import InputError
from tool.names import MAX_BYTES, name_fault, require_names, tidy


@pytest.mark.parametrize(
    "name",
    [
        "cpn",
        "2007_000032",
        "potted plant",
        "..a",
        ".hidden",
        "<b>",
        'say "x"',
        "Käfer",
        "猫",
        "می\u200cشود",
        "a" * MAX_BYTES,
    ],
)
def test_names(name):
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        (".", "means a folder"),
        ("..", "means a folder"),
        ("../../x", "has a slash"),
        ("/tmp/x", "has a slash"),
        ("a\\b", "has a slash"),
        (" ", "begins or ends with a space"),
        ("a ", "begins or ends with a space"),
        ("a\nb", "U+000A"),
        ("a\x00b", "U+0000"),
        ("a\u2028b", "U+2028"),
        ("a\u202eb", "U+202E"),
        ("a\udcffb", "U+DCFF"),  # a byte that is no UTF-8
        ("é" * (MAX_BYTES // 2 + 1), f"has {MAX_BYTES + 2} bytes"),
        (3, "is a int, not text"),
    ],
)
def test_no_names(name, fault):
    assert fault in name_fault(name)
    with pytest.raises(InputError, match=r"^class .* cannot be part of a file's name: it "):
        require_names(["cat", name], "class")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("  big \u00a0 cat ", "big cat"),
        ("gru\u0308n", "gr\u00fcn"),
        ('"cat"', "cat"),
        ('""cat""', "cat"),
        ("\u201ecat\u201c", "cat"),
        ('TV 55"', 'TV 55"'),
        ('"a" or "b"', '"a" or "b"'),
        ("'", "'"),
        ("rock'n'roll", "rock'n'roll"),
        ("c\u200bat\u200d", "cat"),
        ("\u0645\u06cc\u200c\u0634\u0648\u062f", "\u0645\u06cc\u200c\u0634\u0648\u062f"),
        ("\U0001f469\u200d\U0001f33e", "\U0001f469\u200d\U0001f33e"),
        ("cat\ndog", "cat\ndog"),
        ("cat\tdog", "cat\tdog"),
    ],
)
def test_names_as_people_see_them(name, expected):
    assert tidy(name) == expected
