"""Which photograph of a folder a file means by a name or a path."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.photographs import Photograph
from tool.file.text import shortened
from tool.names import nfc
from voc12.label_file.entries import Entry, without_suffix

ROOTED = re.compile(r"[A-Za-z]:[\\/]|[\\/~]|[a-z]+://")  # C:/photos, /home, //server, ~, https://


def relative_path(photograph: Photograph) -> str:
    """The photograph's path in the folder that was given, with slashes."""
    return (photograph.relative / photograph.path.name).as_posix()


class Finder:
    """Finds the photograph that a tags file means by a name: its path in the folder, or the end of
    that. With suffix or without, and whatever the capitals, if none fits as it is written; a number
    finds the photograph that is called so, also with zeros before.

    A path that begins above the folder is one in it below the folder's own name, or below the
    folder that all such paths of the file have in common. Any other path that is not there is of a
    photograph that is gone, whatever its last part. Of copies of one photograph the first is found.

    copy_of: (N,) as in voc12.own_photographs.Own
    above:   the parts of that common folder, () for none
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        copy_of: np.ndarray,
        names: Iterable[str | int],
        folder: str | Path,
    ) -> None:
        """names: all that the file says; folder: of the photographs."""
        self.paths = [plain_path(relative_path(photograph)) for photograph in photographs]
        self.copy_of = copy_of
        self.forms = [
            (form, name_form, self._places(form, _whole), self._places(form, _tails))
            for form, name_form in FORMS
        ]
        self.folder = tuple(plain_path(str(Path(folder).resolve())).casefold().split("/"))
        self.above = self._common_root([str(name) for name in names if str(name).strip()])

    def _places(
        self, form: Callable[[str], str], names: Callable[[str], list[str]]
    ) -> dict[str, list[int]]:
        table: dict[str, list[int]] = {}
        for place, path in enumerate(self.paths):
            for name in names(form(path)):
                table.setdefault(name, []).append(place)
        return table

    def __call__(self, entry: Entry) -> int | None:
        """The photograph's place, None where there is none. Raises InputError where it may be
        several.
        """
        key = plain_path(str(entry.key))
        below = self._below(key, is_rooted(str(entry.key)))
        for form, name_form, whole, tails in self.forms:
            name = name_form(key)
            found = whole.get(name) or tails.get(name) or []
            # not if another suffix differs as well
            if not found and (form in (str, str.casefold) or without_suffix(key) == key):
                paths = map(name_form, below)
                found = next((whole[path] for path in paths if path in whole), [])
            if len(set(self.copy_of[found])) == 1:
                return found[0]
            if found:
                raise InputError(
                    f"{entry.where}: '{shortened(entry.key)}' may be {self.paths[found[0]]} and "
                    f"{self.paths[found[1]]}; write its path in the folder of photographs, with "
                    "the suffix"
                )
        return None

    def _below(self, key: str, rooted: bool) -> list[str]:
        """The paths in the folder that one which begins above it may mean, the longest first."""
        parts = key.split("/")
        found = []
        for n in range(1, len(parts)):
            above = tuple(part.casefold() for part in parts[:n] if part != "..")
            # another machine has other folders above
            length = 1 if rooted else len(above)
            known = bool(above) and above[-length:] == self.folder[-length:]
            if known or tuple(parts[:n]) == self.above:
                found.append("/".join(parts[n:]))
        return found

    def _common_root(self, names: Sequence[str]) -> tuple[str, ...]:
        """The folder in common of all paths that begin above the folder, below which they are
        photographs' paths; () for none. Paths from a root, C:/me/photos, are such; others where
        none is a bare name or a path in the folder, and half of them fit.
        """
        whole = self._places(_folded_stem, _whole)
        inside = {*whole, *self._places(_folded_stem, _tails)}
        paths = [plain_path(name).split("/") for name in names if is_rooted(name)]
        least = 1
        if not paths:
            others = [plain_path(name) for name in names]
            if any("/" not in one or _folded_stem(one) in inside for one in others):
                return ()
            paths = [one.split("/") for one in others]
            least = len(paths) / 2
        best, most = 0, 0
        for length in range(1, min((len(path) for path in paths), default=0)):
            if len({tuple(path[:length]) for path in paths}) > 1:
                break
            found = sum(_folded_stem("/".join(path[length:])) in whole for path in paths)
            if found >= least and found > most:
                best, most = length, found
        return tuple(paths[0][:best]) if paths else ()


def is_rooted(name: str) -> bool:
    """Whether a path begins at a root: C:/photos, /home, //server, ~, https://."""
    return ROOTED.match(name.strip()) is not None


def plain_path(name: str) -> str:
    """A path with slashes alone, in one spelling of Unicode, without what says nothing: a/b of
    ./a\\b.
    """
    parts = nfc(name.replace("\\", "/")).strip().split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _whole(name: str) -> list[str]:
    return [name]


def _tails(name: str) -> list[str]:
    """What is left of a path without its first folders, the longest first."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _folded_stem(name: str) -> str:
    return without_suffix(name).casefold()


def _number(name: str) -> str:
    stem = without_suffix(name)
    return str(int(stem)) if re.fullmatch(r"\d{1,12}", stem, re.ASCII) else stem


def _number_said(name: str) -> str:
    """7 may be 007.jpg, as Excel takes zeros away; 007 is not 7.jpg."""
    return f"{name} is no number" if name != "0" and name.startswith("0") else _number(name)


# of the photographs' paths, and of a name in a file of tags
FORMS = (
    (str, str),
    (without_suffix, without_suffix),
    (str.casefold, str.casefold),
    (_folded_stem, _folded_stem),
    (_number, _number_said),
)
