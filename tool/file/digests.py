"""Digests: by which one file says which other one it was made from, or under which settings."""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE_DIGITS = 16  # hexadecimal, of the SHA-256 of a file or of what is in it
HEAD = 2**16  # bytes by which most files of one size are told apart


def file_digest(path: str | Path) -> str:
    """The first FILE_DIGITS of the file's SHA-256, by which one file says which other one it was
    made from.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:FILE_DIGITS]


def first_copies(paths: Sequence[Path]) -> list[int]:
    """Of each file the place of the first among paths that has the same content, its own where none
    before it has. Contents are read only as far as sizes leave it open.
    """
    whole = {}
    for place, path in enumerate(paths):  # links to one file need not be read
        info = path.stat()
        whole[place] = (info.st_dev, info.st_ino), info.st_size
    open_: list[list[int]] = [list(whole)]
    looks: tuple[Callable[[int], Hashable], ...] = (
        lambda place: whole[place][1],
        lambda place: _head(paths[place]),
        lambda place: file_digest(paths[place]),
    )
    for look in looks:
        open_ = [part for places in open_ for part in _parted(places, whole, look)]
    first = list(range(len(paths)))
    for places in open_:
        for place in places:
            first[place] = places[0]
    return first


def _parted(
    places: Sequence[int],
    whole: Mapping[int, tuple[Hashable, int]],
    look: Callable[[int], Hashable],
) -> list[list[int]]:
    """The places parted by what look says of them; those of one file alone are not looked at."""
    files: dict[Hashable, list[int]] = {}
    for place in places:
        files.setdefault(whole[place][0], []).append(place)
    if len(files) == 1:
        return [list(places)]
    found: dict[Hashable, list[int]] = {}
    for same in files.values():
        found.setdefault(look(same[0]), []).extend(same)
    return [sorted(part) for part in found.values() if len(part) > 1]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def digest(settings: Mapping[str, Any], digits: int = 8) -> str:
    """Hexadecimal digits that tell settings (what JSON can hold) apart, whatever their order.

    digits: 8 tell what takes each other's place apart; of 100,000 things side by side two would be
    alike more often than not, so that those take 32
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:digits]


def weights_meta(path: str | Path, key: str | None = None) -> dict[str, str]:
    """What a file says of the weights that made it: the digest of theirs, and the entry of it,
    --weights_key, if one is named; without, as all that were made before entries were kept.
    """
    named = {} if key is None else {"weights_key": key}
    return {"weights": file_digest(path)} | named
