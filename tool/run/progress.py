"""The one kind of progress bar: tqdm's, of the first process alone, and seldom in a log file."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from tool.run.shards import is_main

LOG_SECONDS = 30  # between two states where stderr is no terminal: nohup, Slurm, CI


def progress(iterable: Iterable | None = None, **settings: Any) -> tqdm:
    """tqdm(iterable, **settings) as wide as the terminal; without a terminal a state every
    LOG_SECONDS, on other ranks none.
    """
    interval = 0.1 if sys.stderr.isatty() else LOG_SECONDS
    own = {
        "dynamic_ncols": True,
        "mininterval": interval,
        "maxinterval": max(interval, 10),
        "disable": not is_main(),
    }
    return tqdm(iterable, **own | settings)
