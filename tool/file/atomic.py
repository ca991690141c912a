"""Writing files whole or not at all, JSON among them, and holding a file for one process.

Every output goes through here. A link is followed to its target; a device, a pipe or what stdout
already goes to is written to as it is, once all is made; a folder is refused.
"""

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tool.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
PART = ".part"  # the end of a temporary file's name
TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Have a full disk's error name path, whatever the writer inside made of it (torch's is a
    RuntimeError).
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno in FULL):
            cause = cause.__context__
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb", sync: bool = True) -> Iterator[IO]:
    """Open a temporary file beside path and rename it to path when the block ends without an error.

    A reader sees the old file or the new one, never a part; after an error or a kill the old file
    is untouched. Folders above path are made. Where path is a link, the file is its target; what
    goes to a device or a pipe is made in memory first. mode: "wb" or "w" (UTF-8; a name from disk
    that is not becomes backslashes). sync: have it on the disk before it is renamed; without it, a
    power cut (no kill) may leave an empty file.
    Raises IsADirectoryError for a folder.
    """
    if (stream := _open_stream(path)) is not None:
        with naming(path), stream:
            content = io.BytesIO()
            file = content if "b" in mode else io.TextIOWrapper(content, **TEXT)
            yield file
            file.flush()
            stream.write(content.getvalue())
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else TEXT
    with naming(path):
        handle, temporary = _open_temporary(path)
    with naming(path), os.fdopen(handle, mode, **text) as file:
        try:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:  # while it is still locked
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _open_temporary(path: Path) -> tuple[int, Path]:
    """(handle, path) of an empty file beside path to be renamed to it.

    Its name is path's, so that what a killed writer left is written over by the next, and it is
    locked while it is written: where another writer is at work, or the disk knows no locks, it gets
    a name of its own.
    """
    usual = path.with_name(f".{path.name}{PART}")
    handle = None
    try:
        handle = os.open(usual, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(handle)
        # else another has renamed it meanwhile
        if stat.S_ISREG(found.st_mode) and os.path.samestat(found, usual.lstat()):
            os.ftruncate(handle, 0)
            return handle, usual
    except OSError:  # what holds for other names too is raised below
        pass
    if handle is not None:
        os.close(handle)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    return handle, Path(name)


def remove_leftovers(folder: str | Path, *starts: str) -> int:
    """Remove the temporary files that killed writers have left in folder of files whose names begin
    with one of starts; how many there were.

    For a caller that alone writes these (hold): the file of a writer at work would go too.
    """
    begins = tuple(f".{start}" for start in starts)
    leftovers = [
        path
        for path in Path(folder).glob(f".*{PART}")
        if path.name.startswith(begins) and path.is_file()
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _open_stream(path: str | Path) -> IO[bytes] | None:
    """path open for writing where it is no file to be replaced: a device, a pipe, a socket, or the
    file that stdout or stderr goes to, as /dev/stdout; None for a file, there or not.

    Raises IsADirectoryError for a folder.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(number)):
                for printed in (sys.stdout, sys.stderr):
                    if printed is not None:
                        printed.flush()
                return os.fdopen(os.dup(number), "wb")
    # not O_CREAT: what has gone away meanwhile is not made as a file
    return None if stat.S_ISREG(found.st_mode) else os.fdopen(os.open(path, os.O_WRONLY), "wb")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def hold(path: str | Path, on_wait: Callable[[], None] | None = None) -> IO:
    """Lock path for this process until the file that is returned is closed or the process ends,
    however it ends; its folder is made.

    on_wait: called before waiting where another process has the lock; None: BlockingIOError is
    raised instead. A disk that knows no locks grants every one. Worker processes do not inherit it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # what a link points to is not emptied
    file = Path(path).open("a")  # noqa: SIM115, the caller closes it
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # by platform
        if on_wait is None:
            file.close()
            raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from error
        on_wait()
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            file.close()
            raise
    return file


def write_json(path: str | Path, value: Any) -> None:
    """Write value as indented JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def append_json_line(path: str | Path, entry: dict[str, Any]) -> None:
    """Append entry as a line of JSON, what JSON lacks as text, nan and inf too; on a line of its
    own also after one that a killed writer left unfinished.
    """
    finite = {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
    line = json.dumps(finite, default=str) + "\n"
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            line = ("" if file.read(1) in (b"", b"\n") else "\n") + line
    append_text(path, line)


def append_text(path: str | Path, text: str) -> None:
    """Append text, UTF-8, to a file, which is made with the folders above it, or to a device or a
    pipe; an error names path.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with naming(path), Path(path).open("ab") as file:
        file.write(text.encode(errors=TEXT["errors"]))


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a file that has one a line, without lines that a killed writer has left
    unfinished.

    Raises InputError naming the file when no line of it is whole.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    entries = [entry for entry in entries if isinstance(entry, dict)]
    if lines and not entries:
        raise InputError(f"{path} has no line that is a JSON object; is it another file?")
    return entries
