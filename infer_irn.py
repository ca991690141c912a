"""Make pseudo masks with IRN: CAM scores walk on the boundary map of train_irn.py's network.

Reads the trained weights (or the released res50_irn.pth), an image list in VOC layout and CAM
files; writes <out_mask>/<id>.png in the VOC palette. Finished masks made from the same CAM files by
the same weights and settings are kept. The background score is chosen without masks, from all
maps after the walk, but for those of a plain CAM.

    python infer_irn.py --weights results/irn/irn.pth --infer_list train \\
        --cam_dir results/cpn/cam_train --out_mask results/irn/mask_train
    python evaluation_cam.py --type png --list train --predict_dir results/irn/mask_train
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.irn_inference", __doc__)  # before the imports, which take seconds

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flags.irn_inference import RELEASED_BG_THRESHOLD, parse_args
from network.expansion_inference import image_boundary, walked_cam
from network.expansion_weights import load_irn
from network.irn import STRIDE
from tool.errors import InputError, naming_file, run_script
from tool.expand.crf import threshold_mask
from tool.expand.seed import (
    IRN_MASK_STAGE,
    MASK_UNITS,
    WALK_STAGE,
    find_seeds,
    mask_is_finished,
)
from tool.expand.walk import unit_scores_to_label
from tool.file.cam_file import PACKED, CamFile, load_cam, save_cam
from tool.file.digests import digest, file_digest, weights_meta
from tool.file.images import EXIF_KEY, read_picture_meta, write_image, write_mask
from tool.run.device import KEEP_SMALL, choose_device, is_large
from tool.run.flags import AUTO
from tool.run.notes import note, note_finished
from tool.run.pool import pool_map
from tool.run.progress import progress
from tool.run.shards import share_note, world_size
from tool.run.side_by_side import side_by_side
from tool.show.irn_pictures import boundary_picture, displacement_picture
from voc12.cam_folder import CamFolder, open_cam_folder, require_same_photographs
from voc12.class_list import load_class_list
from voc12.expansion_data import SeedSet
from voc12.inference_list import (
    InferenceList,
    inference_loader,
    load_inference_list,
)
from voc12.lists import image_path
from voc12.threshold_choice import choose_threshold, suits_released

# of a mask's meta: what the boundary map depends on beside weights and photograph
NETWORK_SETTINGS = ("crop_size", "precision", EXIF_KEY)


def picture_paths(folder: str | Path, name: str) -> tuple[Path, Path]:
    """Where write_pictures writes: boundary, displacement."""
    boundary, displacement = (f"{name}_{what}.png" for what in ("boundary", "displacement"))
    return Path(folder) / boundary, Path(folder) / displacement


def picture_meta(meta: dict[str, Any], name: str, photograph: Path) -> dict[str, str]:
    """What the pictures of an image say of themselves; meta: what its mask does. No seed and no
    walk is in them.
    """
    of_network = {part: meta.get(part) for part in ("weights", "weights_key", *NETWORK_SETTINGS)}
    return {"id": name, "made_from": digest(of_network | {"photograph": file_digest(photograph)})}


def write_pictures(
    folder: str | Path,
    name: str,
    size: tuple[int, int],
    edge: np.ndarray,
    displacement: np.ndarray,
    made: dict[str, str],
) -> None:
    """Boundary and displacement as PNG at image size (H, W); made: picture_meta."""
    pictures = boundary_picture(edge, STRIDE), displacement_picture(displacement, STRIDE)
    for path, picture in zip(picture_paths(folder, name), pictures, strict=True):
        write_image(path, picture[: size[0], : size[1]], made)


@dataclass(frozen=True)
class HasPictures:
    """Whether both pictures of an image, by its id, are there, of this network; older ones, which
    do not say of which, count, since only the network could draw them again.
    """

    folder: str
    voc12_root: Path
    meta: dict[str, Any]

    def __call__(self, name: str) -> bool:
        """Whether they are."""
        paths = picture_paths(self.folder, name)
        if not all(path.is_file() for path in paths):
            return False
        said = [one for one in map(read_picture_meta, paths) if one is not None]
        made = picture_meta(self.meta, name, image_path(self.voc12_root, name)) if said else None
        return all(one == made for one in said)


def mask_meta(
    args: argparse.Namespace, config: dict, classes: tuple[str, ...], score: float | str
) -> dict[str, Any]:
    """What a mask says of itself, but for its seed; config: of the weights; score: of the
    background.
    """
    # so that finished masks without it stay finished
    filled = {"fill": args.fill} if args.fill else {}
    return filled | {
        "stage": IRN_MASK_STAGE,
        "units": MASK_UNITS,
        "backbone": config["backbone"],
        **weights_meta(args.weights, args.weights_key),
        "crop_size": args.crop_size or config["crop_size"],
        "precision": args.precision,
        "radius": args.radius,
        "beta": args.beta,
        "exp_times": args.exp_times,
        "bg_threshold": score,
        "classes": list(classes),
    }


def walked_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """What the walk's CAM file says of itself, from what the mask does: no threshold made it."""
    kept = {name: value for name, value in meta.items() if name != "bg_threshold"}
    return kept | {"stage": WALK_STAGE, "units": "unit"}


def write_walked(
    args: argparse.Namespace,
    out_cam: str | None,
    sample: dict,
    walked: Tensor,
    edge: Tensor,
    displacement: Tensor,
) -> None:
    """Write the pictures, if asked, and the walked maps, if there is a folder for them.

    walked: (n, H, W), unit scale; edge: (h, w), displacement: (2, h, w), at stride 4
    """
    size = tuple(sample["image"].shape[1:])
    if args.save_png:
        name, pictures = sample["id"], (edge.cpu().numpy(), displacement.cpu().numpy())
        made = picture_meta(sample["meta"], name, image_path(args.voc12_root, name))
        write_pictures(args.save_png, name, size, *pictures, made)
    if out_cam:
        keys, maps = sample["keys"].numpy(), walked.float().cpu().numpy()
        save_cam(out_cam, CamFile(sample["id"], keys, maps, size, sample["walked_meta"]), PACKED)


@dataclass(frozen=True)
class MaskOfWalk:
    """Writes the mask of a walked map, unless it is there: (id, path of its seed) -> whether it
    was. meta: what the mask says of itself, but for its seed.
    """

    out_cam: Path
    out_mask: Path
    meta: dict[str, Any]
    overwrite: bool

    def __call__(self, item: tuple[str, Path]) -> bool:
        """Write the mask."""
        name, seed_path = item
        mask_path = self.out_mask / f"{name}.png"
        if not self.overwrite and mask_is_finished(mask_path, self.meta, seed_path):
            return True
        walked = load_cam(self.out_cam / f"{name}.npz")
        mask = threshold_mask(walked.cam, walked.keys, self.meta["bg_threshold"])
        seed = {part: walked.meta[part] for part in ("cam", "cam_digest")}
        write_mask(mask_path, mask, self.meta | seed)
        return False


def background_score(args: argparse.Namespace, images: InferenceList) -> float | str:
    """--bg_threshold or, where it is not given, what suits the seeds: the released score or auto;
    says which and why.

    Raises InputError for auto in several processes, none of which has the maps of all images.
    """
    score = args.bg_threshold
    if score is None:
        released, why = suits_released(args.cam_dir, images.every)
        score = RELEASED_BG_THRESHOLD if released else AUTO
        note(f"background score: --bg_threshold {score}, since {why}")
    if score == AUTO and world_size() > 1:
        raise InputError(
            "--bg_threshold auto, the default but for a plain CAM, is chosen from the maps of all "
            f"images, and each of {world_size()} processes has a part of them: give a number and "
            "--out_cam, then run make_masks.py --t auto --seed_dir"
        )
    return score


def main(args: argparse.Namespace) -> None:
    """Write a pseudo mask for every image of the list."""
    # ============ network ============
    device = choose_device(args.device, KEEP_SMALL)
    net, config = load_irn(args.weights, args.weights_key)
    net.to(device, memory_format=torch.channels_last)
    walk_device = torch.device("cpu") if device.type == "mps" else device  # the walk needs float64

    # ============ data ============
    images = load_inference_list(args)
    classes = load_class_list(images.root)
    cams = open_cam_folder(
        args.cam_dir, args.cam_format, images.root, images.every, classes, args.exif
    )
    require_same_photographs(args.cam_dir, images.root, images.every)
    score = background_score(args, images)
    is_chosen = score == AUTO  # when all maps are there
    out_cam = args.out_cam or (f"{args.out_mask}_walked" if is_chosen else None)
    meta = mask_meta(args, config, classes, score)
    data = SeedSet(
        images.root,
        images.ids,
        args.cam_dir,
        None if is_chosen else args.out_mask,
        meta,
        classes,
        net.mean,
        net.std,
        args.overwrite,
        walked_dir=out_cam,
        walked_meta=walked_meta(meta) if out_cam else None,
        cams=cams,
        has_rest=HasPictures(args.save_png, images.root, meta | cams.meta)
        if args.save_png
        else None,
    )
    what = "maps after the walk" if is_chosen else "masks"
    note_finished(len(images.ids) - len(data), len(images.ids), what)

    # ============ inference ============
    def compute(sample: dict) -> tuple[Tensor, Tensor, Tensor]:
        """Walked maps, boundary and displacement of an image."""
        with naming_file(sample["id"]):
            edge, displacement = image_boundary(
                net, sample["image"].to(device), meta["crop_size"], args.precision
            )
        seed = (value.to(walk_device) for value in (sample["cam"], sample["keys"], edge))
        walked = walked_cam(*seed, args.radius, args.beta, args.exp_times, args.fill)
        return walked, edge, displacement

    loader = inference_loader(data, args.num_workers)
    made = side_by_side(compute, loader, device, lambda sample: is_large([sample["image"]]))
    for sample, (walked, edge, displacement) in progress(made, unit="img", total=len(data)):
        write_walked(args, out_cam, sample, walked, edge, displacement)
        if not is_chosen:  # last: the mask says that the image is finished
            label = unit_scores_to_label(walked, sample["keys"].to(walked.device), score)
            write_mask(
                Path(args.out_mask) / f"{sample['id']}.png", label.cpu().numpy(), sample["meta"]
            )
    if is_chosen:
        write_chosen_masks(args, images, cams, out_cam, meta)
    print(f"pseudo masks ({IRN_MASK_STAGE}): {args.out_mask}, {share_note(len(images.every))}")


def write_chosen_masks(
    args: argparse.Namespace,
    images: InferenceList,
    cams: CamFolder,
    out_cam: str,
    meta: dict[str, Any],
) -> None:
    """Choose the background score of the walked maps without masks, and write all masks."""
    score = choose_threshold(
        images.root,
        images.every,
        out_cam,
        args.num_workers,
        args.cam_dir,
        exif=args.exif,
        load_seed=cams.load,
    )
    print(f"background score chosen without masks: {score:.2f}; the maps: {out_cam}")
    meta = meta | {"bg_threshold": score} | cams.meta
    make = MaskOfWalk(Path(out_cam), Path(args.out_mask), meta, args.overwrite)
    items = list(zip(images.every, find_seeds(args.cam_dir, images.every), strict=True))
    kept = sum(pool_map(make, items, args.num_workers, "masks"))
    note_finished(kept, len(items), "masks")


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
