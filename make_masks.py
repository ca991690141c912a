"""Label maps of CAM files at one background threshold: the seeds as masks, or IRN's walked maps, to train a segmentation network on.

Reads CAM files of any stage and an image list in VOC layout; writes <out_mask>/<id>.png in the VOC palette. Finished masks made from the
same CAM files at the same threshold are kept.

    python make_masks.py --infer_list train_aug --cam_dir results/cpn/cam_train_aug --t auto --out_mask results/cpn/mask_train_aug
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool.crf import threshold_mask
from tool.errors import InputError, run_script
from tool.files import require_dir
from tool.flags import AUTO, DEFAULT_WORKERS, auto_or_number, bool_flag, non_negative_int
from tool.images import read_image, write_mask
from tool.pool import pool_map
from tool.seed import CAM_MASK_STAGE, MASK_UNITS, find_seeds, load_seed, made_from, mask_is_finished
from tool.shards import shard, share_note
from voc12.auto_threshold import choose_threshold
from voc12.constants import DATA_HELP
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/cpn/mask"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--infer_list", default="train", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--cam_dir", default=CAM_DIR, help="folder of CAM files, any format and stage (default %(default)s)")
    data.add_argument("--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="processes (default %(default)s)")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--t",
        type=auto_or_number,
        required=True,
        help="background threshold in 0..1, unit scale, or auto: chosen without masks; evaluation_cam.py finds the best by the masks",
    )
    output.add_argument(
        "--seed_dir",
        help="with --t auto: the seeds that maps after a walk were made from; the threshold then shows as many pixels as auto does there",
    )
    output.add_argument("--out_mask", default=OUT_MASK, help="folder for the masks (default %(default)s)")
    output.add_argument(
        "--overwrite", type=bool_flag, nargs="?", const=True, default=False, help="make finished masks again (default false)"
    )
    return parser.parse_args(argv)


@dataclass(frozen=True)
class MaskMaker:
    """Makes the mask of one image; meta: what it says of itself, but for its CAM file."""

    voc12_root: Path
    out_mask: Path
    classes: tuple[str, ...]
    meta: dict[str, Any]
    overwrite: bool

    def __call__(self, item: tuple[str, Path]) -> None:
        """Write the mask of (id, path of its CAM file), unless it is there."""
        name, cam_path = item
        path = self.out_mask / f"{name}.png"
        if not self.overwrite and mask_is_finished(path, self.meta, cam_path):
            return
        size = read_image(image_path(self.voc12_root, name)).shape[:2]
        cam_file = load_seed(cam_path, size, self.classes, stages=None)
        mask = threshold_mask(cam_file.cam, cam_file.keys, self.meta["threshold"])
        write_mask(path, mask, made_from(self.meta, cam_path, cam_file))


def main(args: argparse.Namespace) -> None:
    """Write a mask for every image of the list."""
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    ids = load_ids(root, args.infer_list)
    items = list(zip(ids, find_seeds(args.cam_dir, ids), strict=True))
    threshold = args.t
    if args.seed_dir and threshold != AUTO:
        raise InputError("--seed_dir goes with --t auto")
    if threshold == AUTO:
        threshold = choose_threshold(root, ids, args.cam_dir, args.num_workers, args.seed_dir)
        print(f"background threshold chosen without masks: {threshold:.2f}")
    meta = {"stage": CAM_MASK_STAGE, "units": MASK_UNITS, "threshold": threshold, "classes": list(classes)}
    make = MaskMaker(root, Path(args.out_mask), classes, meta, args.overwrite)
    pool_map(make, shard(items), args.num_workers, "masks")
    print(f"label maps ({CAM_MASK_STAGE}, threshold {threshold:.2f}): {args.out_mask}, {share_note(len(ids))}")


if __name__ == "__main__":
    run_script(main, parse_args)
