"""Make pseudo masks with AffinityNet: CAM scores walk over the affinities of train_aff.py's
network.

Reads the trained weights (or a released resnet38_aff.pth), an image list in VOC layout and CAM
files; writes <out_mask>/<id>.png in the VOC palette. Finished masks made from the same CAM files by
the same weights and settings are kept.

    python infer_aff.py --weights results/aff/aff.pth --infer_list train \\
        --cam_dir results/cpn/cam_train --out_mask results/aff/mask_train
    python evaluation_cam.py --type png --list train --predict_dir results/aff/mask_train
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.aff_inference", __doc__)  # before the imports, which take seconds

import argparse
from functools import partial
from pathlib import Path

import torch

from flags.aff_inference import parse_args
from network.expansion_inference import WALKS, Walk, image_affinity, image_mask
from network.expansion_weights import load_affinity_net
from tool.errors import naming_file, run_script
from tool.expand.crf import threshold_alpha
from tool.expand.seed import AFF_MASK_STAGE, MASK_UNITS
from tool.file.digests import weights_meta
from tool.file.images import write_mask
from tool.run.device import KEEP_SMALL, choose_device
from tool.run.flags import (
    AUTO,
)
from tool.run.notes import note_finished
from tool.run.progress import progress
from tool.run.shards import share_note
from voc12.cam_folder import CamFolder, open_cam_folder, require_same_photographs
from voc12.class_list import load_class_list
from voc12.expansion_data import SeedSet
from voc12.inference_list import InferenceList, inference_loader, load_inference_list
from voc12.threshold_choice import choose_threshold


def chosen_walk(args: argparse.Namespace, trained_with: str | None) -> Walk:
    """The preset's walk with what the flags set, --alpha a number; trained_with: the preset of the
    weights, if they say.
    """
    preset = vars(WALKS[args.preset or trained_with or "seam"])
    return Walk(
        **{
            name: value if getattr(args, name) is None else getattr(args, name)
            for name, value in preset.items()
        }
    )


def choose_alpha(args: argparse.Namespace, images: InferenceList, cams: CamFolder) -> None:
    """Put a number in place of --alpha auto, from a threshold chosen without masks."""
    if args.alpha == AUTO:
        threshold = choose_threshold(
            images.root,
            images.every,
            args.cam_dir,
            args.num_workers,
            load=cams.load,
            exif=args.exif,
        )
        args.alpha = threshold_alpha(threshold)
        print(
            f"background threshold chosen without masks: {threshold:.2f}, --alpha {args.alpha:.3g}"
        )


def main(args: argparse.Namespace) -> None:
    """Write a pseudo mask for every image of the list."""
    # ============ network ============
    device = choose_device(args.device, KEEP_SMALL)
    net, config = load_affinity_net(args.weights, args.weights_key)
    net.to(device, memory_format=torch.channels_last)
    walk_device = torch.device("cpu") if device.type == "mps" else device  # the walk needs float64

    # ============ data ============
    images = load_inference_list(args)
    classes = load_class_list(images.root)
    cams = open_cam_folder(
        args.cam_dir, args.cam_format, images.root, images.every, classes, args.exif
    )
    require_same_photographs(args.cam_dir, images.root, images.every)
    choose_alpha(args, images, cams)
    walk = chosen_walk(args, config["preset"])
    meta = {
        "stage": AFF_MASK_STAGE,
        "units": MASK_UNITS,
        "backbone": config["backbone"],
        **weights_meta(args.weights, args.weights_key),
        "precision": args.precision,
        **vars(walk),
        "classes": list(classes),
    }
    data = SeedSet(
        images.root,
        images.ids,
        args.cam_dir,
        args.out_mask,
        meta,
        classes,
        net.mean,
        net.std,
        args.overwrite,
        cams=cams,
    )
    note_finished(len(images.ids) - len(data), len(images.ids), "masks")

    # ============ inference ============
    for sample in progress(inference_loader(data, args.num_workers), unit="img"):
        with naming_file(sample["id"]):
            affinity = image_affinity(net, sample["image"].to(device), args.precision)
        affinity = affinity.to(walk_device)
        mask = image_mask(sample["cam"], sample["keys"], affinity, walk)
        path = Path(args.out_mask) / f"{sample['id']}.png"
        write_mask(path, mask.cpu().numpy(), sample["meta"])
    print(f"pseudo masks ({AFF_MASK_STAGE}): {args.out_mask}, {share_note(len(images.every))}")


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
