"""The one error type for bad input, and the frame that turns it into a line on the terminal."""

import errno
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave is missing or wrong; the message is one line that names the culprit and what to do."""


def run_script(main: Callable, parse_args: Callable) -> None:
    """Run main(parse_args()); bad input and a full or unwritable disk become one line on stderr and exit status 2.

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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        sys.exit(_report(f"cannot write {error.filename or 'the output'}: {error.strerror}; free space or choose another folder"))


def _report(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
