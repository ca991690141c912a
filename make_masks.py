"""Label maps of CAM files at one background threshold: the seeds as masks, or IRN's walked maps, to
train a segmentation network on.

Reads CAM files of any stage and an image list in VOC layout; writes <out_mask>/<id>.png in the VOC
palette. Finished masks made from the same CAM files at the same threshold are kept.

    python make_masks.py --infer_list train_aug --cam_dir results/cpn/cam_train_aug --t auto \\
        --out_mask results/cpn/mask_train_aug
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool.errors import InputError, run_script
from tool.expand.crf import threshold_mask
from tool.expand.seed import (
    CAM_MASK_STAGE,
    MASK_UNITS,
    find_seeds,
    load_seed,
    made_from,
    mask_is_finished,
)
from tool.file.images import photograph_header, write_mask
from tool.run.flags import AUTO, auto_or_number
from tool.run.machine_flags import add_overwrite_flag, add_workers_flag
from tool.run.notes import note_finished
from tool.run.pool import pool_map
from tool.run.shards import shard, share_note
from voc12.cam_folder import (
    CamFolder,
    open_cam_folder,
    open_seeds_of_walk,
    require_same_photographs,
)
from voc12.class_list import load_class_list
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag
from voc12.lists import image_path, load_ids, require_root
from voc12.threshold_choice import choose_threshold

CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/cpn/mask"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--infer_list", default="train")
    add_cam_dir_flag(data, CAM_DIR, "any format and stage")
    add_workers_flag(data, "processes")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--t",
        type=auto_or_number,
        required=True,
        help="background threshold in 0..1, unit scale, or auto: chosen without masks; "
        "evaluation_cam.py finds the best by the masks",
    )
    output.add_argument(
        "--seed_dir",
        help="with --t auto: the seeds that maps after a walk were made from; the threshold then "
        "shows as many pixels as auto does there",
    )
    output.add_argument(
        "--out_mask", default=OUT_MASK, help="folder for the masks (default %(default)s)"
    )
    add_overwrite_flag(output, "masks")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class MaskMaker:
    """Makes the mask of one image; meta: what it says of itself, but for its CAM file."""

    voc12_root: Path
    out_mask: Path
    classes: tuple[str, ...]
    meta: dict[str, Any]
    overwrite: bool
    cams: CamFolder

    def __call__(self, item: tuple[str, Path]) -> bool:
        """Write the mask of (id, path of its CAM file), unless it is there; whether it was."""
        name, cam_path = item
        path = self.out_mask / f"{name}.png"
        if not self.overwrite and mask_is_finished(path, self.meta, cam_path):
            return True
        header = photograph_header(image_path(self.voc12_root, name))
        cam_file = load_seed(
            cam_path, header.size(self.cams.exif), self.classes, stages=None, load=self.cams.load
        )
        mask = threshold_mask(cam_file.cam, cam_file.keys, self.meta["threshold"])
        write_mask(path, mask, made_from(self.meta, cam_path, cam_file))
        return False


def main(args: argparse.Namespace) -> None:
    """Write a mask for every image of the list."""
    root = require_root(args.voc12_root)
    classes = load_class_list(root)
    ids = load_ids(root, args.infer_list)
    items = list(zip(ids, find_seeds(args.cam_dir, ids), strict=True))
    cams = open_cam_folder(args.cam_dir, args.cam_format, root, ids, classes, args.exif)
    require_same_photographs(args.cam_dir, root, ids)
    threshold = args.t
    if args.seed_dir and threshold != AUTO:
        raise InputError("--seed_dir goes with --t auto")
    if threshold == AUTO:
        threshold = choose_threshold(
            root,
            ids,
            args.cam_dir,
            args.num_workers,
            args.seed_dir,
            cams.load,
            args.exif,
            open_seeds_of_walk(args.seed_dir, root, ids, classes, args.exif),
        )
        print(f"background threshold chosen without masks: {threshold:.2f}")
    meta = {
        "stage": CAM_MASK_STAGE,
        "units": MASK_UNITS,
        "threshold": threshold,
        "classes": list(classes),
        **cams.meta,
    }
    make = MaskMaker(root, Path(args.out_mask), classes, meta, args.overwrite, cams)
    kept = pool_map(make, shard(items), args.num_workers, "masks")
    note_finished(sum(kept), len(kept), "masks", "CAM files")
    print(
        f"label maps ({CAM_MASK_STAGE}, threshold {threshold:.2f}): {args.out_mask}, "
        f"{share_note(len(ids))}"
    )


if __name__ == "__main__":
    run_script(main, parse_args)
