"""Photographs given by hand, files or folders of them, films too where they are done, and names for
what is written of each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tool.errors import InputError
from tool.file.films import FILM_SUFFIXES, is_film
from tool.file.folders import files_below

PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # in any case
NAMED = 3  # suffixes that a note names


@dataclass(frozen=True)
class Photograph:
    """A photograph, or a film, and where its outputs go.

    name: what their names begin with; home: their folder where no flag gives one; relative: their
    place in a folder that a flag gives
    """

    path: Path
    name: str
    home: Path
    relative: Path

    @property
    def is_film(self) -> bool:
        """Whether it is a film."""
        return is_film(self.path)

    def folder(self, given: str | Path | None) -> Path:
        """Where an output goes; given: the folder that its flag names, if it does."""
        return self.home if given is None else Path(given) / self.relative


def find_photographs(
    given: Sequence[str],
    what: str,
    outputs: Sequence[str | Path | None] = (),
    films: bool = False,
    links: bool = False,
) -> list[Photograph]:
    """The photographs, and with films the films, of files and folders; a folder's with all below
    it, through linked folders too, sorted, but for hidden ones and those in outputs, the folders
    that outputs are to be written to. A file that is found under several paths is taken once, with
    links once a path.

    A file's outputs go beside it, a folder's into <folder>_<what> beside the folder, with their
    paths in it. Photographs whose outputs would have the same names take their suffix into them:
    x.jpg and x.png are x.jpg... and x.png....
    Raises InputError for what is not there, a film without films, a folder without photographs, one
    that outputs are to be written into, and photographs whose suffix does not tell them apart
    either.
    """
    folders = [Path(folder).resolve() for folder in outputs if folder is not None]
    found: dict[Path, Photograph] = {}
    for entry in map(Path, given):
        if entry.is_dir():
            photographs = _in_folder(entry, what, folders, films, links)
        elif entry.exists() and is_film(entry) and not films:
            raise InputError(
                f"--image: {entry} is a film; infer_seg.py does films, this script photographs"
            )
        elif entry.exists():
            photographs = [Photograph(entry, entry.stem, entry.parent, Path())]
        else:
            raise InputError(f"--image: {entry} is not there; give photographs, or folders of them")
        for photograph in photographs:
            found.setdefault(photograph.path if links else photograph.path.resolve(), photograph)
    return _told_apart(list(found.values()), outputs)


def _in_folder(
    folder: Path, what: str, outputs: Sequence[Path], films: bool, links: bool
) -> list[Photograph]:
    whole = folder.resolve()
    if whole in outputs:
        raise InputError(
            f"--image: {folder} is the folder to write to as well, where overlays and masks would "
            "be taken for photographs next time; give another folder to write to"
        )
    home = (folder if folder.name not in ("", "..") else whole).with_name(f"{whole.name}_{what}")
    suffixes = (*PHOTOGRAPH_SUFFIXES, *(FILM_SUFFIXES if films else ()))
    photographs, others, again = {}, Counter(), 0
    below = files_below(folder, [*outputs, home])
    for path in below.files:
        if path.suffix.lower() in suffixes:
            place = path.relative_to(folder).parent
            key = path if links else path.resolve()
            again += key in photographs
            photographs.setdefault(key, Photograph(path, path.stem, home / place, place))
        else:
            others[path.suffix.lower() or path.name] += 1
    photographs = list(photographs.values())
    lines = below.left_out()
    if not photographs:
        raise InputError(
            f"--image: {folder} has no photographs, {', '.join(suffixes)}, nor has a folder in it"
            + "".join(f"; {line}" for line in lines)
        )
    if again:
        lines.insert(0, f"{again} links to others of them are left out")
    if others:
        names = ", ".join(name for name, _ in others.most_common(NAMED))
        lines.insert(0, f"{others.total()} other files are left out ({names})")
    left_out = "".join(f"; {line}" for line in lines)
    film_count = sum(photograph.is_film for photograph in photographs)
    and_films = f" and {film_count} films" if film_count else ""
    print(f"{folder}: {len(photographs) - film_count} photographs{and_films}{left_out}")
    return photographs


def _told_apart(
    photographs: list[Photograph], outputs: Sequence[str | Path | None]
) -> list[Photograph]:
    def places(photograph: Photograph) -> list[Path]:
        folders = dict.fromkeys(photograph.folder(given) for given in outputs or [None])
        return [folder.resolve() / photograph.name for folder in folders]

    counts = Counter(place for photograph in photographs for place in places(photograph))
    named = [
        replace(photograph, name=photograph.path.name)
        if any(counts[place] > 1 for place in places(photograph))
        else photograph
        for photograph in photographs
    ]
    require_distinct(named, places)
    return named


def require_distinct(
    photographs: Iterable[Photograph], outputs_of: Callable[[Photograph], Iterable[Path]]
) -> None:
    """Raise InputError naming two photographs of which the same file would be written."""
    owner: dict[Path, Photograph] = {}
    for photograph in photographs:
        for output in outputs_of(photograph):
            other = owner.setdefault(output, photograph)
            if other is not photograph:
                raise InputError(
                    f"--image: of {other.path} and {photograph.path} the same file would be "
                    f"written, {output}; do them one after the other, into other folders"
                )


def require_outputs(
    photographs: Sequence[Photograph], outputs_of: Callable[[Photograph], Sequence[Path]]
) -> None:
    """Raise InputError where two outputs, of one photograph or of two, are the same file, or where
    one is a photograph.
    """
    resolved = {photograph.path.resolve() for photograph in photographs}

    def outputs(photograph: Photograph) -> list[Path]:
        paths = list(outputs_of(photograph))
        for path, count in Counter(paths).items():
            if count > 1:
                raise InputError(
                    f"--image: {count} outputs of {photograph.path} would be the same file, {path}"
                )
            if path.resolve() in resolved:
                raise InputError(
                    f"--image: {path}, to be written of {photograph.path}, is one of the "
                    "photographs; give another folder to write to"
                )
        return paths

    require_distinct(photographs, outputs)
