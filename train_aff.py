"""Train AffinityNet (Ahn, Kwak, CVPR 2018), the second expansion of PSA and SEAM, from seeds.

Reads photographs and an image list in VOC layout, and the CAM files of infer_cam.py. Puts them through the dense CRF against a low and
a high background first, once, in <label_dir>; then trains on their agreement. Writes results/<session_name>/ with the final weights
<session_name>.pth, which infer_aff.py understands by itself, a checkpoint to continue from, log.jsonl and TensorBoard events.

    python train_aff.py --voc12_root data/VOCdevkit/VOC2012 --cam_dir results/cpn/cam_train_aug \\
        --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params --preset seam
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from network.aff import AffinityNet, AffinityNetTimm, build_affinity_net
from network.weights import WEIGHTS_HELP, load_backbone_weights, save_network
from tool.affinity import fitting_radius, pair_labels, pair_offsets
from tool.crf import named_settings
from tool.device import choose_device
from tool.distributed import barrier, join, mean_over_ranks
from tool.errors import InputError, run_script
from tool.expansion_losses import affinity_net_loss
from tool.files import git_commit, require_dir
from tool.flags import DEFAULT_WORKERS, add_crf_flags, non_negative_int, non_negative_number, positive_int, positive_number
from tool.schedule import RELEASED_MOMENTUM, build_optimizer
from tool.seed import find_seeds
from tool.shards import is_main
from tool.trainer import seed_everything
from tool.training_flags import add_machine_flags, add_session_flags, begin_session, data_digest
from voc12.constants import DATA_HELP
from voc12.dataset import epoch_loader, require_every
from voc12.expansion_data import AFFINITY_STRIDE, AffTrainSet
from voc12.expansion_labels import AffinityScores, make_labels
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
CAM_DIR = "results/cpn/cam_train_aug"
WEIGHTS = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"


@dataclass(frozen=True)
class Preset:
    """What PSA and SEAM set differently."""

    lr: float
    high_alpha: float


PRESETS = {"psa": Preset(lr=0.1, high_alpha=32), "seam": Preset(lr=0.01, high_alpha=24)}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="seam", help="whose settings are the defaults (default %(default)s)")
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--train_list", default="train_aug", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--cam_dir", default=CAM_DIR, help="folder of CAM files, any format (default %(default)s)")
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader and CRF processes (default %(default)s)"
    )
    data.add_argument(
        "--crop_size",
        type=positive_int,
        default=448,
        help="side of the training crop, pixels, a multiple of 8 (default %(default)s)",
    )

    labels = parser.add_argument_group("CRF scores, of which labels are made")
    labels.add_argument("--label_dir", help="folder for them, to share between sessions (default labels in the session's folder)")
    labels.add_argument(
        "--low_alpha",
        type=positive_number,
        default=4,
        help="background (1 - max CAM) ** alpha where classes are sure (default %(default)s)",
    )
    labels.add_argument("--high_alpha", type=positive_number, help="the same where background is sure (default 24 seam, 32 psa)")
    add_crf_flags(labels, default="seam")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone", default="resnet38", help="resnet38, efficientnet_lite0 or a timm model, at stride 8 (default %(default)s)"
    )
    model.add_argument(
        "--weights",
        help=f"ImageNet weights: a ResNet38 file, 'imagenet' for a timm backbone, or 'none' (default {WEIGHTS}; imagenet for timm)",
    )

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--batch_size", type=positive_int, default=8, help="images a step, of all processes together (default %(default)s)"
    )
    optimisation.add_argument("--max_epoches", type=positive_int, default=8, help="epochs (default %(default)s)")
    optimisation.add_argument(
        "--lr", type=positive_number, help="learning rate of pretrained weights; new layers take 10x (default 0.01 seam, 0.1 psa)"
    )
    optimisation.add_argument("--wt_dec", type=non_negative_number, default=5e-4, help="weight decay (default %(default)s)")
    optimisation.add_argument(
        "--momentum",
        type=non_negative_number,
        default=RELEASED_MOMENTUM,
        help="SGD momentum; the released code's slip makes it %(default)s (default)",
    )
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "aff")
    args = parser.parse_args(argv)
    for name, value in vars(PRESETS[args.preset]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def build_network(backbone: str, weights: str | None) -> AffinityNet | AffinityNetTimm:
    """The network with its ImageNet weights."""
    weights = weights or (WEIGHTS if backbone == "resnet38" else "imagenet")
    if backbone == "resnet38" and weights == "imagenet":
        raise InputError(f"--weights imagenet: {WEIGHTS_HELP}")
    net = build_affinity_net(backbone, output_stride=AFFINITY_STRIDE, pretrained=weights == "imagenet")
    if weights not in ("imagenet", "none"):
        load_backbone_weights(net, weights)
    return net


def train_step(net: AffinityNet | AffinityNetTimm, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """AffinityNet's losses, their total as "loss"."""
    radius = fitting_radius(batch["label"].shape[-2:])
    pairs = pair_labels(batch["label"], pair_offsets(radius), radius)
    return affinity_net_loss(net(batch["image"]), pairs, mean_over_ranks)


def main(args: argparse.Namespace) -> None:
    """Make the scores, train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    if args.crop_size % AFFINITY_STRIDE or args.crop_size < 3 * AFFINITY_STRIDE:
        raise InputError(f"--crop_size {args.crop_size} must be a multiple of {AFFINITY_STRIDE}, at least {3 * AFFINITY_STRIDE}")
    seed_everything(args.seed, args.deterministic)
    device = choose_device(args.device)
    join(device)
    folder = Path(args.results) / args.session_name

    # ============ data ============
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    ids = load_ids(root, args.train_list)
    if len(ids) < args.batch_size:
        raise InputError(f"{args.train_list} has {len(ids)} images, fewer than --batch_size {args.batch_size}; lower it")
    find_seeds(args.cam_dir, ids)  # names those that are missing before anything is written
    require_every(image_path, root, ids, f"images of {args.train_list}")

    # ============ network, optimiser ============
    net = build_network(args.backbone, args.weights)
    net.to(device, memory_format=torch.channels_last)
    steps_per_epoch = len(ids) // args.batch_size
    optimizer, schedule = build_optimizer(net, args.lr, args.wt_dec, args.momentum, args.max_epoches * steps_per_epoch)

    # ============ session ============
    defaults, data = parse_args(["--preset", args.preset]), data_digest(ids, classes)
    run = begin_session(args, defaults, net, optimizer, schedule, device, args.max_epoches, steps_per_epoch, data)

    # ============ labels ============
    scores = AffinityScores(
        voc12_root=root,
        cam_dir=Path(args.cam_dir),
        label_dir=Path(args.label_dir or folder / "labels"),
        classes=classes,
        low_alpha=args.low_alpha,
        high_alpha=args.high_alpha,
        crf=named_settings(args.crf, **dict(args.crf_set)),
    )
    make_labels(scores, ids, args.num_workers)
    barrier()
    train_set = AffTrainSet(root, ids, scores.path, net.mean, net.std, args.seed, args.crop_size)

    # ============ loop ============
    run.train(
        epoch_loader(train_set, args.batch_size, args.seed, args.num_workers, pin_memory=device.type == "cuda"),
        lambda batch: train_step(net, batch),
        on_epoch=lambda epoch: {},
    )

    # ============ output ============
    if not is_main():
        return
    path = folder / f"{args.session_name}.pth"
    config = {"method": "aff", "backbone": args.backbone, "preset": args.preset}
    save_network(path, net, config, classes, {"settings": run.settings, "iterations": run.step, "commit": git_commit()})
    run.log.line("end", step=run.step, weights=str(path))
    run.log.close()
    print(f"weights: {path}")


if __name__ == "__main__":
    run_script(main, parse_args)
