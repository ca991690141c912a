"""Segment photographs with a network of train_seg.py: scales and mirror images averaged, dense CRF, masks in the VOC palette.

Reads the trained weights and an image list in VOC layout; writes <out_mask>/<id>.png. Finished masks made with the same weights and
settings are kept. --submission adds the folder that the VOC evaluation server takes; --image does single photographs and writes
<photograph>_seg.png, an overlay, beside each.

    python infer_seg.py --weights results/seg/seg.pth --infer_list val --out_mask results/seg/mask_val
    python evaluation_cam.py --type png --list val --predict_dir results/seg/mask_val
    python infer_seg.py --weights results/seg/seg.pth --image photo.jpg
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from network.seg import SegNet, merged_logits
from network.seg_weights import load_seg
from tool.crf import CrfSettings, crf_probabilities, named_settings
from tool.device import KEEP_SMALL, PRECISIONS, autocast, choose_device
from tool.errors import InputError, run_script
from tool.files import file_digest, require_dir
from tool.flags import DEFAULT_WORKERS, add_crf_flags, bool_flag, non_negative_int, positive_number
from tool.images import read_image, read_mask, read_mask_meta, write_image, write_mask
from tool.overlay import mask_overlay
from tool.pool import background_calls
from tool.progress import progress
from tool.seed import MASK_UNITS, SEG_MASK_STAGE
from tool.shards import shard, share_note
from tool.submission import submission_folder, write_submission
from tool.trainer import ignore_signals
from voc12.constants import BACKGROUND, DATA_HELP
from voc12.dataset import InferenceSet
from voc12.lists import LIST_HELP, image_path, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
WEIGHTS = "results/seg/seg.pth"
OUT_MASK = "results/seg/mask"

NO_CRF = "none"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; defaults as the papers test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--infer_list", default="val", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--image", nargs="+", metavar="FILE", help="photographs to do instead of a list")
    data.add_argument(
        "--num_workers",
        type=non_negative_int,
        default=DEFAULT_WORKERS,
        help="loader processes, and as many for the CRF (default %(default)s)",
    )

    model = parser.add_argument_group("model")
    model.add_argument("--weights", default=WEIGHTS, help="weights of train_seg.py (default %(default)s)")
    model.add_argument(
        "--scales",
        type=positive_number,
        nargs="+",
        default=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        help="image scales (default 0.5 0.75 1.0 1.25 1.5 1.75)",
    )
    model.add_argument("--flip", type=bool_flag, default=True, help="add the mirrored image at each scale (default true)")
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of convolutions (default %(default)s)")
    model.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")

    add_crf_flags(parser.add_argument_group("dense CRF on the probabilities"), default="deeplab", extra=(NO_CRF,))

    output = parser.add_argument_group("output")
    output.add_argument("--out_mask", default=OUT_MASK, help="folder for the masks; not used with --image (default %(default)s)")
    output.add_argument("--submission", metavar="DIR", help="write DIR/results/VOC2012/... for the VOC server too (default: not)")
    output.add_argument("--save_png", help="folder for overlays <id>_seg.png (default none; with --image the photograph's)")
    output.add_argument(
        "--overwrite", type=bool_flag, nargs="?", const=True, default=False, help="make finished masks again (default false)"
    )
    return parser.parse_args(argv)


@torch.inference_mode()
def image_probabilities(
    net: SegNet, scaled: Sequence[Tensor], size: tuple[int, int], flip: bool, precision: str, device: torch.device
) -> np.ndarray:
    """Probabilities (K, H, W), float32, background first, of an image given at its scales, (3, h, w) each."""
    with autocast(device, precision):
        logits = merged_logits(net, [image.to(device) for image in scaled], size, flip)
    return logits.softmax(dim=0).cpu().numpy()


def probability_mask(image: np.ndarray, probabilities: np.ndarray, crf: CrfSettings | None) -> np.ndarray:
    """The label mask (H, W), uint8, of probabilities (K, H, W), after the CRF if there is one; image: (H, W, 3) uint8."""
    scores = probabilities if crf is None else crf_probabilities(image, probabilities, crf)
    return scores.argmax(axis=0).astype(np.uint8)


def write_outputs(
    path: Path, probabilities: np.ndarray, crf: CrfSettings | None, out_mask: Path | None, save_png: Path | None, meta: dict
) -> np.ndarray:
    """Write the overlay, if save_png is a folder, then <out_mask>/<id>.png, which says that the image is finished; return the mask."""
    image = read_image(path)
    mask = probability_mask(image, probabilities, crf)
    if save_png is not None:
        write_image(save_png / f"{path.stem}_seg.png", mask_overlay(image, mask))
    if out_mask is not None:
        write_mask(out_mask / f"{path.stem}.png", mask, meta)
    return mask


def is_finished(path: Path, meta: dict[str, Any]) -> bool:
    """Whether a whole mask that says meta of itself is at path."""
    if not path.is_file():
        return False
    try:
        read_mask(path)
        return read_mask_meta(path) == meta
    except InputError:
        return False


def infer_list(
    args: argparse.Namespace, net: SegNet, crf: CrfSettings | None, meta: dict[str, Any], device: torch.device
) -> None:
    """Write a mask for every image of the list that has none made with the same weights and settings."""
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    every = load_ids(root, args.infer_list)
    ids = shard(every)
    out_mask, save_png = Path(args.out_mask), Path(args.save_png) if args.save_png else None
    submission = submission_folder(args.submission, every, meta["classes"]) if args.submission else None
    todo = [name for name in ids if args.overwrite or not is_finished(out_mask / f"{name}.png", meta)]
    for name in sorted(set(ids) - set(todo)) if save_png else ():
        if not (path := save_png / f"{name}_seg.png").is_file():
            write_image(path, mask_overlay(read_image(image_path(root, name)), read_mask(out_mask / f"{name}.png")))
    if len(todo) < len(ids):
        tqdm.write(f"{len(ids) - len(todo)} of {len(ids)} masks are there already, made with these weights and settings")
    paths = {name: image_path(root, name) for name in todo}
    data = InferenceSet(todo, list(paths.values()), None, args.scales, net.mean, net.std)
    workers = min(args.num_workers, len(todo))
    loader = DataLoader(data, batch_size=None, num_workers=workers, worker_init_fn=ignore_signals)
    with background_calls(workers if crf else 0) as call:
        for sample in progress(loader, unit="img"):
            size = tuple(int(side) for side in sample["size"])
            probabilities = image_probabilities(net, sample["scaled"], size, args.flip, args.precision, device)
            call(write_outputs, paths[sample["id"]], probabilities, crf, out_mask, save_png, meta)
    print(f"masks ({SEG_MASK_STAGE}): {out_mask}, {share_note(len(every))}")
    if submission is not None:
        write_submission(submission, [out_mask / f"{name}.png" for name in ids])
        print(f"submission: {submission}, {share_note(len(every))}; `tar -czf results.tgz -C {args.submission} results` packs it")


def infer_photographs(
    args: argparse.Namespace, net: SegNet, crf: CrfSettings | None, meta: dict[str, Any], device: torch.device
) -> None:
    """Write an overlay of each photograph, and print the classes in it."""
    paths = [Path(name) for name in shard(args.image)]
    data = InferenceSet([path.stem for path in paths], paths, None, args.scales, net.mean, net.std)
    names = (BACKGROUND, *meta["classes"])
    for path, sample in zip(paths, data, strict=False):
        folder = Path(args.save_png) if args.save_png else path.parent
        probabilities = image_probabilities(net, sample["scaled"], sample["size"], args.flip, args.precision, device)
        mask = write_outputs(path, probabilities, crf, None, folder, meta)
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        seen = ", ".join(f"{names[label]} {100 * shares[label]:.0f} %" for label in np.flatnonzero(shares))
        print(f"{path}: {seen}; overlay: {folder / f'{path.stem}_seg.png'}")


def main(args: argparse.Namespace) -> None:
    """Write the masks of a list, or the overlays of single photographs."""
    device = choose_device(args.device, KEEP_SMALL)
    net, config, classes = load_seg(args.weights)
    net.to(device, memory_format=torch.channels_last)
    crf = None if args.crf == NO_CRF else named_settings(args.crf, **dict(args.crf_set))
    meta = {
        "stage": SEG_MASK_STAGE,
        "units": MASK_UNITS,
        "arch": config["arch"],
        "backbone": config["backbone"],
        "weights": file_digest(args.weights),
        "scales": list(args.scales),
        "flip": args.flip,
        "precision": args.precision,
        "crf": asdict(crf) if crf else None,
        "classes": list(classes),
    }
    infer = infer_photographs if args.image else infer_list
    infer(args, net, crf, meta, device)


if __name__ == "__main__":
    run_script(main, parse_args)
