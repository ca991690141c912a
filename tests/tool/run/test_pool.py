"""Work in processes gives the same results in the same order, and the first error."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tool.errors import InputError
from tool.run.pool import background_calls, pool_map
from tool.run.steps import ROOT


def _power(number: int, exponent: int) -> int:
    if number == 7:
        raise InputError("seven is not allowed")
    return number**exponent


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_keep_the_order_of_items(num_workers):
    assert pool_map(partial(_power, exponent=3), range(6), num_workers, "cubes") == [
        0,
        1,
        8,
        27,
        64,
        125,
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_reaches_the_caller(num_workers):
    with pytest.raises(InputError, match=r"^seven is not allowed$"):
        pool_map(partial(_power, exponent=2), range(9), num_workers, "squares")


def test_nothing_to_do():
    assert pool_map(_power, [], 4, "nothing") == []


def _write(path: Path, number: int) -> None:
    path.write_text(str(_power(number, 2)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_background_calls_are_done_at_the_end(num_workers, tmp_path):
    with background_calls(num_workers) as call:
        for number in range(5):
            call(_write, tmp_path / str(number), number)
    assert [(tmp_path / str(number)).read_text() for number in range(5)] == [
        "0",
        "1",
        "4",
        "9",
        "16",
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_background_calls_return_is_taken_in_their_order(num_workers):
    taken = []
    with background_calls(num_workers, taken.append) as call:
        for number in range(7):
            call(_power, number, 2)
    assert taken == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_of_a_background_call_reaches_the_caller(num_workers, tmp_path):
    def write() -> None:
        with background_calls(num_workers) as call:
            for number in range(6, 12):
                call(_write, tmp_path / str(number), number)

    with pytest.raises(InputError, match=r"^seven is not allowed$"):
        write()


def _announce(path: Path) -> None:
    path.touch()
    time.sleep(0.5)


def interrupted_work(folder: str) -> None:
    """What the next test runs in a process of its own."""
    pool_map(_announce, [Path(folder) / str(number) for number in range(400)], 2, "work")


@pytest.mark.parametrize("starting", [True, False])
def test_ctrl_c_twice_ends_the_work(tmp_path, starting):
    """As a terminal sends it, to all processes of the group, while workers start or when they are
    at work.
    """
    program = (
        f"import signal, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        # a shell's background jobs start with SIGINT ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tests.tool.run.test_pool import interrupted_work\n"
        "from tool.errors import run_script\n"
        "if __name__ == '__main__':\n"
        "    print('started', flush=True); run_script(interrupted_work, lambda: "
        f"{str(tmp_path)!r})\n"
    )
    (tmp_path / "program.py").write_text(program)
    words = [sys.executable, str(tmp_path / "program.py")]
    process = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    if starting:
        time.sleep(0.3)
    else:
        while not (tmp_path / "0").exists():
            time.sleep(0.05)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted"
    assert len(list(tmp_path.iterdir())) < 100


SLEEPS = (
    "import time; from tool.run.pool import pool_map\n"
    "if __name__ == '__main__':\n"
    "    pool_map(time.sleep, [600] * 8, 2, 'nights')\n"
)


def _workers_of(pid: int) -> list[int]:
    """The processes of its session beside itself."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid != int(entry.name) and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_end_when_the_main_process_is_killed(tmp_path):
    """They hold both ends of the pipe that they wait at."""
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    main = subprocess.Popen(
        [sys.executable, str(script)],
        start_new_session=True,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    while len(_workers_of(main.pid)) < 3:  # two, and the one that tracks resources
        assert main.poll() is None
        time.sleep(0.05)
    main.kill()
    main.wait()
    end = time.monotonic() + 60
    while _workers_of(main.pid) and time.monotonic() < end:
        time.sleep(0.1)
    left = _workers_of(main.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
