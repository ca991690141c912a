"""Train IRN (Ahn, Cho, Kwak, CVPR 2019), the recommended second expansion, from seeds.

Reads photographs and an image list in VOC layout, and the CAM files of infer_cam.py. Makes
confident labels of them first, once, in <label_dir>; then trains the boundary and displacement
branches on a frozen backbone. Writes results/<session_name>/ with the final weights
<session_name>.pth, which infer_irn.py understands by itself, a checkpoint to continue from,
log.jsonl and TensorBoard events.

    python train_irn.py --voc12_root data/VOCdevkit/VOC2012 --cam_dir results/cpn/cam_train_aug
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.irn_training", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from flags.irn_training import RELEASED_THRESHOLDS, parse_args
from network.expansion_weights import build_irn
from network.irn import IRN, STRIDE, mean_displacement
from network.weights import save_network
from tool.errors import InputError, run_script
from tool.expand.expansion_losses import irn_loss
from tool.expand.seed import find_seeds
from tool.file.cam_file import cam_content
from tool.run.device import autocast
from tool.run.distributed import mean_over_ranks
from tool.run.flags import AUTO
from tool.run.loader import Loader
from tool.run.notes import note
from tool.run.progress import progress
from tool.run.session import (
    Trained,
    begin_machine,
    begin_session,
    data_digest,
    end_session,
    file_contents,
    weights_contents,
    weights_path,
)
from tool.run.shards import is_main
from tool.run.trainer import to_device
from tool.schedule import poly_optimizer
from voc12.cam_folder import CamFolder
from voc12.dataset import epoch_loader
from voc12.expansion_data import IrnTrainSet, TopLeftCrops
from voc12.expansion_labels import ConfidentLabels, label_settings, make_labels, open_seeds
from voc12.threshold_choice import choose_sure_thresholds, suits_released
from voc12.training_list import TrainingList, load_training_list, loader_settings

DISPLACEMENT_FACTOR = 10


def require_crop(crop_size: int, radius: int) -> None:
    """Raise InputError unless the crop divides into feature cells and has room for pairs of this
    radius.
    """
    smallest = STRIDE * (2 * radius - 1)
    if crop_size % 16 or crop_size < smallest:
        raise InputError(
            f"--crop_size {crop_size} must be a multiple of 16 and at least {smallest} for "
            f"--radius {radius}"
        )


def train_step(
    net: IRN, batch: dict[str, Tensor], radius: int, num_labels: int
) -> dict[str, Tensor]:
    """IRN's losses, their total as "loss"."""
    edge, displacement = net(batch["image"])
    losses = irn_loss(edge, displacement, batch["label"], radius, num_labels, mean_over_ranks)
    losses["loss"] = losses.pop("total_loss")
    return losses


def parameter_groups(net: IRN, lr: float, weight_decay: float) -> list[dict]:
    """The boundary branch at lr, the displacement branch at ten times lr; weight decay on
    everything, as released.
    """

    def group(name: str, layers: list[torch.nn.Module], factor: float) -> dict:
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        return {"name": name, "params": parameters, "lr": lr * factor, "weight_decay": weight_decay}

    return [
        group("boundary", net.edge_layers(), 1),
        group("displacement", net.displacement_layers(), DISPLACEMENT_FACTOR),
    ]


def set_mean_shift(
    net: IRN, data: TopLeftCrops, device: torch.device, args: argparse.Namespace
) -> None:
    """Store the mean displacement over data, full batches only, which eval mode subtracts.

    The released code takes it over train.txt whatever it trains on; here it is over the training
    list. Only instance masks read it.
    """
    loader = Loader(
        data,
        args.batch_size,
        num_workers=args.num_workers,
        drop_last=True,
    )
    batches = (
        to_device(batch, device)["image"]
        for batch in progress(loader, desc="mean displacement", unit="it")
    )
    with autocast(device, args.precision):
        net.mean_shift.running_mean.copy_(mean_displacement(net, batches))


def with_thresholds(args: argparse.Namespace, data: TrainingList) -> argparse.Namespace:
    """args with --fg_threshold and --bg_threshold, those not given as they suit the seeds: as
    released, or auto; says which and why. So a session's settings tell which it was.
    """
    missing = [name for name in RELEASED_THRESHOLDS if getattr(args, name) is None]
    if not missing:
        return args
    released, why = suits_released(args.cam_dir, data.ids)
    taken = {name: RELEASED_THRESHOLDS[name] if released else AUTO for name in missing}
    flags = " ".join(f"--{name} {value}" for name, value in taken.items())
    note(f"confident labels: {flags}, since {why}")
    return argparse.Namespace(**vars(args) | taken)


def confident_thresholds(
    args: argparse.Namespace, data: TrainingList, cams: CamFolder
) -> tuple[float, float]:
    """--fg_threshold and --bg_threshold as numbers; says what auto chose from the seeds."""
    given = (args.fg_threshold, args.bg_threshold)
    if AUTO not in given:
        return given
    how = (args.num_workers, cams.load, args.exif)
    _, *sure = choose_sure_thresholds(data.root, data.ids, args.cam_dir, *how)
    fg, bg = (round(own, 3) if one == AUTO else one for one, own in zip(given, sure, strict=True))
    if is_main():
        print(f"confident labels: a class over {fg}, background under {bg}")
    if bg > fg:
        raise InputError(
            f"--bg_threshold {bg} is over --fg_threshold {fg}; let auto choose both of them"
        )
    return fg, bg


def make_confident_labels(
    args: argparse.Namespace, data: TrainingList, cams: CamFolder
) -> Callable[[str], Path]:
    """Make the labels that are not there yet; the path of an image's label."""
    fg_threshold, bg_threshold = confident_thresholds(args, data, cams)
    labels = ConfidentLabels(
        fg_threshold=fg_threshold,
        bg_threshold=bg_threshold,
        **label_settings(args, data, cams),
    )
    make_labels(labels, data.ids, args.num_workers)
    return labels.path


def main(args: argparse.Namespace) -> None:
    """Make the labels, train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    require_crop(args.crop_size, args.radius)
    device = begin_machine(args)

    # ============ data ============
    data = load_training_list(args)
    cams = open_seeds(args, data)  # before anything is written
    args = with_thresholds(args, data)

    # ============ network, optimiser ============
    net = build_irn(args.backbone, args.weights, args.weights_key)
    net.to(device, memory_format=torch.channels_last)
    steps_per_epoch = data.steps_per_epoch(args.batch_size)
    groups = parameter_groups(net, args.lr, args.wt_dec)
    optimizer, schedule = poly_optimizer(groups, args.momentum, args.max_epoches * steps_per_epoch)

    # ============ session ============
    run = begin_session(
        args,
        parse_args([]),
        Trained(net, optimizer, schedule, device),
        epochs=args.max_epoches,
        steps_per_epoch=steps_per_epoch,
        data=data_digest(data.ids, data.classes),
        sources={
            "voc12_root": data.contents(),
            "weights": weights_contents(args.weights),
            "cam_dir": file_contents(find_seeds(args.cam_dir, data.ids), cam_content),
        },
    )

    # ============ labels, batches ============
    label_path = make_confident_labels(args, data, cams)
    view = (net.mean, net.std, args.seed, args.crop_size, tuple(args.scale))
    train_set = IrnTrainSet(data.root, data.ids, label_path, *view, args.exif)

    # ============ loop ============
    def losses_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return train_step(net, batch, args.radius, num_labels=len(data.classes) + 1)

    run.train(
        epoch_loader(train_set, **loader_settings(args, device)),
        losses_of,
        on_epoch=lambda epoch: {},
    )

    # ============ output ============
    config = {"method": "irn", "backbone": args.backbone, "crop_size": args.crop_size}

    def save(path: Path, training: dict) -> None:
        crops = TopLeftCrops(data.root, data.ids, net.mean, net.std, args.crop_size, args.exif)
        set_mean_shift(net, crops, device, args)
        save_network(path, net, config, data.classes, training)

    end_session(run, weights_path(args), save)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
