"""The one error type for bad input, and the frame that turns it into a line on the terminal."""

import atexit
import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import IO

UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
# What saves memory, by the flag that a script must have for it to be said.
SAVINGS = {
    "num_workers": "lower --num_workers",
    "batch_size": "lower --batch_size",
    "crop_size": "lower --crop_size",
    "scales": "give smaller --scales",
    "superpixels": "lower --superpixels",
}
DEVICE_SAVINGS = {"precision": "set --precision bf16", **SAVINGS, "device": "set --device cpu"}
DEVICE_SAVINGS.pop("num_workers")
READER_LEFT = 128 + signal.SIGPIPE  # what a shell says of a program that SIGPIPE ended
CPU_MEMORY = "DefaultCPUAllocator"  # in the message of torch's RuntimeError
FORBIDDEN = (errno.EACCES, errno.EPERM)  # to read as well as to write


class InputError(Exception):
    """Something the user gave is missing or wrong; the message is one line that names the culprit
    and what to do.
    """


class NothingLearntError(InputError):
    """Maps whose values are all alike, so that no threshold parts them."""


@contextlib.contextmanager
def naming_file(path: object) -> Iterator[None]:
    """Put path before an InputError that knows arrays only, and make one of a full memory."""
    try:
        with naming_memory(path):
            yield
    except InputError as error:
        if error.__cause__ is not None and _is_full_memory(error.__cause__):
            raise
        raise InputError(f"{path}: {error}") from error


@contextlib.contextmanager
def naming_memory(path: object) -> Iterator[None]:
    """Have path named where its content needs more memory than there is."""
    try:
        yield
    except MemoryError as error:
        raise memory_error(path) from error
    except RuntimeError as error:
        if not _is_full_memory(error):
            raise
        raise memory_error(path) from error


def _is_full_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or CPU_MEMORY in str(error)


def memory_error(path: object) -> InputError:
    """The error of a file too large for the machine's memory."""
    return InputError(
        f"{path} does not fit in the machine's memory; is it as large as it says? make it smaller, "
        "or take it off the list"
    )


def run_script(main: Callable, parse_args: Callable) -> None:
    """Run main(parse_args()); bad input, a full or unwritable disk, a full device and a killed
    worker become one line on stderr and exit status 2.

    Interrupts exit with 130, as a shell expects. Where the reader of the output has left, as
    `| head -1` does, the script stops as quietly as others, with READER_LEFT; where there is no
    output, it works on. Any other exception is a bug and keeps its traceback.
    """
    _open_missing_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # from tool.start.end_at_ctrl_c
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # the work is done where the interpreter ends: Ctrl-C has nothing left to stop
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    args = None
    try:
        try:
            args = parse_args()
            main(args)
        finally:
            sys.stdout.flush()  # what is printed last may be what finds the reader gone
    except BrokenPipeError:
        left = [stream for stream in (sys.stdout, sys.stderr) if _reader_left(stream)]
        if not left:
            raise
        for stream in left:  # so that Python's last flush finds a place
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(READER_LEFT)
    except InputError as error:
        # From a loader's worker it comes with the worker's traceback, whose last line has the
        # message.
        sys.exit(_report(str(error).rpartition(f"{InputError.__module__}.InputError: ")[2]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in FORBIDDEN:
            sys.exit(
                _report(
                    f"no permission for {error.filename or 'a file'}: {error.strerror}; change it, "
                    "or give another path"
                )
            )
        if error.errno not in UNWRITABLE:
            raise
        sys.exit(
            _report(
                f"cannot write {error.filename or 'the output'}: {error.strerror}; free space or "
                "choose another folder"
            )
        )
    except RuntimeError as error:
        if isinstance(error, BrokenExecutor) or str(error).startswith("DataLoader worker (pid"):
            sys.exit(
                _report(
                    "a worker process was killed, most often because memory ran out; lower "
                    "--num_workers"
                )
            )
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which not every script imports
            sys.exit(_report(f"the device ran out of memory; {_savings(args, DEVICE_SAVINGS)}"))
        if CPU_MEMORY in str(error):
            sys.exit(_report(f"the machine ran out of memory; {_savings(args, SAVINGS)}"))
        raise
    except MemoryError:
        sys.exit(_report(f"the machine ran out of memory; {_savings(args, SAVINGS)}"))


def _savings(args: object, savings: dict[str, str]) -> str:
    """What a script with these flags can do to need less memory."""
    ways = [way for name, way in savings.items() if hasattr(args, name)]
    return ", ".join([*ways, "or give smaller photographs"] if ways else ["give smaller files"])


def _open_missing_streams() -> None:
    """Have stdin, stdout and stderr go to /dev/null where they were closed, so that printing works
    and no output file gets their number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if number == 0 else "w")  # noqa: SIM115, PTH123
            setattr(sys, name, stream)


def _reader_left(stream: IO) -> bool:
    """Whether nobody can read any more what is written to stream, a pipe or a socket."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file below it, or closed
        return False


def _report(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
