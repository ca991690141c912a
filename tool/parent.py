"""A process that ends where the one that started it does."""

import ctypes
import os
import signal
import sys

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl


def end_with_parent(parent: int | None = None) -> None:
    """Have this process get SIGTERM when the one that started it ends, however it ends. Known to
    Linux alone; elsewhere nothing happens.

    parent: its number, where it may have ended already
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
