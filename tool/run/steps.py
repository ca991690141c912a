"""Commands that need each other's files: only those are run whose file is missing, each is timed.

A step is done when its file is there, since every script writes it whole and last. A step that
fills a folder runs again when something that needs it is missing, and its script keeps the files
that are finished.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tool.errors import InputError
from tool.file.atomic import append_json_line, hold, read_json_lines
from tool.parent import end_with_parent
from tool.run.run_log import git_commit

ROOT = Path(__file__).resolve().parents[2]
RECORD = "steps.jsonl"
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MACHINE_FLAGS = ("--num_workers", "--device")  # of a command that leaves the same whatever they are


@dataclass(frozen=True)
class Step:
    """A command, the file or folder it leaves, the folder that keeps the record of its runs, and
    the steps it builds on.

    script: "infer_cam.py", or "-m package.module"
    """

    script: str
    flags: tuple[str, ...]
    output: Path
    folder: Path
    needs: tuple["Step", ...] = ()

    @property
    def words(self) -> list[str]:
        """The command's words after `python`."""
        return [*self.script.split(), *self.flags]

    @property
    def command(self) -> str:
        """The command as one would type it in the repository's root."""
        return shlex.join(["python", *self.words])

    def chain(self) -> Iterator["Step"]:
        """This step and all that it builds on, each once, the first to run first."""
        seen: dict[Step, None] = {}
        for need in self.needs:
            seen |= dict.fromkeys(need.chain())
        yield from seen | {self: None}


def execute(words: Sequence[str]) -> int:
    """Run `python WORDS` with the modules of this repository, and return its exit status; its
    output goes to the terminal.

    PASSED_ON go on to the command, so that a training saves its checkpoint. It has a process group
    of its own: Ctrl-C, which a terminal sends to a whole group, reaches it once. Where this process
    is killed, it is told to end.
    """
    script, *flags = words
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, script if script == "-m" else str(ROOT / script), *flags]
    children: list[subprocess.Popen] = []
    asked: list[int] = []
    waiting: deque[int] = deque()  # of asked, what the command has not got

    def pass_on() -> None:
        while children and waiting:
            children[0].send_signal(waiting.popleft())

    def ask(number: int, _frame: Any) -> None:
        asked.append(number)
        waiting.append(number)
        pass_on()

    # before the command begins: a signal that ended this process then would leave it at work
    previous = {number: signal.signal(number, ask) for number in PASSED_ON}
    try:
        child = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": path},
            process_group=0,
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
        children.append(child)
        pass_on()
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if asked:
        raise SystemExit(128 + asked[0])
    return status


class StepFailed(InputError):
    """A command failed; the message names it."""


@dataclass
class Runner:
    """Runs what is missing. What failed is not tried again.

    execute: words after `python` -> exit status
    dry_run: print the commands instead
    """

    execute: Callable[[Sequence[str]], int] = execute
    dry_run: bool = False
    _made: set[Step] = field(default_factory=set, init=False)
    _failed: dict[Step, str] = field(default_factory=dict, init=False)

    def make(self, step: Step) -> None:
        """Run step and what it builds on, unless its file is there. Raises StepFailed naming the
        command that failed, also where it failed for another step before.
        """
        if step in self._made or step.output.is_file():
            return
        if step in self._failed:
            raise StepFailed(self._failed[step])
        for need in step.needs:
            self.make(need)
        if self.dry_run:
            print(step.command)
        else:
            with _alone_in(step.folder):
                if not step.output.is_file():
                    print(step.command, flush=True)
                    self._run(step)
        self._made.add(step)

    def _run(self, step: Step) -> None:
        start, status, commit = (
            time.monotonic(),
            None,
            git_commit(),
        )  # the tree may change while it runs
        try:
            status = self.execute(step.words)
        finally:
            entry = {
                "output": str(step.output),
                "seconds": time.monotonic() - start,
                "status": status,
                "commit": commit,
            }
            append_json_line(step.folder / RECORD, entry | {"command": step.command})
        if status != 0:
            self._fail(step, f"failed with exit status {status}; its message stands above")
        if not step.output.exists():
            self._fail(step, f"ended well, but left no {step.output}")

    def _fail(self, step: Step, how: str) -> NoReturn:
        self._failed[step] = f"`{step.command}` {how}"
        raise StepFailed(self._failed[step])


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Make the folder and wait until no other process is in this block with it: tables that are
    made at once share sessions.
    """
    with hold(
        folder / ".lock",
        lambda: print(f"waiting for another process that works in {folder}", flush=True),
    ):
        yield


def seconds(step: Step) -> float:
    """Wall time of step and all that it builds on, seconds, runs that were stopped included."""
    return sum(entry["seconds"] for part in step.chain() for entry in _runs(part))


def commits(step: Step) -> list[str]:
    """The commits under which step and what it builds on were run, each once, in the order of the
    steps.
    """
    return list(dict.fromkeys(entry["commit"] for part in step.chain() for entry in _runs(part)))


def _runs(step: Step) -> list[dict]:
    """The records of the step's own runs: of a file those that made it, whatever else was said in
    their command. Several steps may fill one folder, each with another list: there the command
    decides, by the last parts of its paths, since a folder of results may be spelled otherwise or
    moved.
    """
    path = step.folder / RECORD
    entries = read_json_lines(path) if path.is_file() else ()
    entries = [entry for entry in entries if Path(entry["output"]).name == step.output.name]
    if step.output.suffix:  # a folder may be gone by now
        return entries
    return [
        entry
        for entry in entries
        if _without_machine(entry["command"]) == _without_machine(step.command)
    ]


def _without_machine(command: str) -> list[str]:
    words = shlex.split(command)
    dropped = {
        place + after
        for place, word in enumerate(words)
        if word in MACHINE_FLAGS
        for after in (0, 1)
    }
    return [Path(word).name for place, word in enumerate(words) if place not in dropped]
