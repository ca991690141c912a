"""What may be a name: of a session, an image or a class, all of which become parts of files'
names.
"""

import re
import unicodedata
from collections.abc import Iterable

from tool.errors import InputError

# File systems take 255 bytes; what the scripts put before and after a name is shorter than the
# rest.
MAX_BYTES = 180
JOINERS = "\u200c\u200d"  # Persian and Indic words and emoji need them
INVISIBLE = re.compile(
    # of no width; a joiner joins two characters of other scripts, or it does nothing
    f"[\u00ad\u200b\u2060\ufeff]|(?<![^\0-\x7f])[{JOINERS}]|[{JOINERS}](?![^\0-\x7f])"
)
SPACES = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
QUOTES = ('""', "''", "``", "“”", "„“", "„”", "‘’", "‚‘", "«»", "»«", "「」")


def nfc(text: str) -> str:
    """Text in the spelling of Unicode in which names are compared; a Mac's folders have another."""
    return unicodedata.normalize("NFC", text)


def unquoted(text: str) -> str:
    """Text without the quotes around it, doubled ones too: cat of "cat"; '55"' stays."""
    text = re.sub(r'^""|""$', "", text.strip()).strip()
    around, inside = text[:1] + text[-1:], text[1:-1]
    quoted = len(text) > 1 and around in QUOTES and set(inside).isdisjoint(around)
    return inside.strip() if quoted else text


def tidy(text: str) -> str:
    """A name as people see it: nfc, without what has no width and quotes around it, one space in
    the place of several. Tabs and line ends stay: they part names.
    """
    return unquoted(SPACES.sub(" ", INVISIBLE.sub("", nfc(text))))


def name_fault(name: object) -> str | None:
    """Why name is no name, to go after "it", or None for one.

    A name is text of 1 to MAX_BYTES bytes of UTF-8 that can be printed: without slashes, line ends
    and other control characters, and marks that turn the direction of writing; not . or .., and
    without a space at either end.
    """
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, not text"
    if not name:
        return "is empty"
    if not set(name).isdisjoint("/\\"):
        return "has a slash"
    if name in (".", ".."):
        return "means a folder"
    if name != name.strip():
        return "begins or ends with a space"
    for character in name:
        if not character.isprintable() and character not in JOINERS:
            return f"has the character U+{ord(character):04X}, which cannot be printed"
    if len(name.encode()) > MAX_BYTES:
        return f"has {len(name.encode())} bytes, of which {MAX_BYTES} are allowed"
    return None


def require_names(names: Iterable[object], what: str) -> None:
    """Raise InputError, starting with what, for the first of names that is no name."""
    for name in names:
        if fault := name_fault(name):
            raise InputError(
                f"{what} {str(name)[:60]!r} cannot be part of a file's name: it {fault}"
            )
