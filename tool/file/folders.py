"""The files below a folder, linked folders among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NAMED = 2  # paths that a line about what is left out names
# thumbnails, deleted files and attributes, as storage systems, Windows, macOS and Linux keep them
OF_SYSTEMS = {
    "@eadir",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "lost+found",
    "thumbnails",
}


@dataclass
class Below:
    """What lies below a folder; paths begin with the folder as it was given.

    files: sorted; loops: links to folders that hold them; broken: links that lead nowhere;
    closed: folders that may not be read; of_systems: folders of OF_SYSTEMS
    """

    files: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    of_systems: list[Path] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """What is not among the files and might have been meant to be, in words."""
        return [
            f"{len(paths)} {what} ({', '.join(map(str, paths[:NAMED]))})"
            for paths, what in (
                (self.loops, "links to a folder that they lie in are not followed"),
                (self.broken, "links lead nowhere"),
                (self.closed, "folders cannot be read"),
                (self.of_systems, "folders of a system are left out"),
            )
            if paths
        ]


def is_of_system(name: str) -> bool:
    """Whether a folder of this name is one that a system makes in those of users."""
    return name.lower() in OF_SYSTEMS


def files_below(folder: str | Path, without: Sequence[str | Path] = ()) -> Below:
    """The files of folder and of all below it, through links to folders too, but for hidden ones,
    those in folders that a system makes, and those in the folders without; of these one that holds
    folder is ignored.
    """
    folder, found = Path(folder), Below()
    whole = folder.resolve()
    places = [Path(path).resolve() for path in without]
    places = [place for place in places if not whole.is_relative_to(place)]
    _visit(folder, whole, (whole,), places, found)
    for paths in vars(found).values():
        paths.sort()
    return found


def _visit(
    folder: Path, real: Path, above: tuple[Path, ...], without: Sequence[Path], found: Below
) -> None:
    """Add to found what folder has; real: where it is without links; above: the same of it and of
    those on the way to it.
    """
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except PermissionError:
        found.closed.append(folder)
        return
    for name in names:
        path = folder / name
        if path.is_dir() and is_of_system(name):
            found.of_systems.append(path)
        elif path.is_dir():
            place = path.resolve() if path.is_symlink() else real / name
            if any(place.is_relative_to(out) for out in without):
                continue
            # also one above the first folder, which would come again
            if any(one.is_relative_to(place) for one in above):
                found.loops.append(path)
            else:
                _visit(path, place, (*above, place), without, found)
        elif path.is_file():
            found.files.append(path)
        elif path.is_symlink():
            found.broken.append(path)
