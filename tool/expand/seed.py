"""Seeds: the CAM files that the second expansion (CRF, IRN, AffinityNet) starts from, and what
files made from them say of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.expand.crf import SeedCrf, marginals_to_cam, seed_marginals
from tool.file.cam_file import CamFile, find_cam, has_cam, load_cam, require_made_for
from tool.file.digests import file_digest
from tool.file.images import PHOTOGRAPH_DIGEST, read_mask, read_mask_meta, same_making

PLAIN_STAGE, REFINED_STAGE = "cam", "cam_refined"
# what infer_cam.py writes; files of the field's formats name no stage
SEED_STAGES = (
    PLAIN_STAGE,
    REFINED_STAGE,
)
CRF_STAGE = "seed_crf"
WALK_STAGE = "irn_walk"  # seeds after IRN's walk
# label maps, as are the next two
CRF_MASK_STAGE, AFF_MASK_STAGE, IRN_MASK_STAGE = (
    "seed_crf_mask",
    "aff_mask",
    "irn_mask",
)
CAM_MASK_STAGE = "cam_mask"  # CAM files of any stage at a threshold, make_masks.py
SEG_MASK_STAGE = "seg_mask"
CRF_THRESHOLD = 0.5  # where a map of tool.expand.crf.marginals_to_cam says foreground
AGREEMENT = "agreement"  # of a mask with what its network learnt from: mean IoU, 0 to 1
MADE_FROM = ("cam", "cam_digest", AGREEMENT)  # what a file says of its seed, beside its settings
MASK_UNITS = "0 background, c + 1 class c, 255 unsure"


def find_seeds(cam_dir: str | Path, ids: Sequence[str]) -> list[Path]:
    """The CAM file of each id. Raises InputError counting and naming the ids that have none."""
    cam_dir = Path(cam_dir)
    missing = [name for name in ids if not has_cam(cam_dir, name)]
    if missing:
        masks = any((cam_dir / f"{name}.png").is_file() for name in missing)
        raise InputError(
            f"{len(missing)} of {len(ids)} images have no CAM file in {cam_dir}, first "
            f"{missing[0]}; "
            + (
                "it holds masks: give the folder of CAM files"
                if masks
                else "run infer_cam.py for them, or check the folder"
            )
        )
    return [find_cam(cam_dir, name) for name in ids]


def load_seed(
    path: str | Path,
    size: tuple[int, int],
    classes: Sequence[str],
    stages: Sequence[str] | None = SEED_STAGES,
    load: Callable[[Path], CamFile] = load_cam,
) -> CamFile:
    """The seed at path, for an image of size (H, W): unit maps, cut to [0, 1] (see
    tool/file/cam_file.py on values below 0).

    stages: those that may be read, None for any; load: reads the file. Raises InputError for a file
    of another stage, size or class list.
    """
    cam_file = load(Path(path))
    stage = cam_file.meta.get("stage", SEED_STAGES[0])
    if stages is not None and stage not in stages:
        raise InputError(
            f"{path} is of stage {stage}, seeds are of stage {' or '.join(stages)}; give CAM files "
            "of infer_cam.py"
        )
    require_made_for(cam_file.meta, classes, str(path))
    if (number := cam_file.keys.max(initial=-1)) >= len(classes):
        raise InputError(
            f"{path} has class number {number}, the class list 0..{len(classes) - 1}; check "
            "--voc12_root and the folder"
        )
    # without classes the released format has no size
    if len(cam_file.keys) and tuple(cam_file.size) != tuple(size):
        raise InputError(
            f"{path} is of size {tuple(cam_file.size)}, its image {tuple(size)} (height, width); "
            "is it another image's?"
        )
    cam = cam_file.cam.clip(0, 1) if len(cam_file.keys) else np.zeros((0, *size), dtype=np.float32)
    return CamFile(Path(path).stem, cam_file.keys, cam, tuple(size), cam_file.meta)


def made_from(meta: dict[str, Any], path: str | Path, seed: CamFile) -> dict[str, Any]:
    """meta of a file made from the seed at path: with the seed's own meta and the digest of its
    file.
    """
    return meta | {"cam": seed.meta, "cam_digest": file_digest(path)}


def is_made_from(found: dict[str, Any], meta: dict[str, Any], path: str | Path | None) -> bool:
    """Whether a file that says `found` of itself was made with these settings from the seed that is
    at path now, None from none. One that does not say of which photograph it is, as older ones,
    counts whatever the photograph.
    """
    settings = {name: value for name, value in found.items() if name not in MADE_FROM}
    if PHOTOGRAPH_DIGEST in meta:
        settings.setdefault(PHOTOGRAPH_DIGEST, meta[PHOTOGRAPH_DIGEST])
    made_of = None if path is None else file_digest(path)
    return same_making(settings, meta) and found.get("cam_digest") == made_of


def mask_is_finished(
    mask_path: str | Path, meta: dict[str, Any], cam_path: str | Path | None
) -> bool:
    """Whether a whole mask made with these settings from the seed at cam_path, None from none, is
    there already.
    """
    if not Path(mask_path).is_file():
        return False
    try:
        read_mask(mask_path)
        return is_made_from(read_mask_meta(mask_path), meta, cam_path)
    except InputError:
        return False


def cam_is_finished(out_path: str | Path, meta: dict[str, Any], cam_path: str | Path) -> bool:
    """Whether a whole CAM file made with these settings from the seed at cam_path is there
    already.
    """
    if not Path(out_path).is_file():
        return False
    try:
        return is_made_from(load_cam(out_path).meta, meta, cam_path)
    except InputError:
        return False


def crf_meta(how: SeedCrf, classes: Sequence[str]) -> dict[str, Any]:
    """What a CAM file of seeds after the CRF says of itself, but for the seed it was made from."""
    return {
        "stage": CRF_STAGE,
        "units": "unit",
        "threshold": CRF_THRESHOLD,
        **asdict(how),
        "classes": list(classes),
    }


def crf_seed(image: np.ndarray, seed: CamFile, how: SeedCrf, meta: dict[str, Any]) -> CamFile:
    """The seed after the dense CRF over its classes and the background: unit maps that say at
    CRF_THRESHOLD what the CRF says.

    image: (H, W, 3) uint8.
    """
    return CamFile(
        seed.id, seed.keys, marginals_to_cam(seed_marginals(image, seed.cam, how)), seed.size, meta
    )
