"""Make pseudo masks with IRN: CAM scores walk on the boundary map of train_irn.py's network.

Reads the trained weights (or the released res50_irn.pth), an image list in VOC layout and CAM files; writes <out_mask>/<id>.png in the
VOC palette. Finished masks made from the same CAM files by the same weights and settings are kept.

    python infer_irn.py --weights results/irn/irn.pth --infer_list train --cam_dir results/cpn/cam_train --out_mask results/irn/mask_train
    python evaluation_cam.py --type png --list train --predict_dir results/irn/mask_train
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from network.expansion_weights import load_irn
from network.irn import IRN, STRIDE, infer_edge
from tool.cam_file import CamFile, save_cam
from tool.device import KEEP_SMALL, PRECISIONS, autocast, choose_device
from tool.errors import run_script
from tool.files import file_digest, require_dir
from tool.flags import DEFAULT_WORKERS, bool_flag, non_negative_int, positive_int, positive_number, unit_number
from tool.images import write_image, write_mask
from tool.irn_pictures import boundary_picture, displacement_picture
from tool.progress import progress
from tool.seed import IRN_MASK_STAGE, MASK_UNITS, REFINED_STAGE, WALK_STAGE
from tool.shards import shard, share_note
from tool.walk import edge_walk, unit_scores, unit_scores_to_label
from voc12.constants import DATA_HELP
from voc12.expansion_data import SeedSet
from voc12.lists import LIST_HELP, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
WEIGHTS = "results/irn/irn.pth"
CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/irn/mask"

RELEASED_BG_THRESHOLD = 0.25


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--infer_list", default="train", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--cam_dir", default=CAM_DIR, help="folder of CAM files, any format (default %(default)s)")
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader processes (default %(default)s)"
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights", default=WEIGHTS, help="weights of train_irn.py, or the released res50_irn.pth (default %(default)s)"
    )
    model.add_argument(
        "--crop_size",
        type=positive_int,
        help="side that images are padded to, pixels (default: the training crop's, by the weights)",
    )
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of convolutions (default %(default)s)")
    model.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")

    walk = parser.add_argument_group("walk")
    walk.add_argument("--radius", type=positive_int, default=5, help="of neighbours, in cells of 4 pixels (default %(default)s)")
    walk.add_argument("--beta", type=positive_number, default=10, help="power of the affinity (default %(default)s)")
    walk.add_argument(
        "--exp_times", type=non_negative_int, default=8, help="the walk takes 2 ** this many steps (default %(default)s)"
    )
    walk.add_argument(
        "--bg_threshold",
        type=unit_number,
        default=RELEASED_BG_THRESHOLD,
        help="background score, where 1 is the image's highest after the walk (default %(default)s, as released, for a plain CAM's "
        "peaked maps; refined CAMs need a higher one)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--out_mask", default=OUT_MASK, help="folder for the pseudo masks (default %(default)s)")
    output.add_argument(
        "--out_cam",
        help="folder for the maps after the walk as CAM files, for evaluation_cam.py to try background scores (default: none)",
    )
    output.add_argument("--save_png", help="folder for pictures <id>_boundary.png and <id>_displacement.png (default: none)")
    output.add_argument(
        "--overwrite", type=bool_flag, nargs="?", const=True, default=False, help="make finished masks again (default false)"
    )
    return parser.parse_args(argv)


@torch.inference_mode()
def image_boundary(net: IRN, image: Tensor, crop_size: int, precision: str) -> tuple[Tensor, Tensor]:
    """Boundary probability (h, w) and displacement (2, h, w) at stride 4 of a normalised image (3, H, W)."""
    with autocast(image.device, precision):
        edge, displacement = infer_edge(net, image, crop_size)
    return edge[0], displacement


@torch.inference_mode()
def walked_cam(cam: Tensor, keys: Tensor, edge: Tensor, args: argparse.Namespace) -> Tensor:
    """Unit CAMs (n, H, W) of classes keys (n,) after the walk on a boundary map (h, w), divided by their common maximum."""
    if len(keys) == 0:
        return cam
    strided = F.interpolate(cam[None], edge.shape, mode="bilinear", align_corners=False)[0]
    return unit_scores(edge_walk(strided, edge, args.radius, args.beta, args.exp_times), cam.shape[1:], STRIDE)


def write_pictures(folder: Path, name: str, size: tuple[int, int], edge: np.ndarray, displacement: np.ndarray) -> None:
    """Boundary and displacement as PNG at image size (H, W)."""
    write_image(folder / f"{name}_boundary.png", boundary_picture(edge, STRIDE)[: size[0], : size[1]])
    write_image(folder / f"{name}_displacement.png", displacement_picture(displacement, STRIDE)[: size[0], : size[1]])


def main(args: argparse.Namespace) -> None:
    """Write a pseudo mask for every image of the list."""
    # ============ network ============
    device = choose_device(args.device, KEEP_SMALL)
    net, config = load_irn(args.weights)
    net.to(device, memory_format=torch.channels_last)
    crop_size = args.crop_size or config["crop_size"]
    walk_device = torch.device("cpu") if device.type == "mps" else device  # the walk needs float64

    # ============ data ============
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    every = load_ids(root, args.infer_list)
    ids = shard(every)
    meta = {
        "stage": IRN_MASK_STAGE,
        "units": MASK_UNITS,
        "backbone": config["backbone"],
        "weights": file_digest(args.weights),
        "crop_size": crop_size,
        "precision": args.precision,
        "radius": args.radius,
        "beta": args.beta,
        "exp_times": args.exp_times,
        "bg_threshold": args.bg_threshold,
        "classes": list(classes),
    }
    walked_meta = {name: value for name, value in meta.items() if name != "bg_threshold"} | {"stage": WALK_STAGE, "units": "unit"}
    out_mask = Path(args.out_mask)
    data = SeedSet(
        root,
        ids,
        args.cam_dir,
        out_mask,
        meta,
        classes,
        net.mean,
        net.std,
        args.overwrite,
        walked_dir=args.out_cam,
        walked_meta=walked_meta if args.out_cam else None,
    )
    if len(data) < len(ids):
        tqdm.write(f"{len(ids) - len(data)} of {len(ids)} masks are there already, made with these weights and settings")
    loader = DataLoader(data, batch_size=None, num_workers=min(args.num_workers, len(data)))

    # ============ inference ============
    stages = set()
    for sample in progress(loader, unit="img"):
        edge, displacement = image_boundary(net, sample["image"].to(device), crop_size, args.precision)
        cam, keys, walk_edge = (value.to(walk_device) for value in (sample["cam"], sample["keys"], edge))
        walked = walked_cam(cam, keys, walk_edge, args)
        mask = unit_scores_to_label(walked, keys, args.bg_threshold).cpu().numpy()
        if args.save_png:
            write_pictures(Path(args.save_png), sample["id"], mask.shape, edge.cpu().numpy(), displacement.cpu().numpy())
        if args.out_cam:
            maps = walked.float().cpu().numpy()
            save_cam(args.out_cam, CamFile(sample["id"], sample["keys"].numpy(), maps, mask.shape, sample["walked_meta"]))
        write_mask(out_mask / f"{sample['id']}.png", mask, sample["meta"])
        stages.add(sample["meta"]["cam"].get("stage"))
    if REFINED_STAGE in stages and args.bg_threshold == RELEASED_BG_THRESHOLD:
        tqdm.write(
            f"note: the seeds are refined CAMs, for which --bg_threshold {args.bg_threshold} is likely too low; --out_cam keeps the maps, "
            "and make_masks.py --t auto --seed_dir chooses a score without masks"
        )
    print(f"pseudo masks ({IRN_MASK_STAGE}): {out_mask}, {share_note(len(every))}")


if __name__ == "__main__":
    run_script(main, parse_args)
