"""Text files that people made: their encodings, and how an error quotes them."""

import codecs
import re
from pathlib import Path

from tool.errors import InputError
from tool.file.require import require_file

DELIMITER_LINE = re.compile(r'"?sep=([,;\t|])"?[\s,;|]*', re.IGNORECASE)
UNPRINTED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
QUOTED = 60  # characters of a file's text that an error repeats


def read_text(path: str | Path, what: str, hint: str) -> str:
    """The text of a UTF-8 file, or of a UTF-16 one with its byte-order mark, as Windows PowerShell
    redirects and Excel saves.

    what: the file, hint: what to do, both for messages. Raises InputError for a missing file and
    other encodings.
    """
    raw = require_file(path, what, hint).read_bytes()
    encoding = (
        "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    )
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text file: byte {error.start} is not "
            f"{encoding.removesuffix('-sig').upper()}; {hint}"
        ) from None


def split_delimiter_line(text: str) -> tuple[str, str]:
    """(the character that parts the fields of a table, its text) where its first line says so, as
    Excel's sep=; does, in the place of which an empty line is left; ("", text) else.
    """
    first, _, rest = text.partition("\n")
    found = DELIMITER_LINE.fullmatch(first)
    return (found[1], f"\n{rest}") if found else ("", text)


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """(line number from 1, stripped text) of the lines that are not blank."""
    lines = enumerate(text.split("\n"), start=1)  # not at U+2028, as splitlines
    return [(number, line.strip()) for number, line in lines if line.strip()]


def shortened(text: object, length: int = QUOTED) -> str:
    """text in one line, cut to length characters: what ends a line or controls a terminal is
    escaped, as in a program; tabs stay.
    """
    whole = UNPRINTED.sub(lambda found: repr(found[0])[1:-1], str(text)[: length + 1])
    return whole if len(whole) <= length else whole[: length - 3] + "..."
