"""Commands that need each other's files: order, skipping, what a failure says, times and
commits.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.processes import wait_until_gone
from tool.errors import InputError
from tool.file.atomic import hold
from tool.run import steps
from tool.run.steps import RECORD, ROOT, Runner, Step, commits, execute, seconds


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
    with pytest.raises(
        InputError, match=r"`python evaluate.py \S+numbers.json` failed with exit status 2"
    ):
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
        # another table may spell the same training otherwise
        (
            train,
            f"{train.command} --seed 0",
            10,
            "aaa",
        ),
        (train, train.command, 5, "bbb"),
        (cams, f"{cams.command} --device cpu --num_workers 1", 2, "bbb"),
        (cams, f"{cams.command} --infer_list other", 100, "ccc"),  # fills the same folder
        (evaluate, evaluate.command, 1, "bbb"),
    ]
    lines = [
        {"output": str(step.output), "command": text, "seconds": duration, "commit": commit}
        for step, text, duration, commit in entries
    ]
    (tmp_path / RECORD).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds(last) == 18
    assert commits(last) == ["aaa", "bbb"]
    assert seconds(_chain(tmp_path / "new")) == 0
    (tmp_path / "cam").rmdir()  # gigabytes that nobody needs any more
    assert (seconds(last), commits(last)) == (18, ["aaa", "bbb"])
    moved = _chain(tmp_path / "moved")
    (tmp_path / "moved" / "cam").mkdir(parents=True)
    (tmp_path / RECORD).rename(tmp_path / "moved" / RECORD)
    assert (seconds(moved), commits(moved)) == (18, ["aaa", "bbb"])


def test_a_run_is_the_commits_at_its_start(tmp_path, monkeypatch):
    found = iter(["start", "later"])
    monkeypatch.setattr(steps, "git_commit", lambda: next(found))
    train = next(iter(_chain(tmp_path).chain()))
    Runner(Commands()).make(train)
    assert commits(train) == ["start"]


def test_who_waits_for_whom_is_said(tmp_path, capfd):
    train = next(iter(_chain(tmp_path).chain()))
    held = hold(tmp_path / ".lock")
    program = (
        "import sys; from pathlib import Path; from tool.run.steps import _alone_in\nwith "
        "_alone_in(Path(sys.argv[1])): print('in')"
    )
    waiting = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert (
        waiting.stdout.readline() == f"waiting for another process that works in {train.folder}\n"
    )
    held.close()
    assert waiting.communicate(timeout=30)[0] == "in\n"


def test_execute_returns_the_status():
    assert execute(["-m", "timeit", "-n1", "-r1", "pass"]) == 0
    assert execute(["no_such_script.py"]) == 2


def test_execute_passes_a_signal_on():
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SystemExit) as stopped:
        execute(["-m", "timeit", "-n1", "-r1", "import time; time.sleep(60)"])
    assert stopped.value.code == 128 + signal.SIGTERM


def test_ctrl_c_reaches_the_command_once(tmp_path):
    """A terminal sends it to every process of the group, and execute passes it on."""
    count = (
        "import signal, time\n"
        f"signal.signal(signal.SIGINT, lambda *_: open({str(tmp_path / 'log')!r}, "
        "'a').write('x'))\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "[time.sleep(0.1) for _ in range(15)]"
    )
    (tmp_path / "count.py").write_text(count)
    program = f"from tool.run.steps import execute; execute([{str(tmp_path / 'count.py')!r}])"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)
    while not (tmp_path / "ready").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(timeout=30) == 128 + signal.SIGINT
    assert (tmp_path / "log").read_text() == "x"


def test_a_signal_while_the_command_is_started_is_passed_on(monkeypatch):
    """Else it ends this process alone."""
    started = []

    def start(*words, **how):
        started.append(subprocess.Popen(*words, **how))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(steps, "subprocess", SimpleNamespace(Popen=start))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a failure is not to end the tests
    try:
        with pytest.raises(SystemExit) as stopped:
            execute(["-m", "timeit", "-n1", "-r1", "import time; time.sleep(10)"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert started[0].returncode == -signal.SIGTERM


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_command_ends_where_who_started_it_is_killed(tmp_path):
    (tmp_path / "work.py").write_text(
        "import os, time; print(os.getpid(), flush=True)\ntime.sleep(40)"
    )
    program = f"from tool.run.steps import execute; execute([{str(tmp_path / 'work.py')!r}])"
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    command = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    with parent.stdout:
        assert wait_until_gone(command)


def test_a_clock_that_is_set_back_gives_no_negative_seconds(tmp_path, monkeypatch):
    now = iter(range(10**6, 0, -1000))
    monkeypatch.setattr(steps.time, "time", lambda: next(now))
    last = _chain(tmp_path / "session")
    Runner(Commands()).make(last)
    assert 0 <= seconds(last) < 60
