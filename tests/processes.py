"""Whether processes that a test has not started itself have ended."""

import time
from pathlib import Path


def wait_until_gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends within seconds from now; on Linux."""
    end = time.monotonic() + seconds
    while _is_there(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not _is_there(pid)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
