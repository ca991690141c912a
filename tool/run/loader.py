"""Loaders of samples whose worker processes leave signals to the main process."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from tool.run.pool import interrupts_blocked


class Loader(DataLoader):
    """torch's DataLoader, for Ctrl-C and SIGTERM to a whole process group.

    Workers ignore both. A Ctrl-C that comes while they are started waits until they are: Python
    loses an exception that is raised in the moment of a fork.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, worker_init_fn=ignore_signals, **keywords)

    def __iter__(self) -> Iterator[Any]:
        """As DataLoader's."""
        with interrupts_blocked():
            return super().__iter__()


def ignore_signals(_worker: int) -> None:
    """A loader's worker_init_fn: a signal to the whole process group is the main process's to
    answer.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _kill_workers() -> None:
    """End the workers that an exception kept alive with their loader: multiprocessing would send
    SIGTERM and wait for ever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises for a killed worker
    for child in multiprocessing.active_children():
        child.kill()
