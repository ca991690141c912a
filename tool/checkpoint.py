"""Torch files: written whole or not at all, read without running anything in them."""

from pathlib import Path

import torch

from tool.errors import InputError
from tool.files import atomic_write, require_file


def save_torch(path: str | Path, value: dict) -> None:
    """torch.save, whole or not at all; value holds tensors and plain types only, so that load_torch can read it."""
    with atomic_write(path) as file:
        torch.save(value, file)


def load_torch(path: str | Path, name: str = "weights", hint: str = "check the path") -> dict:
    """The dict of a torch file, read with weights_only=True so that nothing in it can run; tensors on the CPU.

    Raises InputError naming the file when it is missing, truncated, carries code, or holds no dict.
    """
    require_file(path, name, hint)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes reach an interpreter of opcodes: whatever it raises means a bad file
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(f"cannot read {name} {path}: {reason}; the file is damaged or no plain torch checkpoint") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} {path} holds a {type(value).__name__}, not a dict of tensors")
    return value
