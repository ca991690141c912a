"""Train a segmentation network, DeepLab, on pseudo masks, or on real ones for the fully supervised
ceiling.

Reads photographs and image lists in VOC layout, and a mask <id>.png for each training image from
any folder: infer_irn.py's, infer_aff.py's, make_masks.py's, make_crf.py's or the data set's. Writes
results/<session_name>/ with the weights <session_name>.pth after the last iteration and
<session_name>_best.pth at the best validation, a checkpoint to continue from, log.jsonl and
TensorBoard events.

    python train_seg.py --voc12_root data/VOCdevkit/VOC2012 --mask_dir results/irn/mask_train_aug \\
        --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.seg_training", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flags.seg_training import parse_args
from network.build import freeze_blocks
from network.seg import SegNet, build_seg, merged_logits
from network.seg_weights import METHOD, load_seg_backbone, load_tag_head
from network.weights import save_network, starting_weights
from tool.choices import NEW_LAYER_FACTOR
from tool.errors import InputError, run_script
from tool.file.images import mask_content
from tool.file.mask_reader import MaskReader
from tool.file.state_dict import read_training
from tool.losses import loss_tags, segmentation_loss
from tool.run.distributed import mean_over_ranks
from tool.run.session import (
    Trained,
    begin_machine,
    begin_session,
    data_digest,
    end_session,
    file_contents,
    log_validation,
    training_facts,
    weights_contents,
    weights_path,
)
from tool.run.shards import batch_share, is_main
from tool.run.trainer import BEST
from tool.run.training_flags import WEIGHT_FORMATS
from tool.schedule import parameter_groups, poly_optimizer
from tool.transforms import JITTER, PairTransform
from voc12.cam_folder import require_masks_of_same_photographs
from voc12.dataset import round_loader
from voc12.masks import mask_reader
from voc12.orientation import median_side, photograph_headers, require_mask_orientation
from voc12.seg_data import SegTrainSet, find_masks, note_doubts
from voc12.training_list import TrainingList, load_training_list, loader_settings
from voc12.validation import SegValidation, unless_missing

PANEL_IMAGES = 4


def build_network(args: argparse.Namespace, classes: Sequence[str]) -> tuple[SegNet, dict]:
    """The network with the weights that it starts from, and its configuration for the
    checkpoint.
    """
    config = {
        "arch": args.arch,
        "backbone": args.backbone,
        "num_classes": len(classes),
        "output_stride": args.output_stride,
        "head_channels": args.head_channels,
        "tag_head": args.tag_head,
    }
    weights = starting_weights(args.backbone, args.weights, args.weights_key)
    net = build_seg(**config, pretrained=weights == "imagenet")
    freeze_blocks(net.backbone, args.freeze_blocks)
    if weights not in ("imagenet", "none"):
        load_seg_backbone(net, weights, args.weights_key)
        from_file = (weights, classes, args.weights_key)
        if net.tag_head is not None and load_tag_head(net.tag_head, *from_file) and is_main():
            print(f"the tag head starts as the head of {weights}")
    return net, config | {"method": METHOD}


def network_groups(net: SegNet, lr: float, weight_decay: float) -> list[dict]:
    """tool.schedule.parameter_groups, and the head's batch norm at the head's rate, without weight
    decay.
    """
    norms = [module for module in net.new_modules() if isinstance(module, nn.BatchNorm2d)]
    parameters = [parameter for norm in norms for parameter in norm.parameters()]
    group = {
        "name": "new norms",
        "params": parameters,
        "lr": lr * NEW_LAYER_FACTOR,
        "weight_decay": 0.0,
    }
    return [*parameter_groups(net, lr, weight_decay), group]


def train_step(net: SegNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross entropy as "loss"; with a tag head the sum of "seg", that, and "tags"."""
    logits, tags = net.forward_heads(batch["image"])
    loss = segmentation_loss(logits, batch["label"], mean_over_ranks)
    if tags is None:
        return {"loss": loss}
    own = loss_tags(tags, batch["label"])
    return {"loss": loss + own, "seg": loss, "tags": own}


def require_rounds(args: argparse.Namespace) -> int:
    """Iterations from one validation to the next. Raises InputError unless they divide the
    training.
    """
    iterations = min(args.val_every, args.max_iterations)
    if iterations < 1 or args.max_iterations % iterations:
        raise InputError(
            f"--max_iterations {args.max_iterations} must be a multiple of --val_every "
            f"{args.val_every}, and positive"
        )
    return iterations


def require_pieces(args: argparse.Namespace) -> None:
    """Raise InputError where a piece of a batch has one image, whose pooled features the batch norm
    of DeepLabv3 and v3+ cannot take.
    """
    count = batch_share(args.batch_size)
    size = -(-count // args.accum)
    if args.arch != "deeplabv1" and 1 in (size, count % size):
        raise InputError(
            f"--arch {args.arch} trains on two images or more at once, --batch_size "
            f"{args.batch_size} and --accum {args.accum} leave one; raise the former or lower the "
            "latter"
        )


class BestWeights:
    """Keeps the weights of the best validation in a file, which says its mIoU, so that a resumed
    run goes on comparing.
    """

    def __init__(self, path: Path, step: int, save: Callable[[Path, dict], None]) -> None:
        """step: iterations that the run has done; of a run that starts over, an older file counts
        for nothing.
        """
        self.path, self.save, self.miou = path, save, -1.0
        # --save_format may change while a session goes on
        self.others = [path.with_suffix(f".{one}") for one in WEIGHT_FORMATS]
        self.others.remove(path)
        for one in (path, *self.others) if step else ():
            if one.is_file():
                self.miou = max(self.miou, float(read_training(one).get("val_miou", -1.0)))

    def update(self, miou: float) -> None:
        """Write the weights if miou, the same in all processes, is the highest so far."""
        if miou > self.miou:
            self.miou = miou
            if is_main():
                self.save(self.path, {"val_miou": miou})
                for one in self.others:
                    one.unlink(missing_ok=True)


def make_validation(
    args: argparse.Namespace, net: SegNet, data: TrainingList, device: torch.device
) -> SegValidation | None:
    """What is measured every --val_every iterations, None for nothing."""

    def build(val_list: str) -> SegValidation:
        return SegValidation(
            data.root,
            val_list,
            args.val_scale,
            net,
            data.classes,
            device,
            args.num_workers,
            args.precision,
            logits=partial(merged_logits, flip=False),
            mask_values=args.mask_values,
            exif=args.exif,
        )

    return unless_missing(build, args.val_list)


def check_masks(
    args: argparse.Namespace, data: TrainingList, masks: list[Path]
) -> tuple[MaskReader, int]:
    """(what reads the training masks, the median of the photographs' long sides); says what the
    masks show too little of. Raises InputError for masks that lie on their side, and of
    photographs that have been replaced since.
    """
    headers = photograph_headers(data.root, data.ids)
    require_mask_orientation(
        data.root, data.ids, args.mask_dir, args.exif, "training masks", headers
    )
    require_masks_of_same_photographs(masks, data.root, data.ids)
    read = mask_reader(data.root, masks, data.classes, args.mask_values)
    if is_main():
        note_doubts(data.root, data.ids, data.classes, masks, read)
    return read, median_side(headers)


def second_masks(
    args: argparse.Namespace, data: TrainingList
) -> tuple[list[Path], MaskReader] | None:
    """(--agree_dir's masks, what reads them); None without. Raises as check_masks does."""
    if args.agree_dir is None:
        return None
    masks, _ = find_masks(args.agree_dir, data.ids, data.classes, "--agree_dir")
    require_masks_of_same_photographs(masks, data.root, data.ids)
    return masks, mask_reader(data.root, masks, data.classes, args.mask_values)


def main(args: argparse.Namespace) -> None:
    """Train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    iterations = require_rounds(args)  # from one validation to the next
    require_pieces(args)
    device = begin_machine(args)

    # ============ data ============
    data = load_training_list(args)
    masks, stages = find_masks(args.mask_dir, data.ids, data.classes)
    read, long_side = check_masks(args, data, masks)

    # ============ network, optimiser ============
    net, config = build_network(args, data.classes)
    net.to(device, memory_format=torch.channels_last)
    groups = network_groups(net, args.lr, args.wt_dec)
    optimizer, schedule = poly_optimizer(groups, args.momentum, args.max_iterations)

    # ============ batches, validation ============
    transform = PairTransform(net.mean, net.std, args.crop_size, tuple(args.scale), JITTER)
    others = second_masks(args, data)
    num_labels, how = len(data.classes) + 1, (args.seed, args.exif, read, others)
    train_set = SegTrainSet(data.root, data.ids, masks, num_labels, transform, *how)
    validation = make_validation(args, net, data, device)

    # ============ session ============
    folders = {"mask_dir": masks} | ({} if others is None else {"agree_dir": others[0]})
    start = starting_weights(args.backbone, args.weights, args.weights_key)
    sources = {flag: file_contents(paths, mask_content) for flag, paths in folders.items()}
    run = begin_session(
        args,
        parse_args([]),
        Trained(net, optimizer, schedule, device),
        epochs=args.max_iterations // iterations,
        steps_per_epoch=iterations,
        data=data_digest(data.ids, data.classes),
        sources={"voc12_root": data.contents(), "weights": weights_contents(start)} | sources,
    )

    # ============ loop ============
    def save(path: Path, training: dict) -> None:
        facts = training_facts(run) | {"mask_stages": stages, "long_side": long_side}
        save_network(path, net, config, data.classes, facts | training)

    best = BestWeights(weights_path(args, BEST), run.step, save)

    def on_round(_round: int) -> dict:
        if validation is None:
            return {}
        measures, panels = validation()
        best.update(miou := measures["val_miou"])
        log_validation(run, measures, panels, "seg")
        tqdm.write(f"iteration {run.step}: val mIoU {miou:.2f}, best {best.miou:.2f}")
        return measures

    run.train(
        round_loader(train_set, **loader_settings(args, device), iterations=iterations),
        lambda batch: train_step(net, batch),
        on_round,
    )

    # ============ output ============
    note = "" if validation is None else f"; best on {args.val_list}: {best.path}"
    end_session(run, weights_path(args), save, note)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
