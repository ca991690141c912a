"""Lines for the user about how what they gave was read."""

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
