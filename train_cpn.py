"""Train a CAM network (CPN, SEAM or the plain baseline) from image-level labels.

Reads photographs, an image list and image labels in VOC layout; writes results/<session_name>/ with
the final weights <session_name>.pth, which infer_cam.py understands by itself, a checkpoint to
continue from, log.jsonl and TensorBoard events.

The paper's setting, and a small one for a CPU:

    python train_cpn.py --voc12_root data/VOCdevkit/VOC2012 \\
        --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params
    python train_cpn.py --voc12_root data/VOCdevkit/VOC2012 --backbone efficientnet_lite0 \\
        --crop_size 224 --resize_long 256 400 --batch_size 8 --preset best --session_name small
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.cpn_training", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from flags.cpn_training import (
    auto_iterations,
    flags_for_nothing,
    parse_args,
    unread_flags,
    warmup_iterations,
)
from network import build_cpn
from network.build import freeze_blocks
from network.cam_steps import STEPS, compile_training, weigh_losses
from network.cpn import CPNHead
from network.head_weights import match_head
from network.weights import (
    load_backbone_weights,
    save_network,
    starting_weights,
)
from tool.errors import InputError, run_script
from tool.file.region_cache import RegionCache
from tool.patches import PatchMask
from tool.run.flags import AUTO
from tool.run.notes import note
from tool.run.session import (
    Trained,
    begin_machine,
    begin_session,
    data_digest,
    end_session,
    log_validation,
    weights_contents,
    weights_path,
)
from tool.run.shards import is_main
from tool.run.trainer import TrainingRun
from tool.schedule import build_optimizer
from tool.transforms import TrainTransform
from voc12.dataset import TrainSet, class_weights, epoch_loader, round_loader
from voc12.labels import class_table, label_source, load_labels, note_labels
from voc12.training_list import TrainingList, load_training_list, loader_settings
from voc12.validation import CamValidation, unless_missing
from voc12.verdict import judge


def build_network(args: argparse.Namespace, classes: Sequence[str]) -> tuple[CPNHead, dict]:
    """The network with the weights that it starts from, and its configuration for the
    checkpoint.
    """
    config = {
        "backbone": args.backbone,
        "num_classes": len(classes),
        "output_stride": args.output_stride,
        "refinement": args.refinement or ("pcm" if args.method == "seam" else "pcm+prcm"),
        "prcm": args.prcm,
    }
    weights = starting_weights(args.backbone, args.weights, args.weights_key)
    net = build_cpn(**config, pretrained=weights == "imagenet")
    freeze_blocks(net, args.freeze_blocks)
    if args.checkpointing:
        if args.backbone != "resnet38":
            raise InputError(
                f"--checkpointing is for resnet38, not for {args.backbone}; use --accum to save "
                "memory"
            )
        net.checkpointing = True
    if weights not in ("imagenet", "none"):
        fresh = net.fc8.weight.detach().clone()
        unused = load_backbone_weights(net, weights, args.weights_key)
        note(
            f"weights {weights}: {len(unused)} tensors not used"
            + (f" ({', '.join(unused[:4])})" if unused else "")
        )
        if said := match_head(net, fresh, weights, classes):
            note(said)
    return net, config | {"method": args.method}


def load_image_labels(args: argparse.Namespace, data: TrainingList) -> np.ndarray:
    """The image labels of the list, (images, C) multi-hot; says where they come from."""
    labels = load_labels(data.root, data.ids, data.classes, args.labels, args.mask_values)
    note_labels(data.ids, labels, data.classes)
    if is_main():
        print(
            f"training images: {len(data.ids)} of {args.train_list}, {len(data.classes)} classes, "
            f"labels: {label_source(data.root, args.labels)}\n{class_table(labels, data.classes)}"
        )
    return labels


def make_optimizer(
    args: argparse.Namespace, net: CPNHead, max_step: int
) -> tuple[Optimizer, LRScheduler]:
    """The optimiser and its polynomial schedule over max_step iterations; says where a warm-up does
    not fit them.
    """
    warmup = warmup_iterations(args, max_step)
    if warmup < args.warmup:
        note(f"the warm-up of --preset {args.preset} is {warmup} of the {max_step} iterations")
    elif warmup >= max_step:
        note(
            f"--warmup {warmup} is as long as the training, {max_step} iterations, which has less "
            "than --lr throughout"
        )
    return build_optimizer(
        net,
        args.lr,
        args.wt_dec,
        args.momentum,
        max_step,
        new_factor=args.new_layer_factor,
        refinement_factor=args.refinement_factor,
        optimizer=args.optimizer,
        warmup=warmup,
    )


def training_length(
    args: argparse.Namespace, data: TrainingList, labels: np.ndarray
) -> tuple[int, int]:
    """(rounds, iterations a round): an epoch each, or one round of --max_iterations.

    labels: (images, C) multi-hot
    """
    if args.max_iterations is None:
        return args.max_epoches, data.steps_per_epoch(args.batch_size)
    if args.max_iterations == AUTO:
        classes = int(labels.any(axis=0).sum())  # a list may name classes that no image has
        return 1, auto_iterations(len(data.ids), classes, args.batch_size)
    return 1, args.max_iterations


def make_loader(
    args: argparse.Namespace,
    train_set: TrainSet,
    labels: np.ndarray,
    device: torch.device,
    iterations: int,
) -> Callable[[int, int], DataLoader]:
    """The batches of each round of training_length; labels: (images, C) multi-hot."""
    settings = loader_settings(args, device)
    settings["weights"] = class_weights(labels) if args.sampling == "class" else None
    if args.max_iterations is None:
        return epoch_loader(train_set, **settings)
    return round_loader(train_set, **settings, iterations=iterations)


def make_patches(args: argparse.Namespace, net: CPNHead) -> tuple[PatchMask, RegionCache | None]:
    """What draws CP pairs, and the cache of superpixels where they are kept."""
    if args.patch == "grid" and min(args.grid_sizes) >= args.crop_size:
        raise InputError(
            f"--grid_sizes {' '.join(map(str, args.grid_sizes))}: no cell is smaller than "
            f"--crop_size {args.crop_size}, so a patch hides all or nothing; a quarter and a half "
            "of the crop do well"
        )
    patch_mask = PatchMask(
        strategy=args.patch,
        segments=args.superpixels,
        grid_sizes=tuple(args.grid_sizes),
        hide_ratio=args.hide_ratio,
        draw=args.draw,
        slic_input=args.slic_input,
    )
    if args.patch != "superpixel" or args.superpixel_mode != "cached":
        return patch_mask, None
    regions = RegionCache(
        folder=Path(args.superpixel_cache or Path(args.results) / "superpixels"),
        mean=net.mean,
        std=net.std,
        segments=args.superpixels,
        crop_size=args.crop_size,
        resize_long=tuple(args.resize_long),
        slic_input=args.slic_input,
    )
    return patch_mask, regions


def require_second_view(args: argparse.Namespace) -> None:
    """Raise InputError where SEAM's second view has less than two pixels a side: no quarter of it
    can be free of the classes.
    """
    if int(args.seam_scale * args.crop_size) < 2:
        raise InputError(
            f"--seam_scale {args.seam_scale:g} of --crop_size {args.crop_size} leaves no second "
            "view of 2 pixels a side; raise either"
        )


def make_validation(
    args: argparse.Namespace, net: CPNHead, data: TrainingList, device: torch.device
) -> CamValidation | None:
    """What is measured after each epoch, None for nothing."""

    def build(val_list: str) -> CamValidation:
        return CamValidation(
            data.root,
            val_list,
            args.labels,
            args.val_scale,
            net,
            data.classes,
            device,
            args.num_workers,
            plain=args.method == "cam" or net.refinement == "none",
            mask_values=args.mask_values,
            exif=args.exif,
        )

    return unless_missing(build, args.val_list)


def say_verdict(
    args: argparse.Namespace, run: TrainingRun, data: TrainingList, labels: np.ndarray
) -> dict[str, Any]:
    """Print and log whether the training has failed, by its own signs; what the weights keep."""
    net, long_side = run.net.eval(), round(sum(args.resize_long) / 2)
    verdict = judge(net, data.root, data.ids, labels, long_side, run.device, args.exif)
    print(verdict.text())
    run.log.line("verdict", **verdict.record())
    return verdict.record()


def main(args: argparse.Namespace) -> None:
    """Train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    if args.method == "seam":
        require_second_view(args)
    device = begin_machine(args)
    for line in flags_for_nothing(args):
        note(line)

    # ============ data ============
    data = load_training_list(args)
    labels = load_image_labels(args, data)

    # ============ network, optimiser ============
    net, config = build_network(args, data.classes)
    net.to(device, memory_format=torch.channels_last)
    if args.compile:
        compile_training(net)
    rounds, iterations = training_length(args, data, labels)
    if args.max_iterations == AUTO:
        args.max_iterations = iterations  # another rule of a later version is another session
    optimizer, schedule = make_optimizer(args, net, rounds * iterations)

    # ============ batches, validation ============
    transform = TrainTransform(net.mean, net.std, args.crop_size, tuple(args.resize_long))
    patches = make_patches(args, net) if args.method == "cpn" else (None, None)
    train_set = TrainSet(
        data.root, data.ids, labels, transform, patches[0], args.seed, patches[1], args.exif
    )
    validation = make_validation(args, net, data, device)

    # ============ session ============
    run = begin_session(
        args,
        parse_args([]),
        Trained(net, optimizer, schedule, device),
        epochs=rounds,
        steps_per_epoch=iterations,
        data=data_digest(data.ids, data.classes, labels),
        sources={
            "voc12_root": data.contents(),
            "weights": weights_contents(
                starting_weights(args.backbone, args.weights, args.weights_key)
            ),
        },
        # what a preset sets is compared, what is not read is not
        free=("preset", *unread_flags(args)),
    )

    # ============ loop ============
    step = STEPS[args.method]
    if args.method == "seam":
        step = partial(step, scale=args.seam_scale)

    def losses_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return weigh_losses(step(net, batch), dict(args.loss_weights))

    def on_epoch(epoch: int) -> dict:
        if validation is None:
            return {}
        measures, panels = validation()
        log_validation(run, measures, panels, "cam")
        said = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        tqdm.write(f"epoch {epoch + 1}: {said}")
        return measures

    run.train(make_loader(args, train_set, labels, device, iterations), losses_of, on_epoch)

    # ============ verdict, output ============
    def save(path: Path, training: dict) -> None:
        verdict = say_verdict(args, run, data, labels)
        save_network(path, net, config, data.classes, training | {"verdict": verdict})

    end_session(run, weights_path(args), save)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
