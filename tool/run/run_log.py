"""The log of a run: JSON lines beside TensorBoard events."""

import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tool.file.atomic import append_json_line
from tool.run.shards import is_main

if TYPE_CHECKING:
    import torch


def provenance(device: "torch.device | None" = None) -> dict[str, Any]:
    """What a number depends on beside its settings: commit, versions, machine, command.

    device: what computes, which the machine is called after; without, the GPU if there is one
    """
    import torch  # slow to import, and nothing to scripts that ask for the commit alone

    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"

    return {
        "commit": git_commit(),
        "command": sys.argv,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "timm": version("timm"),
            "numpy": np.__version__,
        },
        "machine": torch.cuda.get_device_name(device)
        if on_gpu
        else platform.processor() or platform.machine(),
    }


class RunLog:
    """Writes <folder>/log.jsonl, one JSON object a line, and TensorBoard events to
    <folder>/tensorboard.

    The first line of a run, kind "start" or "resume", has seed, commit, versions and all settings.
    Of several processes rank 0 alone writes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._board = None
        if is_main():
            from torch.utils.tensorboard import (
                SummaryWriter,  # slow to import, and nothing to scripts that only read
            )

            folder.mkdir(parents=True, exist_ok=True)
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def line(self, kind: str, **fields: Any) -> None:
        """Append one line: kind, time (ISO 8601) and fields."""
        if self._board is None:
            return
        entry = {"kind": kind, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | fields
        append_json_line(self._path, entry)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """TensorBoard scalars at an iteration."""
        for name, value in values.items() if self._board else ():
            self._board.add_scalar(name, value, step)

    def panel(self, name: str, image: np.ndarray, step: int) -> None:
        """A TensorBoard picture; image: (H, W, 3) uint8."""
        if self._board:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush the TensorBoard events."""
        if self._board:
            self._board.close()


def git_commit() -> str:
    """The commit of this checkout, with '-dirty' when tracked files are changed; 'unknown' outside
    a checkout.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("-dirty" if changed else "")
