"""What a script's end looks like from outside: exit status and the line on stderr."""

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from tool.errors import InputError, naming_file, naming_memory, run_script

ROOT = Path(__file__).parents[2]


class _Broken(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, _index: int):
        raise InputError("cannot read image a.jpg: it is empty; replace it")


def _exit(capsys, main, parse_args=lambda: "args") -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit:
        run_script(main, parse_args)
    return exit.value.code, capsys.readouterr().err


def _raise(error: BaseException):
    def main(_args):
        raise error

    return main


def test_success_gives_the_arguments_to_main_and_returns(capsys):
    seen = []
    run_script(seen.append, lambda: "args")
    assert seen == ["args"]
    assert capsys.readouterr().err == ""


def test_bad_input_is_one_line_and_status_2(capsys):
    message = "image not found: a.jpg;\n  check\tthe list"
    assert _exit(capsys, _raise(InputError(message))) == (
        2,
        "error: image not found: a.jpg; check the list\n",
    )


def test_bad_input_while_flags_are_read_is_caught_too(capsys):
    def parse_args():
        raise InputError("no list")

    assert _exit(capsys, print, parse_args) == (2, "error: no list\n")


def test_interrupt_is_status_130(capsys):
    assert _exit(capsys, _raise(KeyboardInterrupt())) == (130, "interrupted\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_line_and_status_2(capsys, number):
    error = OSError(number, "Reason", "out/a.npz")
    assert _exit(capsys, _raise(error)) == (
        2,
        "error: cannot write out/a.npz: Reason; free space or choose another folder\n",
    )
    assert _exit(capsys, _raise(OSError(number, "Reason")))[1].startswith(
        "error: cannot write the output: Reason;"
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_path_without_permission_is_named_whether_read_or_written(capsys, number):
    assert _exit(capsys, _raise(OSError(number, "Reason", "a.jpg"))) == (
        2,
        "error: no permission for a.jpg: Reason; change it, or give another path\n",
    )


@pytest.mark.parametrize(
    "error", [ValueError("bug"), OSError(errno.EBADF, "bug"), RuntimeError("bug")]
)
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        run_script(_raise(error), lambda: None)
    assert raised.value is error


def test_exit_of_main_is_left_alone(capsys):
    assert _exit(capsys, _raise(SystemExit(143))) == (143, "")


def test_bad_input_of_a_loaders_worker_is_its_message_alone(capsys):
    def main(_args):
        list(DataLoader(_Broken(), num_workers=1))

    assert _exit(capsys, main) == (2, "error: cannot read image a.jpg: it is empty; replace it\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 9 "
            "bytes"
        ),
    ],
)
def test_a_full_memory_is_one_line(capsys, error):
    status, line = _exit(capsys, _raise(error))
    assert status == 2
    assert line == "error: the machine ran out of memory; give smaller files\n"


def test_a_full_memory_s_advice_is_of_flags_that_the_script_has(capsys):
    args = argparse.Namespace(num_workers=1, scales=[1])
    assert _exit(capsys, _raise(MemoryError()), lambda: args)[1] == (
        "error: the machine ran out of memory; lower --num_workers, give smaller --scales, or give "
        "smaller photographs\n"
    )


@pytest.mark.parametrize("naming", [naming_file, naming_memory])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: no")])
def test_a_file_too_large_for_the_memory_is_named_once(naming, error):
    with (
        pytest.raises(InputError, match=r"^a\.png does not fit in the machine's memory; "),
        naming_file("outer"),
        naming("a.png"),
    ):
        raise error


# ============ output that nobody reads ============
PRINTS = """
import sys
from tool.errors import run_script

def main(args):
    for _ in range(int(sys.argv[1])):
        print("line " * 100)
    open(sys.argv[2], "w").write("done")

run_script(main, lambda: None)
"""


def _run(tmp_path, script: str, shell: str) -> subprocess.CompletedProcess:
    (tmp_path / "prints.py").write_text(script)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"],
        # an empty PYTHONUNBUFFERED is none
        env=os.environ | {"PYTHONPATH": str(ROOT), "P": sys.executable, "PYTHONUNBUFFERED": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("lines", [10, 5000])  # found by the last flush, and while printing
def test_a_reader_that_leaves_ends_a_script_quietly(tmp_path, lines):
    # true reads nothing; the wait is for it to be gone
    done = _run(tmp_path, PRINTS, f"(sleep 0.5; $P prints.py {lines} out) | true")
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")
    assert (tmp_path / "out").exists() == (lines == 10)


def test_help_may_be_cut_short(tmp_path):
    script = (
        "import argparse; from tool.errors import run_script\n"
        "run_script(print, argparse.ArgumentParser(description='x' * 9).parse_args)"
    )
    done = _run(tmp_path, script, "(sleep 0.5; $P prints.py --help) | true")
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_that_is_not_the_output_stays_a_bug():
    with pytest.raises(BrokenPipeError):
        run_script(_raise(BrokenPipeError()), lambda: None)


def test_without_any_stream_work_goes_on_and_no_file_takes_their_numbers(tmp_path):
    script = PRINTS.replace(
        "    for _", "    print('x', file=sys.stderr, flush=True); sys.stdin.read()\n    for _"
    )
    done = _run(tmp_path, script, "$P prints.py 5000 out <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "done"


def test_an_error_gets_the_files_name():
    with (
        pytest.raises(InputError, match=r"^masks/a.png: of another size$"),
        naming_file("masks/a.png"),
    ):
        raise InputError("of another size")


def test_ctrl_c_while_the_interpreter_ends_is_too_late():
    code = (
        "import atexit, os, signal; from tool.errors import run_script\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "run_script(print, lambda: 'done')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
