"""Several processes at one job: each knows its rank and how many there are from the environment, as
torchrun sets it.

Without it there is one process, rank 0, with all of the work. Work on lists of images needs RANK
and WORLD_SIZE alone, so an array of jobs that sets them does as well as torchrun. Trainings talk to
each other beside: tool/run/distributed.py.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

from tool.errors import InputError

Item = TypeVar("Item")


def world_size() -> int:
    """How many processes share the job."""
    return max(1, _number("WORLD_SIZE", 1))


def rank() -> int:
    """This process's number, 0..world_size() - 1. Raises InputError for one beyond, which would do
    the share of another.
    """
    number = _number("RANK", 0)
    if number >= world_size():
        raise InputError(
            f"RANK {number} is not in 0..{world_size() - 1}, for WORLD_SIZE is {world_size()}; "
            "count ranks from 0"
        )
    return number


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdecimal()):
        raise InputError(
            f"the environment has {name}={text}, no number from 0 up; start the script by "
            "torchrun, or unset it"
        )
    return int(text)


def is_main() -> bool:
    """Whether this is rank 0, which alone writes logs, checkpoints and weights."""
    return rank() == 0


def shard(items: Sequence[Item]) -> list[Item]:
    """This rank's share of items, every world_size()-th: each item is in one rank's share, and in
    no other's.
    """
    return list(items)[rank() :: world_size()]


def share_note(total: int) -> str:
    """ "10 images"; where there are several ranks "4 of 10 images (share 1 of 3)"."""
    if world_size() == 1:
        return f"{total} images"
    return f"{len(shard(range(total)))} of {total} images (share {rank() + 1} of {world_size()})"


def batch_share(batch_size: int) -> int:
    """This rank's part of a batch. Raises InputError unless --batch_size, the total of a step,
    divides by the number of ranks.
    """
    if batch_size % world_size():
        raise InputError(
            f"--batch_size {batch_size} is the total over {world_size()} processes and must divide "
            "by their number; change it"
        )
    return batch_size // world_size()
