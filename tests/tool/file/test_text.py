"""How an error quotes the text of a file that people made."""

import pytest

from tool.file.text import shortened


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("cat", "cat"),
        (7, "7"),
        ("cat\ndog", "cat\\ndog"),
        ("cat\r\ndog\ttail", "cat\\r\\ndog\ttail"),
        ("\x1b[2Jcat\u2028dog", "\\x1b[2Jcat\\u2028dog"),
        ("größe\u00a0\u3000猫", "größe\u00a0\u3000猫"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 57 + "..."),
        ("\n" * 10**6, "\\n" * 28 + "\\..."),
    ],
)
def test_a_quotation_is_one_line(text, quoted):
    assert shortened(text) == quoted
