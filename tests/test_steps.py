"""Commands that need each other's files: order, skipping, what a failure says, times and commits."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from tool.errors import InputError
from tool.steps import RECORD, Runner, Step, commits, digest, execute, seconds


class Commands:
    """Stands for the machine: runs a step by writing its file, fails where told, and remembers."""

    def __init__(self, failing=()):
        self.ran, self.failing = [], set(failing)

    def __call__(self, words):
        self.ran.append(words[0])
        if words[0] in self.failing:
            return 2
        path = Path(words[1])
        path.mkdir() if words[0] == "folder.py" else path.touch()
        return 0


def _chain(folder):
    """weights -> folder of CAMs -> numbers."""

    def step(script, name, *needs):
        return Step(script, (str(folder / name),), folder / name, folder, needs)

    train = step("train.py", "a.pth")
    cams = step("folder.py", "cam", train)
    return step("evaluate.py", "numbers.json", cams, train)


def test_runs_what_is_missing_in_order(tmp_path):
    last = _chain(tmp_path / "session")
    assert [step.script for step in last.chain()] == ["train.py", "folder.py", "evaluate.py"]
    commands = Commands()
    Runner(commands).make(last)
    assert commands.ran == ["train.py", "folder.py", "evaluate.py"]
    Runner(commands).make(last)
    assert len(commands.ran) == 3
    last.output.unlink()  # its folder of CAMs is looked at again, the weights are there
    commands.ran.clear()
    commands.failing.add("evaluate.py")
    (tmp_path / "session" / "cam").rmdir()
    with pytest.raises(InputError, match=r"`python evaluate.py \S+numbers.json` failed with exit status 2"):
        Runner(commands).make(last)
    assert commands.ran == ["folder.py", "evaluate.py"]


def test_a_step_that_leaves_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"`python train.py .*` ended well, but left no .*a.pth"):
        Runner(lambda words: 0).make(_chain(tmp_path / "session"))


def test_dry_run_prints_and_runs_nothing(tmp_path, capsys):
    commands = Commands()
    last = _chain(tmp_path / "session")
    Runner(commands, dry_run=True).make(last)
    assert commands.ran == []
    assert capsys.readouterr().out.splitlines() == [step.command for step in last.chain()]
    assert not (tmp_path / "session").exists()


def test_times_add_up_over_the_chain_and_over_stops(tmp_path):
    last = _chain(tmp_path)
    train, cams, evaluate = last.chain()
    cams.output.mkdir()
    entries = [
        (train, f"{train.command} --seed 0", 10, "aaa"),  # another table may spell the same training otherwise
        (train, train.command, 5, "bbb"),
        (cams, f"{cams.command} --device cpu --num_workers 1", 2, "bbb"),
        (cams, f"{cams.command} --infer_list other", 100, "ccc"),  # fills the same folder
        (evaluate, evaluate.command, 1, "bbb"),
    ]
    lines = [
        {"output": str(step.output), "command": text, "seconds": time, "commit": commit} for step, text, time, commit in entries
    ]
    (tmp_path / RECORD).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds(last) == 18
    assert commits(last) == ["aaa", "bbb"]
    assert seconds(_chain(tmp_path / "new")) == 0


def test_digest_ignores_order_and_sees_values():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_execute_returns_the_status():
    assert execute(["-m", "timeit", "-n1", "-r1", "pass"]) == 0
    assert execute(["no_such_script.py"]) == 2


def test_execute_passes_a_signal_on():
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SystemExit) as stopped:
        execute(["-m", "timeit", "-n1", "-r1", "import time; time.sleep(60)"])
    assert stopped.value.code == 128 + signal.SIGTERM
