"""The background threshold of a folder of CAM files, chosen without masks (tool/auto_threshold.py has the criterion)."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from tool.auto_threshold import THRESHOLDS, Evidence, image_evidence
from tool.cam_file import load_cam
from tool.errors import InputError
from tool.images import read_image
from tool.pool import pool_map
from tool.seed import CRF_STAGE, WALK_STAGE, find_seeds
from voc12.lists import image_path

MAX_IMAGES = 400


def choose_threshold(
    voc12_root: str | Path, ids: Sequence[str], cam_dir: str | Path, num_workers: int = 1, seed_dir: str | Path | None = None
) -> float:
    """The threshold, unit scale, from at most MAX_IMAGES of the list's images, evenly spread over it.

    seed_dir: for maps after IRN's walk, the seeds that walked; the threshold is then chosen on them and matched (matching_threshold)
    Raises InputError for images without a CAM file, files after a CRF or a walk, and when no file has a class or all maps are of one
    value.
    """
    if seed_dir is not None:
        return matching_threshold(ids, cam_dir, seed_dir, choose_threshold(voc12_root, ids, seed_dir, num_workers), num_workers)
    ids = ids[:: -(-len(ids) // MAX_IMAGES)]
    files = [(image_path(voc12_root, name), path) for name, path in zip(ids, find_seeds(cam_dir, ids), strict=True)]
    evidence = [found for found in pool_map(_evidence, files, num_workers, "auto threshold") if found is not None]
    if not evidence:
        raise InputError(f"no threshold can be chosen: none of the {len(ids)} CAM files looked at in {cam_dir} has a class")
    total = reduce(add, evidence)
    try:
        return total.threshold()
    except ValueError as error:
        raise InputError(f"{cam_dir}: {error}; has the network learnt anything?") from error


def matching_threshold(
    ids: Sequence[str], cam_dir: str | Path, seed_dir: str | Path, seed_threshold: float, num_workers: int = 1
) -> float:
    """The threshold of THRESHOLDS at which the CAM files in cam_dir show as large a share of their pixels as the seeds in seed_dir at
    seed_threshold; for maps after a walk, which changes scores but should not change how much is object.

    Raises InputError for maps that say they are of another stage.
    """
    ids = ids[:: -(-len(ids) // MAX_IMAGES)]
    seeds = pool_map(_shown, find_seeds(seed_dir, ids), num_workers, "seeds")
    paths = find_seeds(cam_dir, ids)
    if (stage := load_cam(paths[0]).meta.get("stage", WALK_STAGE)) != WALK_STAGE:
        raise InputError(f"{paths[0]} is of stage {stage}; --seed_dir is for maps after IRN's walk, leave it out")
    walked = pool_map(_shown, paths, num_workers, "maps")
    wanted = np.interp(seed_threshold, THRESHOLDS, np.mean(seeds, axis=0))
    return float(THRESHOLDS[np.abs(np.mean(walked, axis=0) - wanted).argmin()])


def _shown(cam_path: Path) -> np.ndarray:
    """The share of pixels over each of THRESHOLDS."""
    cam_file = load_cam(cam_path)
    if not len(cam_file.keys):
        return np.zeros(len(THRESHOLDS))
    scores = np.sort(cam_file.cam.max(axis=0), axis=None)
    return 1 - np.searchsorted(scores, THRESHOLDS.astype(np.float32), side="right") / scores.size


def _evidence(files: tuple[Path, Path]) -> Evidence | None:
    photograph, cam_path = files
    cam_file = load_cam(cam_path)
    if cam_file.meta.get("stage") == WALK_STAGE:
        raise InputError(
            f"{cam_path} is of stage {WALK_STAGE}, where auto needs the seeds that walked; evaluation_cam.py and make_masks.py take "
            "them as --seed_dir"
        )
    if cam_file.meta.get("stage") == CRF_STAGE:
        raise InputError(f"{cam_path} is of stage {CRF_STAGE}, where the CRF has decided already; leave auto out")
    if not len(cam_file.keys):
        return None
    image = read_image(photograph)
    if image.shape[:2] != cam_file.cam.shape[1:]:
        raise InputError(
            f"{cam_path} is of size {cam_file.cam.shape[1:]}, its image {image.shape[:2]} (height, width); is it of other photographs?"
        )
    return image_evidence(image, cam_file.cam)
