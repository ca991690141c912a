"""Checks that what the user names on disk is there, before any work begins."""

from pathlib import Path

from tool.errors import InputError


def require_dir(path: str | Path, name: str, hint: str) -> Path:
    """Return path if it is a folder, else raise InputError naming it (`name`: what it is, `hint`:
    what to do).
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{name} not found: {path}; {hint}")
    return path


def require_file(path: str | Path, name: str, hint: str) -> Path:
    """Return path if it is a file, else raise InputError naming it (`name`: what it is, `hint`:
    what to do).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{name} not found: {path}; {hint}")
    return path


def require_no_folder(path: str | Path | None, flag: str) -> None:
    """Raise InputError if the file that flag asks to write is a folder; for scripts to find out
    before they work.
    """
    if path is not None and Path(path).is_dir():
        raise InputError(f"--{flag} {path} is a folder; give the name of a file")
