"""Train IRN (Ahn, Cho, Kwak, CVPR 2019), the recommended second expansion, from seeds.

Reads photographs and an image list in VOC layout, and the CAM files of infer_cam.py. Makes confident labels of them first, once, in
<label_dir>; then trains the boundary and displacement branches on a frozen backbone. Writes results/<session_name>/ with the final
weights <session_name>.pth, which infer_irn.py understands by itself, a checkpoint to continue from, log.jsonl and TensorBoard events.

    python train_irn.py --voc12_root data/VOCdevkit/VOC2012 --cam_dir results/cpn/cam_train_aug
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from network.expansion_weights import build_irn
from network.irn import IRN, STRIDE, mean_displacement
from network.weights import save_network
from tool.crf import named_settings
from tool.device import autocast, choose_device
from tool.distributed import barrier, join, mean_over_ranks
from tool.errors import InputError, run_script
from tool.expansion_losses import irn_loss
from tool.files import git_commit, require_dir
from tool.flags import (
    DEFAULT_WORKERS,
    MinMax,
    add_crf_flags,
    non_negative_int,
    non_negative_number,
    positive_int,
    positive_number,
    unit_number,
)
from tool.progress import progress
from tool.schedule import poly_sgd
from tool.seed import find_seeds
from tool.shards import is_main
from tool.trainer import ignore_signals, seed_everything, to_device
from tool.training_flags import add_machine_flags, add_session_flags, begin_session, data_digest
from voc12.constants import DATA_HELP
from voc12.dataset import epoch_loader, require_every
from voc12.expansion_data import IrnTrainSet, TopLeftCrops
from voc12.expansion_labels import ConfidentLabels, make_labels
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
CAM_DIR = "results/cpn/cam_train_aug"

DISPLACEMENT_FACTOR = 10
# The released optimiser hands its weight decay to SGD's momentum slot, as CPN's does (tool.schedule.RELEASED_MOMENTUM).
RELEASED_MOMENTUM = 1e-4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--train_list", default="train_aug", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--cam_dir", default=CAM_DIR, help="folder of CAM files, any format (default %(default)s)")
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader and label processes (default %(default)s)"
    )
    data.add_argument(
        "--crop_size",
        type=positive_int,
        default=512,
        help="side of the training crop, pixels, a multiple of 16 (default %(default)s)",
    )
    data.add_argument(
        "--scale",
        action=MinMax,
        type=positive_number,
        nargs=2,
        default=(0.5, 1.5),
        metavar=("MIN", "MAX"),
        help="random scale before the crop (default 0.5 1.5)",
    )

    labels = parser.add_argument_group("confident labels")
    labels.add_argument("--label_dir", help="folder for them, to share between sessions (default labels in the session's folder)")
    labels.add_argument(
        "--fg_threshold", type=unit_number, default=0.30, help="unit CAM score over which a class is sure (default %(default)s)"
    )
    labels.add_argument(
        "--bg_threshold",
        type=unit_number,
        default=0.05,
        help="unit CAM score under which background is sure (default %(default)s)",
    )
    add_crf_flags(labels, default="irn")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone",
        default="resnet50",
        help="resnet50, efficientnet_lite0 or a timm model with features at strides 2 to 32 (default %(default)s)",
    )
    model.add_argument(
        "--weights", default="imagenet", help="of the backbone: imagenet, none, or a file as torchvision's (default %(default)s)"
    )

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--batch_size", type=positive_int, default=32, help="images a step, of all processes together (default %(default)s)"
    )
    optimisation.add_argument("--max_epoches", type=positive_int, default=3, help="epochs (default %(default)s)")
    optimisation.add_argument(
        "--lr",
        type=positive_number,
        default=0.1,
        help="learning rate of the boundary branch; displacement takes 10x (default %(default)s)",
    )
    optimisation.add_argument("--wt_dec", type=non_negative_number, default=1e-4, help="weight decay (default %(default)s)")
    optimisation.add_argument(
        "--momentum",
        type=non_negative_number,
        default=RELEASED_MOMENTUM,
        help="SGD momentum; the released code's slip makes it %(default)s (default)",
    )
    optimisation.add_argument(
        "--radius", type=positive_int, default=10, help="of pairs, in cells of 4 pixels (default %(default)s)"
    )
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "irn")
    return parser.parse_args(argv)


def require_crop(crop_size: int, radius: int) -> None:
    """Raise InputError unless the crop divides into feature cells and has room for pairs of this radius."""
    smallest = STRIDE * (2 * radius - 1)
    if crop_size % 16 or crop_size < smallest:
        raise InputError(f"--crop_size {crop_size} must be a multiple of 16 and at least {smallest} for --radius {radius}")


def train_step(net: IRN, batch: dict[str, Tensor], radius: int, num_labels: int) -> dict[str, Tensor]:
    """IRN's losses, their total as "loss"."""
    edge, displacement = net(batch["image"])
    losses = irn_loss(edge, displacement, batch["label"], radius, num_labels, mean_over_ranks)
    losses["loss"] = losses.pop("total_loss")
    return losses


def parameter_groups(net: IRN, lr: float, weight_decay: float) -> list[dict]:
    """The boundary branch at lr, the displacement branch at ten times lr; weight decay on everything, as released."""

    def group(name: str, layers: list[torch.nn.Module], factor: float) -> dict:
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        return {"name": name, "params": parameters, "lr": lr * factor, "weight_decay": weight_decay}

    return [group("boundary", net.edge_layers(), 1), group("displacement", net.displacement_layers(), DISPLACEMENT_FACTOR)]


def set_mean_shift(net: IRN, data: TopLeftCrops, device: torch.device, args: argparse.Namespace) -> None:
    """Store the mean displacement over data, full batches only, which eval mode subtracts.

    The released code takes it over train.txt whatever it trains on; here it is over the training list. Only instance masks read it.
    """
    loader = DataLoader(data, args.batch_size, num_workers=args.num_workers, worker_init_fn=ignore_signals, drop_last=True)
    batches = (to_device(batch, device)["image"] for batch in progress(loader, desc="mean displacement", unit="it"))
    with autocast(device, args.precision):
        net.mean_shift.running_mean.copy_(mean_displacement(net, batches))


def main(args: argparse.Namespace) -> None:
    """Make the labels, train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    require_crop(args.crop_size, args.radius)
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
    net = build_irn(args.backbone, args.weights)
    net.to(device, memory_format=torch.channels_last)
    steps_per_epoch = len(ids) // args.batch_size
    groups = parameter_groups(net, args.lr, args.wt_dec)
    optimizer, schedule = poly_sgd(groups, args.momentum, args.max_epoches * steps_per_epoch)

    # ============ session ============
    data = data_digest(ids, classes)
    run = begin_session(args, parse_args([]), net, optimizer, schedule, device, args.max_epoches, steps_per_epoch, data)

    # ============ labels ============
    labels = ConfidentLabels(
        voc12_root=root,
        cam_dir=Path(args.cam_dir),
        label_dir=Path(args.label_dir or folder / "labels"),
        classes=classes,
        fg_threshold=args.fg_threshold,
        bg_threshold=args.bg_threshold,
        crf=named_settings(args.crf, **dict(args.crf_set)),
    )
    make_labels(labels, ids, args.num_workers)
    barrier()
    train_set = IrnTrainSet(root, ids, labels.path, net.mean, net.std, args.seed, args.crop_size, tuple(args.scale))

    # ============ loop ============
    run.train(
        epoch_loader(train_set, args.batch_size, args.seed, args.num_workers, pin_memory=device.type == "cuda"),
        lambda batch: train_step(net, batch, args.radius, num_labels=len(classes) + 1),
        on_epoch=lambda epoch: {},
    )

    # ============ output ============
    if not is_main():
        return
    set_mean_shift(net, TopLeftCrops(root, ids, net.mean, net.std, args.crop_size), device, args)
    path = folder / f"{args.session_name}.pth"
    config = {"method": "irn", "backbone": args.backbone, "crop_size": args.crop_size}
    save_network(path, net, config, classes, {"settings": run.settings, "iterations": run.step, "commit": git_commit()})
    run.log.line("end", step=run.step, weights=str(path))
    run.log.close()
    print(f"weights: {path}")


if __name__ == "__main__":
    run_script(main, parse_args)
