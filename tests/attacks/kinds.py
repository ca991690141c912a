"""What goes wrong around a script while it runs, each a kind, and how the script must end then."""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.process import CLOCK, Run, start
from tests.attacks.world import Script

EARLY = 1.0  # seconds in which a script that a user starts imports
BEFORE_IT_BEGINS = ("<frozen site>", "from tool.start import ")  # in a traceback
GRACE = 120  # seconds that processes of a script may stay after it, on a busy machine


class Fault(Exception):
    """What a try found."""


def undisturbed(script: Script, place: Path, workers: int, forked: bool = True) -> float:
    """Run a script to its end; seconds. Raises Fault unless it ends well."""
    run = start(script, place, workers, forked=forked, name="again")
    end(run)
    if run.status != 0:
        raise Fault(f"undisturbed it ended with {run.status}: {run.text[-1500:]}")
    _require_calm(run)
    return time.monotonic() - run.started


def end(run: Run) -> None:
    """Wait for a run and all of its processes. Raises Fault where some stay."""
    ended = run.wait()
    stop = time.monotonic() + GRACE
    while (rest := run.rest()) and ended and time.monotonic() < stop:
        time.sleep(0.05)
    for pid in rest:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not ended:
        run.wait(GRACE)
        raise Fault(f"it did not end: {run.text[-1500:]}")
    if rest:
        raise Fault(f"processes stay {GRACE} s after it: {len(rest)}; {run.text[-500:]}")


def _require_calm(run: Run) -> None:
    text = run.text
    if "Traceback" in text or "Fatal Python" in text:
        raise Fault(f"it ended with {run.status} and said: {text[-3000:]}")


def require_status(run: Run, *allowed: int) -> None:
    _require_calm(run)
    if run.status not in allowed:
        raise Fault(f"it ended with {run.status}, not with one of {allowed}: {run.text[-1500:]}")
    if run.status == 2 and "error: " not in run.text:
        raise Fault(f"it ended with 2 and said: {run.text[-1500:]}")


@dataclass(frozen=True)
class Try:
    """One attack: what is disturbed, where, and with which randomness."""

    script: Script
    place: Path
    workers: int
    forked: bool
    seconds: float  # that an undisturbed run takes
    rng: random.Random

    def begin(self, **options) -> Run:
        """Start the script, and wait until a random moment of it."""
        run = start(self.script, self.place, self.workers, forked=self.forked, **options)
        run.wait(self.rng.uniform(0, 1.05 * self.seconds))
        return run


def _killed(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGKILL)
    end(run)
    require_status(run, 0, -signal.SIGKILL)


def _terminated(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGTERM)
    end(run)
    require_status(run, 0, -signal.SIGTERM, 128 + signal.SIGTERM)


def _interrupted(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGINT)
    end(run)
    require_status(run, 0, -signal.SIGINT, 128 + signal.SIGINT)


def _interrupted_early(attempt: Try) -> None:
    """Ctrl-C while a script imports; before it begins, Python may say where it was."""
    run = start(attempt.script, attempt.place, attempt.workers, forked=False)
    run.wait(attempt.rng.uniform(0, EARLY))
    run.send(signal.SIGINT)
    end(run)
    if any(words in run.text for words in BEFORE_IT_BEGINS):
        return
    require_status(run, 0, -signal.SIGINT, 128 + signal.SIGINT)


def _in_terminal(attempt: Try) -> None:
    run = attempt.begin(in_terminal=True)
    run.press_ctrl_c()
    end(run)
    require_status(run, 0, -signal.SIGINT, 128 + signal.SIGINT)


def _terminal_closed(attempt: Try) -> None:
    run = attempt.begin(in_terminal=True)
    if run.terminal is not None:
        os.close(run.terminal)
        run.terminal = None
    end(run)
    require_status(run, 0, -signal.SIGHUP, 128 + signal.SIGHUP, 141)


def _disk_full(attempt: Try) -> None:
    size = int(10 ** attempt.rng.uniform(0, 6))
    run = start(
        attempt.script,
        attempt.place,
        attempt.workers,
        in_terminal=True,
        forked=attempt.forked,
        largest_file=size,
    )
    end(run)
    require_status(run, 0, 2)


def _two_at_once(attempt: Try) -> None:
    first = start(attempt.script, attempt.place, attempt.workers, name="one")
    first.wait(attempt.rng.uniform(0, attempt.seconds) * attempt.rng.randrange(2))
    second = start(attempt.script, attempt.place, attempt.workers, name="two")
    for run in (first, second):
        end(run)
    allowed = (0, 2) if attempt.script.trains else (0,)
    for run in (first, second):
        require_status(run, *allowed)
        if run.status == 2 and "another process is training" not in run.text:
            raise Fault(f"beside another it ended with 2: {run.text[-1500:]}")
    if (first.status, second.status) == (2, 2):
        raise Fault("both gave way to the other")


def _through_links(attempt: Try) -> None:
    place = attempt.place
    (place / "elsewhere").mkdir()
    (place / "out").symlink_to("elsewhere")
    for name in ("data", "cams", "masks"):
        (place / name).rename(place / f"real_{name}")
        (place / name).symlink_to(f"real_{name}")
    run = attempt.begin()
    end(run)
    require_status(run, 0)
    if not (place / "out").is_symlink():
        raise Fault("a link was replaced")


def _clock(attempt: Try) -> None:
    """Files from the future and from 1970, and a clock that jumps an hour to either side."""
    for path in attempt.place.rglob("*"):
        if path.is_file():
            moment = attempt.rng.choice((0, 1, 2**31 - 1, 2**32, time.time() - 86400))
            os.utime(path, (moment, moment))
    run = attempt.begin(environment={CLOCK: str(attempt.rng.randrange(1000))})
    end(run)
    require_status(run, 0)


def _victim(attempt: Try) -> Path:
    path = attempt.place / attempt.rng.choice(attempt.script.inputs)
    return attempt.rng.choice(sorted(path.iterdir())) if path.is_dir() else path


def _spoil(attempt: Try, path: Path) -> None:
    """Cut, replace, empty or take away a file, in place or by another.

    Not photographs by other whole ones: the CAM files of this world do not say what they were made
    from. Nor photographs in place, which voc12.coco links.
    """
    rng, data = attempt.rng, path.read_bytes()
    picture = path.suffix in (".jpg", ".png")
    others = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
    new: bytes | None = data[: rng.randrange(len(data) + 1)]
    match rng.randrange(6):
        case 0:
            new = None
        case 1:
            new = rng.randbytes(rng.randrange(1000))
        case 2 if others and not picture:
            new = rng.choice(others).read_bytes()
        case 3:
            path.unlink()
            path.mkdir()
            return
        case 4:
            path.unlink()
            path.symlink_to("nothing")
            return
    if new is not None and path.suffix not in (".pth", ".jpg") and rng.random() < 0.5:
        path.write_bytes(new)  # as cp does, under who reads it
        return
    path.unlink()
    if new is not None:
        path.write_bytes(new)


def _with_spoilt(attempt: Try, at_work: bool) -> None:
    path = _victim(attempt)
    kept = attempt.place / "kept"
    shutil.copy2(path, kept)
    run = attempt.begin() if at_work else None
    if run is not None and run.status is not None:
        os.unlink(kept)
        end(run)
        require_status(run, 0)
        return
    _spoil(attempt, path)
    run = run or start(attempt.script, attempt.place, attempt.workers, forked=attempt.forked)
    end(run)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    os.replace(kept, path)
    require_status(run, 0, 2)


def _input_changes(attempt: Try) -> None:
    _with_spoilt(attempt, at_work=True)


def _input_changes_between(attempt: Try) -> None:
    undisturbed(attempt.script, attempt.place, attempt.workers)
    _with_spoilt(attempt, at_work=False)


KINDS: dict[str, Callable[[Try], None]] = {
    "kill": _killed,
    "term": _terminated,
    "int": _interrupted,
    "early": _interrupted_early,
    "terminal": _in_terminal,
    "hangup": _terminal_closed,
    "disk": _disk_full,
    "twin": _two_at_once,
    "links": _through_links,
    "clock": _clock,
    "input": _input_changes,
    "between": _input_changes_between,
}
