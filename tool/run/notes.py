"""Lines for the user about how what they gave was read, and what was there already."""

import multiprocessing

from tqdm import tqdm

from tool.run.shards import is_main

_said: set[str] = set()


def note(line: str) -> None:
    """Print line, once a run, in the main process of rank 0 alone."""
    if line in _said or multiprocessing.parent_process() is not None or not is_main():
        return
    _said.add(line)
    tqdm.write(line)


def forget_notes() -> None:
    """Let every line be said again: a new run in the same process."""
    _said.clear()


def note_finished(finished: int, images: int, what: str, source: str = "weights") -> None:
    """Say how many files are kept from an earlier run, if any; what: "masks", made with source."""
    if finished:
        tqdm.write(
            f"{finished} of {images} {what} are there already, made with these {source} and "
            "settings"
        )
