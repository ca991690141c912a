"""What every trainer asks of its data before it begins: the folder, the classes, the images."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tool.errors import InputError
from tool.file.digests import file_digest
from tool.run.session import file_contents
from voc12.class_list import load_class_list
from voc12.dataset import require_every
from voc12.lists import image_path, load_ids, require_root


@dataclass(frozen=True)
class TrainingList:
    """The images of --train_list in --voc12_root.

    classes: foreground class names
    """

    root: Path
    ids: list[str]
    classes: tuple[str, ...]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Iterations over the list; the last images that fill no batch are left out."""
        return len(self.ids) // batch_size

    def contents(self) -> dict[str, str]:
        """tool.run.session.file_contents of the photographs."""
        return file_contents([image_path(self.root, name) for name in self.ids], file_digest)


def load_training_list(args: argparse.Namespace) -> TrainingList:
    """The list that --voc12_root and --train_list name, every photograph there.

    Raises InputError when the folder, the list or a photograph is missing, and when the list has
    fewer images than --batch_size.
    """
    root = require_root(args.voc12_root)
    classes = load_class_list(root)
    ids = load_ids(root, args.train_list)
    if len(ids) < args.batch_size:
        raise InputError(
            f"{args.train_list} has {len(ids)} images, fewer than --batch_size {args.batch_size}; "
            "lower it"
        )
    require_every(image_path, root, ids, f"images of {args.train_list}")
    return TrainingList(root, ids, classes)


def loader_settings(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Arguments of voc12.dataset.epoch_loader and round_loader beside the data."""
    return {
        "batch_size": args.batch_size,
        "seed": args.seed,
        "num_workers": args.num_workers,
        "pin_memory": device.type == "cuda",
    }
