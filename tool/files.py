"""Writing files whole or not at all, and finding out where a number came from."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tool.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Have a full disk's error name path, whatever the writer inside made of it (torch's is a RuntimeError)."""
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
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file beside path and rename it to path when the block ends without an error.

    A reader sees the old file or the new one, never a part; after an error or a kill the old file is untouched.
    Folders above path are made. mode: "wb" or "w" (UTF-8; a name from disk that is not becomes backslashes).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with naming(path), os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def hold(path: str | Path, on_wait: Callable[[], None] | None = None) -> IO:
    """Lock path for this process until the file that is returned is closed or the process ends, however it ends; its folder is made.

    on_wait: called before waiting where another process has the lock; None: BlockingIOError is raised instead
    A disk that knows no locks grants every one. Worker processes do not inherit it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = Path(path).open("w")  # noqa: SIM115, the caller closes it
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


def file_digest(path: str | Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256, by which one file says which other one it was made from."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that tell settings (what JSON can hold) apart, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def write_json(path: str | Path, value: Any) -> None:
    """Write value as indented JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def append_json_line(path: str | Path, entry: dict[str, Any]) -> None:
    """Append entry as a line of JSON, what JSON lacks as text; on a line of its own also after one that a killed writer left unfinished."""
    with naming(path), Path(path).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(entry, default=str).encode() + b"\n")


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a file that has one a line, without lines that a killed writer has left unfinished.

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


def require_dir(path: str | Path, name: str, hint: str) -> Path:
    """Return path if it is a folder, else raise InputError naming it (`name`: what it is, `hint`: what to do)."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{name} not found: {path}; {hint}")
    return path


def require_no_folder(path: str | Path | None, flag: str) -> None:
    """Raise InputError if the file that flag asks to write is a folder; for scripts to find out before they work."""
    if path is not None and Path(path).is_dir():
        raise InputError(f"--{flag} {path} is a folder; give the name of a file")


def require_file(path: str | Path, name: str, hint: str) -> Path:
    """Return path if it is a file, else raise InputError naming it (`name`: what it is, `hint`: what to do)."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{name} not found: {path}; {hint}")
    return path


def git_commit() -> str:
    """The commit of this checkout, with '-dirty' when tracked files are changed; 'unknown' outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("-dirty" if changed else "")
