"""The one error type for bad input, and the frame that turns it into a line on the terminal."""

import contextlib
import errno
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor

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
NO_MEMORY = (
    "the machine ran out of memory; lower --num_workers, give smaller --scales where there are any, or smaller photographs"
)
FORBIDDEN = (errno.EACCES, errno.EPERM)  # to read as well as to write


class InputError(Exception):
    """Something the user gave is missing or wrong; the message is one line that names the culprit and what to do."""


@contextlib.contextmanager
def naming_file(path: object) -> Iterator[None]:
    """Put path before an InputError that knows arrays only."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def run_script(main: Callable, parse_args: Callable) -> None:
    """Run main(parse_args()); bad input, a full or unwritable disk, a full device and a killed worker become one line on stderr and exit
    status 2.

    Interrupts exit with 130, as a shell expects. Any other exception is a bug and keeps its traceback.
    """
    try:
        main(parse_args())
    except InputError as error:
        # From a loader's worker it comes with the worker's traceback, whose last line has the message.
        sys.exit(_report(str(error).rpartition(f"{InputError.__module__}.InputError: ")[2]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in FORBIDDEN:
            sys.exit(
                _report(f"no permission for {error.filename or 'a file'}: {error.strerror}; change it, or give another path")
            )
        if error.errno not in UNWRITABLE:
            raise
        sys.exit(_report(f"cannot write {error.filename or 'the output'}: {error.strerror}; free space or choose another folder"))
    except RuntimeError as error:
        if isinstance(error, BrokenExecutor) or str(error).startswith("DataLoader worker (pid"):
            sys.exit(_report("a worker process was killed, most often because memory ran out; lower --num_workers"))
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which not every script imports
            sys.exit(
                _report(
                    "the device ran out of memory; set --precision bf16, smaller --scales where there are any, or --device cpu"
                )
            )
        if "DefaultCPUAllocator" in str(error):
            sys.exit(_report(NO_MEMORY))
        raise
    except MemoryError:
        sys.exit(_report(NO_MEMORY))


def _report(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
