"""What a script's end looks like from outside: exit status and the line on stderr."""

import errno

import pytest
from torch.utils.data import DataLoader, Dataset

from tool.errors import InputError, naming_file, run_script


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
    assert _exit(capsys, _raise(InputError(message))) == (2, "error: image not found: a.jpg; check the list\n")


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
    assert _exit(capsys, _raise(OSError(number, "Reason")))[1].startswith("error: cannot write the output: Reason;")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_path_without_permission_is_named_whether_read_or_written(capsys, number):
    assert _exit(capsys, _raise(OSError(number, "Reason", "a.jpg"))) == (
        2,
        "error: no permission for a.jpg: Reason; change it, or give another path\n",
    )


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EBADF, "bug"), RuntimeError("bug")])
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
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_a_full_memory_is_one_line(capsys, error):
    status, line = _exit(capsys, _raise(error))
    assert status == 2
    assert line.startswith("error: the machine ran out of memory; lower --num_workers")


def test_an_error_gets_the_files_name():
    with pytest.raises(InputError, match=r"^masks/a.png: of another size$"), naming_file("masks/a.png"):
        raise InputError("of another size")
