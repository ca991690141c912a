"""Refine seeds with the dense CRF (Krähenbühl and Koltun, NIPS 2011), over the classes of each
image and the background.

Reads CAM files, photographs and an image list in VOC layout; writes CAM files of stage seed_crf,
which say at background threshold 0.5 what the CRF says, and on request the label maps as PNG in the
VOC palette. Finished files made from the same CAM files by the same settings are kept.

    python make_crf.py --crf_threshold 0.42 --infer_list train --cam_dir results/cpn/cam_train \\
        --out_cam results/cpn/cam_train_crf
    python evaluation_cam.py --list train --predict_dir results/cpn/cam_train_crf

Settings (iterations; gaussian sxy, compat; bilateral sxy, srgb, compat): irn 10; 3, 3; 50, 5, 10.
psa and seam 10; 3, 3; 80, 13, 10. deeplab 1; 3, 3; 32, 13, 10.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tool.errors import InputError, run_script
from tool.expand.crf import SeedCrf, threshold_mask
from tool.expand.seed import (
    CRF_MASK_STAGE,
    CRF_STAGE,
    CRF_THRESHOLD,
    MASK_UNITS,
    cam_is_finished,
    crf_meta,
    crf_seed,
    find_seeds,
    load_seed,
    made_from,
    mask_is_finished,
)
from tool.file.cam_file import PACKED, save_cam
from tool.file.images import read_image, write_mask
from tool.run.crf_flags import add_seed_crf_flags, seed_crf
from tool.run.flags import AUTO
from tool.run.machine_flags import add_overwrite_flag, add_workers_flag
from tool.run.notes import note_finished
from tool.run.pool import pool_map
from tool.run.shards import shard, share_note
from voc12.cam_folder import CamFolder, open_cam_folder, require_same_photographs
from voc12.class_list import load_class_list
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag
from voc12.lists import image_path, load_ids, require_root
from voc12.threshold_choice import choose_threshold

CAM_DIR = "results/cpn/cam"
OUT_CAM = "results/cpn/cam_crf"

BG_THRESHOLD = 0.5  # the released evaluation's 0.25 on halved maps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--infer_list", default="train")
    add_cam_dir_flag(data, CAM_DIR, "any format")
    add_workers_flag(data, "processes")

    crf = parser.add_argument_group("CRF")
    add_seed_crf_flags(
        crf,
        default="seam",
        threshold_default=f"{BG_THRESHOLD}; best, by the masks, is what evaluation_cam.py finds",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_cam", default=OUT_CAM, help="folder for the refined CAM files (default %(default)s)"
    )
    output.add_argument("--out_mask", help="folder for the label maps (default: none)")
    add_overwrite_flag(output, "files")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Refinement:
    """Makes the files of one image."""

    voc12_root: Path
    out_cam: Path
    out_mask: Path | None
    classes: tuple[str, ...]
    how: SeedCrf
    overwrite: bool
    cams: CamFolder

    @cached_property
    def cam_meta(self) -> dict[str, Any]:
        """What a CAM file says of itself, but for its seed."""
        return crf_meta(self.how, self.classes) | self.cams.meta

    @cached_property
    def mask_meta(self) -> dict[str, Any]:
        """What a label map says of itself, but for its seed."""
        return self.cam_meta | {"stage": CRF_MASK_STAGE, "units": MASK_UNITS}

    def __call__(self, item: tuple[str, Path]) -> bool:
        """Write the files of (id, path of its seed), unless they are there; whether they were."""
        name, cam_path = item
        if not self.overwrite and self._is_finished(name, cam_path):
            return True
        image = read_image(image_path(self.voc12_root, name), self.cams.exif)
        seed = load_seed(cam_path, image.shape[:2], self.classes, load=self.cams.load)
        refined = crf_seed(image, seed, self.how, made_from(self.cam_meta, cam_path, seed))
        if self.out_mask is not None:
            mask = threshold_mask(refined.cam, refined.keys, CRF_THRESHOLD)
            write_mask(
                self.out_mask / f"{name}.png", mask, made_from(self.mask_meta, cam_path, seed)
            )
        save_cam(self.out_cam, refined, PACKED)
        return False

    def _is_finished(self, name: str, cam_path: Path) -> bool:
        finished = cam_is_finished(self.out_cam / f"{name}.npz", self.cam_meta, cam_path)
        return finished and (
            self.out_mask is None
            or mask_is_finished(self.out_mask / f"{name}.png", self.mask_meta, cam_path)
        )


def main(args: argparse.Namespace) -> None:
    """Write a refined CAM file for every image of the list."""
    root = require_root(args.voc12_root)
    classes = load_class_list(root)
    ids = load_ids(root, args.infer_list)
    if Path(args.out_cam).resolve() == Path(args.cam_dir).resolve():
        raise InputError(
            f"--out_cam is --cam_dir, {args.cam_dir}; give another folder, the seeds are needed "
            "again"
        )
    cams = open_cam_folder(args.cam_dir, args.cam_format, root, ids, classes, args.exif)
    require_same_photographs(args.cam_dir, root, ids)
    background = BG_THRESHOLD
    if args.crf_threshold == AUTO:
        background = choose_threshold(
            root, ids, args.cam_dir, args.num_workers, load=cams.load, exif=args.exif
        )
        print(f"threshold chosen without masks: {background:.2f}, the CRF's background score")
    refine = Refinement(
        voc12_root=root,
        out_cam=Path(args.out_cam),
        out_mask=Path(args.out_mask) if args.out_mask else None,
        classes=classes,
        how=seed_crf(args, background),
        overwrite=args.overwrite,
        cams=cams,
    )
    items = shard(list(zip(ids, find_seeds(args.cam_dir, ids), strict=True)))
    kept = pool_map(refine, items, args.num_workers, "CRF")
    note_finished(sum(kept), len(items), "CAM files", "CAM files")
    print(
        f"CAM files ({CRF_STAGE}): {args.out_cam}, {share_note(len(ids))}"
        + (f"; label maps: {args.out_mask}" if args.out_mask else "")
    )


if __name__ == "__main__":
    run_script(main, parse_args)
