"""The training labels of the second expansion, made from seeds once and kept in a folder: a file
per image.

IRN's are confident labels, <id>.png: class numbers, 255 where unsure. AffinityNet's are score
files, <id>.npz, read without pickle:
  keys  (n,) int64                       foreground classes, 0-based
  low   (1 + n, H, W) float16            CRF scores at the low alpha, background first
  high  (1 + n, H, W) float16            the same at the high alpha
  meta  JSON text                        stage, alphas, CRF settings, and the seed they were made
        from
The released code keeps these scores in float32, 40 GB for train_aug; here they are rounded to 11
bits and compressed, which moves labels only where two scores agree to 5e-4.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.expand.crf import CrfSettings, confident_label, named_settings, scores_of_alphas
from tool.expand.seed import (
    MASK_UNITS,
    find_seeds,
    is_made_from,
    load_seed,
    made_from,
    mask_is_finished,
)
from tool.file.atomic import atomic_write
from tool.file.images import read_image, write_mask
from tool.run.distributed import barrier
from tool.run.pool import pool_map
from tool.run.session import session_folder
from tool.run.shards import shard
from voc12.cam_folder import (
    CamFolder,
    exif_of,
    loader_of,
    open_cam_folder,
    read_meta,
    require_same_photographs,
)
from voc12.lists import image_path
from voc12.training_list import TrainingList

CONFIDENT_STAGE = "irn_label"
SCORES_STAGE = "aff_scores"


@dataclass(frozen=True)
class ConfidentLabels:
    """Makes IRN's label files; thresholds in unit scale. cams: how the seeds are read, None by what
    each file holds.
    """

    voc12_root: Path
    cam_dir: Path
    label_dir: Path
    classes: tuple[str, ...]
    fg_threshold: float
    bg_threshold: float
    crf: CrfSettings
    cams: CamFolder | None = None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What every file says of itself, but for its seed."""
        thresholds = {"fg_threshold": self.fg_threshold, "bg_threshold": self.bg_threshold}
        return {
            "stage": CONFIDENT_STAGE,
            "units": MASK_UNITS,
            **thresholds,
            "crf": asdict(self.crf),
            "classes": list(self.classes),
            **read_meta(self.cams),
        }

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.label_dir / f"{name}.png"

    def __call__(self, item: tuple[str, Path]) -> None:
        """Write the file of (id, path of its seed), unless it is there, made with these settings
        from this seed.
        """
        name, cam_path = item
        if mask_is_finished(self.path(name), self.meta, cam_path):
            return
        image = read_image(image_path(self.voc12_root, name), exif_of(self.cams))
        seed = load_seed(cam_path, image.shape[:2], self.classes, load=loader_of(self.cams))
        label = confident_label(
            image, seed.cam, seed.keys, self.fg_threshold, self.bg_threshold, self.crf
        )
        write_mask(self.path(name), label, made_from(self.meta, cam_path, seed))


@dataclass(frozen=True)
class AffinityScores:
    """Makes AffinityNet's score files. cams: how the seeds are read, None by what each holds."""

    voc12_root: Path
    cam_dir: Path
    label_dir: Path
    classes: tuple[str, ...]
    low_alpha: float
    high_alpha: float
    crf: CrfSettings
    cams: CamFolder | None = None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What every file says of itself, but for its seed."""
        alphas = {"low_alpha": self.low_alpha, "high_alpha": self.high_alpha}
        return {
            "stage": SCORES_STAGE,
            "units": "probability",
            **alphas,
            "crf": asdict(self.crf),
            "classes": list(self.classes),
            **read_meta(self.cams),
        }

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.label_dir / f"{name}.npz"

    def __call__(self, item: tuple[str, Path]) -> None:
        """Write the file of (id, path of its seed), unless it is there, made with these settings
        from this seed.
        """
        name, cam_path = item
        if self._is_finished(name, cam_path):
            return
        image = read_image(image_path(self.voc12_root, name), exif_of(self.cams))
        seed = load_seed(cam_path, image.shape[:2], self.classes, load=loader_of(self.cams))
        low, high = scores_of_alphas(image, seed.cam, (self.low_alpha, self.high_alpha), self.crf)
        write_scores(self.path(name), seed.keys, low, high, made_from(self.meta, cam_path, seed))

    def _is_finished(self, name: str, cam_path: Path) -> bool:
        if not self.path(name).is_file():
            return False
        try:
            return is_made_from(load_scores(self.path(name))[2], self.meta, cam_path)
        except InputError:
            return False


def write_scores(
    path: str | Path, keys: np.ndarray, low: np.ndarray, high: np.ndarray, meta: dict[str, Any]
) -> None:
    """Write a score file: scores (1 + n, H, W) of the classes keys (n,), background first."""
    with atomic_write(path) as file:
        text = json.dumps(meta, allow_nan=False)
        np.savez_compressed(
            file, keys=keys, low=low.astype(np.float16), high=high.astype(np.float16), meta=text
        )


def load_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(low, high, meta) of a score file, the scores (1 + n, H, W) float32, background first. Raises
    InputError naming the file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            # a member that is no array comes as bytes
            low, high = (
                np.asarray(arrays["low"]),
                np.asarray(arrays["high"]),
            )
            meta = json.loads(str(arrays["meta"]))
    except FileNotFoundError as error:
        raise InputError(
            f"score file not found: {path}; train_aff.py makes it from --cam_dir"
        ) from error
    # damaged bytes reach zipfile, zlib, numpy and json: whatever they raise means a bad file
    except Exception as error:
        raise InputError(
            f"{path} is no score file of train_aff.py, or damaged ({type(error).__name__}); delete "
            "it"
        ) from error
    if (
        low.shape != high.shape
        or low.ndim != 3
        or low.dtype != np.float16
        or high.dtype != np.float16
    ):
        raise InputError(
            f"{path} is no score file of train_aff.py: low {low.shape} {low.dtype}, high "
            f"{high.shape} {high.dtype}"
        )
    return low.astype(np.float32), high.astype(np.float32), meta


def make_labels(
    maker: ConfidentLabels | AffinityScores, ids: Sequence[str], num_workers: int
) -> None:
    """Write the missing label files of ids, in num_workers processes; several ranks make a share
    each and wait for the others'. Raises InputError naming ids without a CAM file.
    """
    pool_map(
        maker,
        shard(list(zip(ids, find_seeds(maker.cam_dir, ids), strict=True))),
        num_workers,
        "labels",
    )
    barrier()


def label_settings(args: argparse.Namespace, data: TrainingList, cams: CamFolder) -> dict[str, Any]:
    """What both makers take from a trainer's flags, by the names of their fields."""
    return {
        "voc12_root": data.root,
        "cam_dir": Path(args.cam_dir),
        "label_dir": Path(args.label_dir or session_folder(args) / "labels"),
        "classes": data.classes,
        "crf": named_settings(args.crf, **dict(args.crf_set)),
        "cams": cams,
    }


def open_seeds(args: argparse.Namespace, data: TrainingList) -> CamFolder:
    """How the CAM files of a training list are read. Raises InputError naming ids without one,
    and photographs that have been replaced since.
    """
    find_seeds(args.cam_dir, data.ids)
    require_same_photographs(args.cam_dir, data.root, data.ids)
    return open_cam_folder(
        args.cam_dir, args.cam_format, data.root, data.ids, data.classes, args.exif
    )
