"""The background threshold of a folder of CAM files, chosen without masks (tool/auto_threshold.py
has the criterion).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from pathlib import Path

import numpy as np

from tool.auto_threshold import CONSENSUS, MIDDLE, THRESHOLDS, Evidence, image_evidence
from tool.errors import InputError, NothingLearntError
from tool.expand.seed import CRF_STAGE, PLAIN_STAGE, REFINED_STAGE, WALK_STAGE, find_seeds
from tool.file.cam_file import CamFile, has_cam, load_cam, load_cam_header
from tool.file.images import APPLY_EXIF, read_image
from tool.run.notes import note
from tool.run.pool import pool_map
from voc12.cam_folder import require_one_network, require_same_photographs
from voc12.lists import evenly, image_path

MAX_IMAGES = 400
FEW_IMAGES = 100  # under which the choice was seen to be up to 9 points off


def choose_threshold(
    voc12_root: str | Path,
    ids: Sequence[str],
    cam_dir: str | Path,
    num_workers: int = 1,
    seed_dir: str | Path | None = None,
    load: Callable[[Path], CamFile] = load_cam,
    exif: str = APPLY_EXIF,
    load_seed: Callable[[Path], CamFile] = load_cam,
) -> float:
    """The threshold, unit scale, from at most MAX_IMAGES of the list's images, evenly spread over
    it.

    Of maps of consensus_cam.py it is the middle between auto's and theirs (docs/log, 2026-11-26:
    closer to the best on three lists, of which it was chosen, and on a fourth).

    seed_dir: for maps after IRN's walk, the seeds that walked; the threshold is then chosen on them
    and matched (matching_threshold)
    load, load_seed: read a CAM file of cam_dir, of seed_dir; exif: how photographs are read
    Raises InputError for images without a CAM file, photographs replaced since theirs was made,
    files after a CRF or a walk or of two networks, and when no file has a class or all maps are of
    one value.
    """
    if seed_dir is not None:
        return matching_threshold(
            ids,
            cam_dir,
            seed_dir,
            choose_threshold(voc12_root, ids, seed_dir, num_workers, load=load_seed, exif=exif),
            num_workers,
            load_seed,
            load,
        )
    evidence = list_evidence(voc12_root, ids, cam_dir, num_workers, load, exif)
    return _parting(evidence, ids, cam_dir, load)


def choose_sure_thresholds(
    voc12_root: str | Path,
    ids: Sequence[str],
    cam_dir: str | Path,
    num_workers: int = 1,
    load: Callable[[Path], CamFile] = load_cam,
    exif: str = APPLY_EXIF,
) -> tuple[float, float, float]:
    """(the threshold of choose_threshold, score over which a class is sure, score under which
    background is), unit scale (Evidence.sure_thresholds); raises as choose_threshold does.
    """
    evidence = list_evidence(voc12_root, ids, cam_dir, num_workers, load, exif)
    threshold = _parting(evidence, ids, cam_dir, load)
    return threshold, *evidence.sure_thresholds(threshold)


def suits_released(cam_dir: str | Path, ids: Sequence[str]) -> tuple[bool, str]:
    """(whether the released thresholds are for the seeds of ids in cam_dir, why, to be read after
    "since"): those of a plain CAM, whose maps are peaked. Refined maps want thresholds of their
    own, chosen without masks, and so do files that do not say of which stage they are, as those of
    other codes: most of these are refined too.

    Files that are no seeds, as those after a CRF, are left to what refuses them. At most MAX_IMAGES
    files are looked at. Raises InputError where none is there.
    """
    there = [name for name in evenly(ids, MAX_IMAGES) if has_cam(cam_dir, name)]
    headers = map(load_cam_header, find_seeds(cam_dir, there or ids))
    stages = {header[1].get("stage") if header else None for header in headers}
    if strange := stages - {PLAIN_STAGE, REFINED_STAGE, None}:
        return True, f"the files are of stage {', '.join(sorted(map(str, strange)))}"
    if stages == {PLAIN_STAGE}:
        return True, "the seeds are a plain CAM's"
    whose = "do not say whether they are" if None in stages else "are"
    return False, f"the seeds {whose} refined; the released number is for a plain CAM's"


def _parting(
    evidence: Evidence,
    ids: Sequence[str],
    cam_dir: str | Path,
    load: Callable[[Path], CamFile],
) -> float:
    """The threshold of choose_threshold; raises NothingLearntError naming the folder where there is
    none.
    """
    try:
        chosen = evidence.threshold()
    except ValueError as error:
        raise NothingLearntError(f"{cam_dir}: {error}; has the network learnt anything?") from error
    if CONSENSUS in load(find_seeds(cam_dir, ids)[0]).meta:
        # such maps are made to have their threshold at MIDDLE, and auto is over the best on them
        chosen = float(THRESHOLDS[np.abs(THRESHOLDS - (chosen + MIDDLE) / 2).argmin()])
    return chosen


def list_evidence(
    voc12_root: str | Path,
    ids: Sequence[str],
    cam_dir: str | Path,
    num_workers: int,
    load: Callable[[Path], CamFile],
    exif: str,
) -> Evidence:
    """The evidence of at most MAX_IMAGES of the list's images; raises as choose_threshold does."""
    ids = evenly(ids, MAX_IMAGES)
    files = [
        (image_path(voc12_root, name), path)
        for name, path in zip(ids, find_seeds(cam_dir, ids), strict=True)
    ]
    require_one_network(cam_dir, ids)
    require_same_photographs(cam_dir, voc12_root, ids)
    evidence = [
        found
        for found in pool_map(
            partial(_evidence, load=load, exif=exif), files, num_workers, "auto threshold"
        )
        if found is not None
    ]
    if not evidence:
        raise InputError(
            f"no threshold can be chosen: none of the {len(ids)} CAM files looked at in {cam_dir} "
            "has a class"
        )
    if len(evidence) < FEW_IMAGES:
        note(
            f"note: the threshold is chosen from {len(evidence)} images; with under {FEW_IMAGES} "
            "it may be off, look at the masks"
        )
    return reduce(add, evidence)


def matching_threshold(
    ids: Sequence[str],
    cam_dir: str | Path,
    seed_dir: str | Path,
    seed_threshold: float,
    num_workers: int = 1,
    load_seed: Callable[[Path], CamFile] = load_cam,
    load: Callable[[Path], CamFile] = load_cam,
) -> float:
    """The threshold of THRESHOLDS at which the CAM files in cam_dir show as large a share of their
    pixels as the seeds in seed_dir at seed_threshold; for maps after a walk, which changes scores
    but should not change how much is object.

    Raises InputError for maps that say they are of another stage.
    """
    ids = evenly(ids, MAX_IMAGES)
    seeds = pool_map(
        partial(_shown, load=load_seed), find_seeds(seed_dir, ids), num_workers, "seeds"
    )
    paths = find_seeds(cam_dir, ids)
    if (stage := load(paths[0]).meta.get("stage", WALK_STAGE)) != WALK_STAGE:
        raise InputError(
            f"{paths[0]} is of stage {stage}; --seed_dir is for maps after IRN's walk, leave it out"
        )
    walked = pool_map(partial(_shown, load=load), paths, num_workers, "maps")
    wanted = np.interp(seed_threshold, THRESHOLDS, np.mean(seeds, axis=0))
    return float(THRESHOLDS[np.abs(np.mean(walked, axis=0) - wanted).argmin()])


def _shown(cam_path: Path, load: Callable[[Path], CamFile] = load_cam) -> np.ndarray:
    """The share of pixels over each of THRESHOLDS."""
    cam_file = load(cam_path)
    if not len(cam_file.keys):
        return np.zeros(len(THRESHOLDS))
    scores = np.sort(cam_file.cam.max(axis=0), axis=None)
    return 1 - np.searchsorted(scores, THRESHOLDS.astype(np.float32), side="right") / scores.size


def _evidence(
    files: tuple[Path, Path], load: Callable[[Path], CamFile], exif: str
) -> Evidence | None:
    photograph, cam_path = files
    cam_file = load(cam_path)
    if cam_file.meta.get("stage") == WALK_STAGE:
        raise InputError(
            f"{cam_path} is of stage {WALK_STAGE}, where auto needs the seeds that walked; "
            "evaluation_cam.py and make_masks.py take them as --seed_dir"
        )
    if cam_file.meta.get("stage") == CRF_STAGE:
        raise InputError(
            f"{cam_path} is of stage {CRF_STAGE}, where the CRF has decided already; leave auto out"
        )
    if not len(cam_file.keys):
        return None
    image = read_image(photograph, exif)
    if image.shape[:2] != cam_file.cam.shape[1:]:
        raise InputError(
            f"{cam_path} is of size {cam_file.cam.shape[1:]}, its image {image.shape[:2]} (height, "
            "width); is it of other photographs?"
        )
    return image_evidence(image, cam_file.cam)
