"""Make pseudo masks with AffinityNet: CAM scores walk over the affinities of train_aff.py's network.

Reads the trained weights (or a released resnet38_aff.pth), an image list in VOC layout and CAM files; writes <out_mask>/<id>.png in the
VOC palette. Finished masks made from the same CAM files by the same weights and settings are kept.

    python infer_aff.py --weights results/aff/aff.pth --infer_list train --cam_dir results/cpn/cam_train --out_mask results/aff/mask_train
    python evaluation_cam.py --type png --list train --predict_dir results/aff/mask_train
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from network.aff import AffinityNet, AffinityNetTimm
from network.expansion_weights import load_affinity_net
from tool.affinity import fitting_radius
from tool.crf import prepend_background, threshold_alpha
from tool.device import KEEP_SMALL, PRECISIONS, autocast, choose_device
from tool.errors import run_script
from tool.files import file_digest, require_dir
from tool.flags import AUTO, DEFAULT_WORKERS, auto_or_positive, bool_flag, non_negative_int, positive_number
from tool.images import write_mask
from tool.progress import progress
from tool.seed import AFF_MASK_STAGE, MASK_UNITS
from tool.shards import shard, share_note
from tool.walk import affinity_walk, pool_scores, scores_to_label, upsample_scores
from voc12.auto_threshold import choose_threshold
from voc12.constants import DATA_HELP
from voc12.expansion_data import AFFINITY_STRIDE, SeedSet
from voc12.lists import LIST_HELP, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
WEIGHTS = "results/aff/aff.pth"
CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/aff/mask"


@dataclass(frozen=True)
class Walk:
    """Background (1 - max CAM) ** alpha, affinity ** beta, 2 ** logt steps."""

    alpha: float
    beta: float
    logt: int


PRESETS = {"psa": Walk(alpha=16, beta=8, logt=8), "seam": Walk(alpha=6, beta=8, logt=6)}


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
        "--weights", default=WEIGHTS, help="weights of train_aff.py, or a released resnet38_aff.pth (default %(default)s)"
    )
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of convolutions (default %(default)s)")
    model.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")

    walk = parser.add_argument_group("walk")
    walk.add_argument(
        "--preset", choices=PRESETS, help="whose settings are the defaults (default: the training's; seam for released weights)"
    )
    walk.add_argument(
        "--alpha",
        type=auto_or_positive,
        help="background score (1 - max CAM) ** alpha, or auto: from a threshold chosen without masks (default 6 seam, 16 psa)",
    )
    walk.add_argument("--beta", type=positive_number, help="power of the affinity (default 8)")
    walk.add_argument("--logt", type=non_negative_int, help="the walk takes 2 ** this many steps (default 6 seam, 8 psa)")

    output = parser.add_argument_group("output")
    output.add_argument("--out_mask", default=OUT_MASK, help="folder for the pseudo masks (default %(default)s)")
    output.add_argument(
        "--overwrite", type=bool_flag, nargs="?", const=True, default=False, help="make finished masks again (default false)"
    )
    return parser.parse_args(argv)


def chosen_walk(args: argparse.Namespace, trained_with: str | None) -> Walk:
    """The preset's walk with what the flags set, --alpha a number; trained_with: the preset of the weights, if they say."""
    preset = vars(PRESETS[args.preset or trained_with or "seam"])
    return Walk(**{name: value if getattr(args, name) is None else getattr(args, name) for name, value in preset.items()})


@torch.inference_mode()
def image_affinity(net: AffinityNet | AffinityNetTimm, image: Tensor, precision: str) -> Tensor:
    """Affinity of every pair, (P, S), of a normalised image (3, H, W), padded with 0 at the right and bottom to whole cells."""
    height, width = image.shape[1:]
    padded = F.pad(image, (0, -width % AFFINITY_STRIDE, 0, -height % AFFINITY_STRIDE))
    with autocast(image.device, precision):
        return net(padded[None])[0]


@torch.inference_mode()
def image_mask(cam: Tensor, keys: Tensor, affinity: Tensor, walk: Walk) -> Tensor:
    """The pseudo mask (H, W), uint8, of unit CAMs (n, H, W) of classes keys (n,) and affinities (P, S)."""
    scores = pool_scores(torch.from_numpy(prepend_background(cam.numpy(), walk.alpha)), AFFINITY_STRIDE).to(affinity.device)
    walked = affinity_walk(scores, affinity, fitting_radius(scores.shape[1:]), walk.beta, walk.logt)
    label = scores_to_label(upsample_scores(walked, AFFINITY_STRIDE), keys.to(affinity.device))
    return label[: cam.shape[1], : cam.shape[2]]


def main(args: argparse.Namespace) -> None:
    """Write a pseudo mask for every image of the list."""
    # ============ network ============
    device = choose_device(args.device, KEEP_SMALL)
    net, config = load_affinity_net(args.weights)
    net.to(device, memory_format=torch.channels_last)
    walk_device = torch.device("cpu") if device.type == "mps" else device  # the walk needs float64

    # ============ data ============
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    every = load_ids(root, args.infer_list)
    ids = shard(every)
    if args.alpha == AUTO:
        threshold = choose_threshold(root, every, args.cam_dir, args.num_workers)
        args.alpha = threshold_alpha(threshold)
        print(f"background threshold chosen without masks: {threshold:.2f}, --alpha {args.alpha:.3g}")
    walk = chosen_walk(args, config["preset"])
    meta = {
        "stage": AFF_MASK_STAGE,
        "units": MASK_UNITS,
        "backbone": config["backbone"],
        "weights": file_digest(args.weights),
        "precision": args.precision,
        **vars(walk),
        "classes": list(classes),
    }
    out_mask = Path(args.out_mask)
    data = SeedSet(root, ids, args.cam_dir, out_mask, meta, classes, net.mean, net.std, args.overwrite)
    if len(data) < len(ids):
        tqdm.write(f"{len(ids) - len(data)} of {len(ids)} masks are there already, made with these weights and settings")
    loader = DataLoader(data, batch_size=None, num_workers=min(args.num_workers, len(data)))

    # ============ inference ============
    for sample in progress(loader, unit="img"):
        affinity = image_affinity(net, sample["image"].to(device), args.precision).to(walk_device)
        mask = image_mask(sample["cam"], sample["keys"], affinity, walk)
        write_mask(out_mask / f"{sample['id']}.png", mask.cpu().numpy(), sample["meta"])
    print(f"pseudo masks ({AFF_MASK_STAGE}): {out_mask}, {share_note(len(every))}")


if __name__ == "__main__":
    run_script(main, parse_args)
