"""What every inference asks of its data before it begins: the folder and the images."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from tool.file.photographs import Photograph
from tool.run.loader import Loader
from tool.run.shards import shard
from voc12.dataset import InferenceSet
from voc12.lists import load_ids, require_root


@dataclass(frozen=True)
class InferenceList:
    """The images of --infer_list in --voc12_root.

    every: ids of the whole list; ids: of this process's share
    """

    root: Path
    every: list[str]
    ids: Sequence[str]


def load_inference_list(args: argparse.Namespace) -> InferenceList:
    """The list that --voc12_root and --infer_list name; InputError when either is missing."""
    root = require_root(args.voc12_root)
    every = load_ids(root, args.infer_list)
    return InferenceList(root, every, shard(every))


def inference_loader(data: Dataset, num_workers: int) -> Loader:
    """The samples of data one by one, in order; workers leave Ctrl-C to the main process."""
    return Loader(
        data,
        batch_size=None,
        num_workers=min(num_workers, len(data)),
    )


def photograph_set(
    args: argparse.Namespace,
    photographs: Sequence[Photograph],
    mean: Sequence[float],
    std: Sequence[float],
    long_side: int | None,
) -> InferenceSet:
    """The samples of photographs given by hand, without labels; long_side: what they are reduced
    to first, None for full size.
    """
    ids, paths = [one.name for one in photographs], [one.path for one in photographs]
    return InferenceSet(ids, paths, None, args.scales, mean, std, args.exif, long_side)
