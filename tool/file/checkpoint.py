"""Torch files: written whole or not at all, read without running anything in them."""

import codecs
import re
from pathlib import Path

import torch

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.require import require_file

# How torch names what weights_only refuses; its own names but those of modules are cut-off ones.
FOREIGN_OBJECT = re.compile(
    r"GLOBAL (?!torch\.(?!nn\.)|collections\.)([A-Za-z_][\w.]*\w) was not an allowed global"
)
# What torch says before advice to read the file without weights_only, and within it the reason.
ADVICE = "weights_only"
REASON = re.compile(r"WeightsUnpickler error: (\S.*?)(?: by default\.|\. Please|$)", re.MULTILINE)
# First bytes -> what such a file is and what to do with it.
OTHER_FILES = {
    b"version https://git-lfs": "a pointer of git-lfs; `git lfs pull` fetches the file itself",
    b"<": "a page of HTML or XML, as a download leaves it that failed; download the file again",
    b"{": "a JSON file; give the file of the weights themselves",
    b"\x1f\x8b": "a file packed by gzip; unpack it",
    b"\x89HDF": "an HDF5 file, as Keras writes it; convert it to a torch file",
}


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
        program = "TorchScript" in str(error) and "a TorchScript program; give its state dict"
        if other := program or other_file(path):
            raise InputError(f"{name} {path} is {other}") from error
        raise InputError(
            f"cannot read {name} {path}: {_reason(error)}; the file is damaged or no plain torch "
            "checkpoint"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{name} {path} holds a {type(value).__name__}, not a dict of tensors")
    return value


def other_file(path: str | Path) -> str | None:
    """What a file that cannot be read is by its first bytes, and what to do; None if unknown."""
    with Path(path).open("rb") as file:
        head = file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    return next((what for magic, what in OTHER_FILES.items() if head.startswith(magic)), None)


def _reason(error: Exception) -> str:
    """What torch says in one line, without its advice to run what the file says."""
    text = str(error)
    if found := REASON.search(text):
        return found.group(1)[:160]
    if ADVICE in text:
        return "its pickle is none that torch wrote"
    return text.splitlines()[0][:160] if text else type(error).__name__
