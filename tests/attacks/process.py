"""A script as a process of its own: started in a session or a terminal, signalled, waited for."""

import atexit
import contextlib
import importlib
import io
import os
import pty
import random
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.attacks.world import Script
from tool.errors import run_script
from tool.run.notes import forget_notes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240  # seconds that a run may take
CLOCK = "TESTS_ATTACKS_CLOCK"  # variable of the environment


@dataclass
class Run:
    """A script that was started in a process group and session of its own."""

    pid: int
    output: Path  # stdout and stderr
    terminal: int | None = None  # what it was started in, our end
    started: float = field(default_factory=time.monotonic)
    status: int | None = None  # as subprocess has it: below 0 for a signal

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Whether it ended within seconds from now; reads the terminal meanwhile."""
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            self._read_terminal()
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.002)
        self._read_terminal()
        return self.status is not None

    def _read_terminal(self) -> None:
        while self.terminal is not None and select.select([self.terminal], [], [], 0)[0]:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                os.close(self.terminal)
                self.terminal = None
                return
            with self.output.open("ab") as file:
                file.write(data)

    def send(self, number: int, everyone: bool = False) -> None:
        """Send a signal to the script, or to its whole process group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if everyone else os.kill)(self.pid, number)

    def press_ctrl_c(self) -> None:
        """As at a keyboard: the terminal sends SIGINT to all of the foreground group."""
        with contextlib.suppress(OSError):
            if self.terminal is not None:
                os.write(self.terminal, b"\x03")

    def rest(self) -> list[int]:
        """The processes of its session that are still there."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.pid and fields[0] not in "ZX":
                        found.append(int(entry.name))
        return found

    @property
    def text(self) -> str:
        """What it said."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


def start(
    script: Script,
    place: Path,
    workers: int,
    *,
    in_terminal: bool = False,
    forked: bool = True,
    largest_file: int | None = None,
    environment: dict[str, str] | None = None,
    name: str = "run",
) -> Run:
    """Start a script in the folder place.

    forked: in a process that has its modules loaded; largest_file: bytes that it may write to one
    """
    output = place / f"{name}.said"
    output.write_bytes(b"")
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = None
    if in_terminal:
        pid, terminal = pty.fork()
    else:
        pid = os.fork()
    if pid:
        return Run(pid, output, terminal)
    try:
        if not in_terminal:
            os.setsid()
            said = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
        os.chdir(place)
        os.environ |= {"OMP_NUM_THREADS": "1", **(environment or {})}
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        words = script.words(workers)
        if forked:
            _run_module(script.module, words)
        else:
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            os.environ["PYTHONPATH"] = path
            file = ROOT / f"{script.module}.py"
            how = [str(file)] if file.exists() else ["-m", script.module]
            os.execv(sys.executable, [sys.executable, *how, *words])
    finally:
        os._exit(99)


def _run_module(name: str, words: Sequence[str]) -> None:
    """Run a script as python does, in this forked process, which ends."""
    status = 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(number, mode, closefd=False), line_buffering=True)
        for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
    )
    sys.argv = [name, *words]
    torch.set_num_threads(1)
    forget_notes()
    if CLOCK in os.environ:
        _let_clock_jump(int(os.environ[CLOCK]))
    try:
        module = importlib.import_module(name)
        sys.modules["__main__"] = module  # which processes that it spawns import
        run_script(module.main, lambda: module.parse_args(list(words)))
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _let_clock_jump(seed: int) -> None:
    rng, now = random.Random(seed), time.time
    time.time = lambda: now() + rng.choice((-3600, 0, 3600))
    time.time_ns = lambda: int(time.time() * 1e9)
