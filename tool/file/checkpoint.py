"""Torch files: written whole or not at all, read without running anything in them."""

import re
from pathlib import Path

import torch

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.require import require_file

# How torch names what weights_only refuses.
FOREIGN_OBJECT = re.compile(
    r"GLOBAL (?!torch\.|collections\.)([A-Za-z_][\w.]*\w) was not an allowed global"
)


def save_torch(path: str | Path, value: dict) -> None:
    """torch.save, whole or not at all; value holds tensors and plain types only, so that load_torch
    can read it.
    """
    with atomic_write(path) as file:
        torch.save(value, file)


def load_torch(path: str | Path, name: str = "weights", hint: str = "check the path") -> dict:
    """The dict of a torch file, read with weights_only=True so that nothing in it can run; tensors
    on the CPU.

    Raises InputError naming the file when it is missing, truncated, carries code, or holds no dict.
    """
    require_file(path, name, hint)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes reach an interpreter of opcodes: whatever it raises means a bad file
    except Exception as error:
        if found := FOREIGN_OBJECT.search(str(error)):
            raise InputError(
                f"{name} {path} holds a Python object, {found.group(1)}, which could run code when "
                "it is loaded, so it is not read; give a file of the state dict alone"
            ) from error
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read {name} {path}: {reason}; the file is damaged or no plain torch checkpoint"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{name} {path} holds a {type(value).__name__}, not a dict of tensors")
    return value
