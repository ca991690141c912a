"""Train a segmentation network, DeepLab, on pseudo masks, or on real ones for the fully supervised ceiling.

Reads photographs and image lists in VOC layout, and a mask <id>.png for each training image from any folder: infer_irn.py's,
infer_aff.py's, make_masks.py's, make_crf.py's or the data set's. Writes results/<session_name>/ with the weights <session_name>.pth after
the last iteration and <session_name>_best.pth at the best validation, a checkpoint to continue from, log.jsonl and TensorBoard events.

    python train_seg.py --voc12_root data/VOCdevkit/VOC2012 --mask_dir results/irn/mask_train_aug \\
        --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from network.seg import HEADS, STRIDES, SegNet, build_seg, merged_logits
from network.seg_weights import METHOD, load_seg_backbone
from network.weights import WEIGHTS_HELP, save_network
from tool.checkpoint import load_torch
from tool.device import autocast, choose_device
from tool.distributed import gather, join, mean_over_ranks
from tool.errors import InputError, naming_file, run_script
from tool.files import git_commit, require_dir
from tool.flags import DEFAULT_WORKERS, MinMax, non_negative_int, non_negative_number, positive_int, positive_number
from tool.images import read_image, read_mask
from tool.losses import segmentation_loss
from tool.metrics import confusion_matrix, iou_table
from tool.overlay import mask_overlay
from tool.progress import progress
from tool.schedule import NEW_LAYER_FACTOR, parameter_groups, poly_sgd
from tool.shards import batch_share, is_main, shard
from tool.trainer import ignore_signals, seed_everything
from tool.training_flags import add_machine_flags, add_session_flags, begin_session, data_digest
from tool.transforms import JITTER, PairTransform
from voc12.constants import DATA_HELP
from voc12.dataset import InferenceSet, require_every, round_loader
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids, mask_path
from voc12.seg_data import SegTrainSet, find_masks

VOC12_ROOT = "data/VOCdevkit/VOC2012"
MASK_DIR = "results/irn/mask_train_aug"
WEIGHTS = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
PANEL_IMAGES = 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; defaults as in the codebase that network/seg.py names, with ResNet38 and DeepLabv1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--train_list", default="train_aug", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument(
        "--mask_dir", default=MASK_DIR, help="folder of training masks <id>.png; 255 is ignored (default %(default)s)"
    )
    data.add_argument("--val_list", default="val", help="list with real masks, validated while training; none: not (default val)")
    data.add_argument(
        "--val_scale", type=positive_number, default=1.0, help="image scale of the validation (default %(default)s)"
    )
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader processes (default %(default)s)"
    )
    data.add_argument(
        "--crop_size", type=positive_int, default=448, help="side of the training crop, pixels (default %(default)s)"
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

    model = parser.add_argument_group("model")
    model.add_argument("--arch", choices=HEADS, default="deeplabv1", help="default %(default)s")
    model.add_argument(
        "--backbone",
        default="resnet38",
        help="resnet38, efficientnet_lite0, resnet50 or another timm model (default %(default)s)",
    )
    model.add_argument("--output_stride", type=int, choices=STRIDES, help="of the features (default 8 resnet38, 16 timm)")
    model.add_argument("--head_channels", type=positive_int, help="width of the head (default 512 deeplabv1, 256 others)")
    model.add_argument(
        "--weights",
        help="ImageNet weights: a file (ResNet38's, or the timm model's; torchvision's fit its ResNets), 'imagenet' for a timm backbone, "
        f"or 'none' (default {WEIGHTS}; imagenet for timm)",
    )

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--batch_size", type=positive_int, default=10, help="images a step, of all processes together (default %(default)s)"
    )
    optimisation.add_argument("--max_iterations", type=positive_int, default=20000, help="steps (default %(default)s)")
    optimisation.add_argument(
        "--val_every", type=positive_int, default=1000, help="steps from one validation to the next (default %(default)s)"
    )
    optimisation.add_argument(
        "--lr",
        type=positive_number,
        default=1e-3,
        help=f"learning rate of the backbone; the head takes {NEW_LAYER_FACTOR}x (default %(default)s)",
    )
    optimisation.add_argument("--wt_dec", type=non_negative_number, default=5e-4, help="weight decay (default %(default)s)")
    optimisation.add_argument("--momentum", type=non_negative_number, default=0.9, help="SGD momentum (default %(default)s)")
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "seg")
    return parser.parse_args(argv)


def build_network(args: argparse.Namespace, num_classes: int) -> tuple[SegNet, dict]:
    """The network with its ImageNet weights, and its configuration for the checkpoint."""
    config = {
        "arch": args.arch,
        "backbone": args.backbone,
        "num_classes": num_classes,
        "output_stride": args.output_stride,
        "head_channels": args.head_channels,
    }
    weights = args.weights or (WEIGHTS if args.backbone == "resnet38" else "imagenet")
    if args.backbone == "resnet38" and weights == "imagenet":
        raise InputError(f"--weights imagenet: {WEIGHTS_HELP}")
    net = build_seg(**config, pretrained=weights == "imagenet")
    if weights not in ("imagenet", "none"):
        load_seg_backbone(net, weights)
    return net, config | {"method": METHOD}


def network_groups(net: SegNet, lr: float, weight_decay: float) -> list[dict]:
    """tool.schedule.parameter_groups, and the head's batch norm at the head's rate, without weight decay."""
    norms = [module for module in net.new_modules() if isinstance(module, nn.BatchNorm2d)]
    parameters = [parameter for norm in norms for parameter in norm.parameters()]
    group = {"name": "new norms", "params": parameters, "lr": lr * NEW_LAYER_FACTOR, "weight_decay": 0.0}
    return [*parameter_groups(net, lr, weight_decay), group]


def train_step(net: SegNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross entropy as "loss"."""
    return {"loss": segmentation_loss(net.forward_low_resolution(batch["image"]), batch["label"], mean_over_ranks)}


def require_rounds(args: argparse.Namespace) -> int:
    """Iterations from one validation to the next. Raises InputError unless they divide the training."""
    iterations = min(args.val_every, args.max_iterations)
    if iterations < 1 or args.max_iterations % iterations:
        raise InputError(
            f"--max_iterations {args.max_iterations} must be a multiple of --val_every {args.val_every}, and positive"
        )
    return iterations


def require_pieces(args: argparse.Namespace) -> None:
    """Raise InputError where a piece of a batch has one image, whose pooled features the batch norm of DeepLabv3 and v3+ cannot take."""
    count = batch_share(args.batch_size)
    size = -(-count // args.accum)
    if args.arch != "deeplabv1" and 1 in (size, count % size):
        raise InputError(
            f"--arch {args.arch} trains on two images or more at once, --batch_size {args.batch_size} and --accum {args.accum} leave one; "
            "raise the former or lower the latter"
        )


class Validation:
    """mIoU at one scale, without mirror images and CRF, over the classes that occur. A guide while training; infer_seg.py and
    evaluation_cam.py give the numbers to report. Several processes share the list.
    """

    def __init__(self, args: argparse.Namespace, net: SegNet, num_labels: int, device: torch.device) -> None:
        self.net, self.num_labels, self.device, self.precision = net, num_labels, device, args.precision
        self.root = Path(args.voc12_root)
        every = load_ids(self.root, args.val_list)
        for find in (image_path, mask_path):
            require_every(find, self.root, every, "validation images")
        ids = shard(every)
        self.masks = {name: mask_path(self.root, name) for name in ids}
        paths = [image_path(self.root, name) for name in ids]
        data = InferenceSet(ids, paths, None, [args.val_scale], net.mean, net.std)
        self.loader = DataLoader(data, batch_size=None, num_workers=args.num_workers, worker_init_fn=ignore_signals)

    @torch.inference_mode()
    def __call__(self) -> tuple[dict[str, float], list[np.ndarray]]:
        """(measures of the whole list, overlays of this process's first images)."""
        confusion, panels = np.zeros((self.num_labels,) * 2, dtype=np.int64), []
        for sample in progress(self.loader, desc="validation", unit="img", leave=False):
            size = tuple(int(side) for side in sample["size"])
            with autocast(self.device, self.precision):
                logits = merged_logits(self.net, [image.to(self.device) for image in sample["scaled"]], size, flip=False)
            label = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            path = self.masks[sample["id"]]
            with naming_file(path):
                confusion += confusion_matrix(label, read_mask(path), self.num_labels)
            if len(panels) < PANEL_IMAGES:
                panels.append(mask_overlay(read_image(image_path(self.root, sample["id"])), label))
        return {"val_miou": float(iou_table(sum(gather(confusion))).miou_skip)}, panels


class BestWeights:
    """Keeps the weights of the best validation in a file, which says its mIoU, so that a resumed run goes on comparing."""

    def __init__(self, path: Path, step: int, save: Callable[[Path, dict], None]) -> None:
        """step: iterations that the run has done; of a run that starts over, an older file counts for nothing."""
        self.path, self.save, self.miou = path, save, -1.0
        if step and path.is_file():
            self.miou = load_torch(path)["training"]["val_miou"]

    def update(self, miou: float) -> None:
        """Write the weights if miou, the same in all processes, is the highest so far."""
        if miou > self.miou:
            self.miou = miou
            if is_main():
                self.save(self.path, {"val_miou": miou})


def main(args: argparse.Namespace) -> None:
    """Train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    iterations = require_rounds(args)
    require_pieces(args)
    seed_everything(args.seed, args.deterministic)
    device = choose_device(args.device)
    join(device)
    folder = Path(args.results) / args.session_name

    # ============ data ============
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    ids = load_ids(root, args.train_list)
    masks, stages = find_masks(args.mask_dir, ids, classes)
    require_every(image_path, root, ids, f"images of {args.train_list}")
    if len(ids) < args.batch_size:
        raise InputError(f"{args.train_list} has {len(ids)} images, fewer than --batch_size {args.batch_size}; lower it")

    # ============ network, optimiser ============
    net, config = build_network(args, len(classes))
    net.to(device, memory_format=torch.channels_last)
    groups = network_groups(net, args.lr, args.wt_dec)
    optimizer, schedule = poly_sgd(groups, args.momentum, args.max_iterations)

    transform = PairTransform(net.mean, net.std, args.crop_size, tuple(args.scale), JITTER)
    train_set = SegTrainSet(root, ids, masks, len(classes) + 1, transform, args.seed)
    validation = Validation(args, net, len(classes) + 1, device) if args.val_list != "none" else None

    # ============ loop ============
    rounds = args.max_iterations // iterations  # from one validation to the next
    data = data_digest(ids, classes)
    run = begin_session(args, parse_args([]), net, optimizer, schedule, device, rounds, iterations, data)

    def save(path: Path, measures: dict) -> None:
        training = {"settings": run.settings, "mask_stages": stages, "iterations": run.step, "commit": git_commit()}
        save_network(path, net, config, classes, training | measures)

    best = BestWeights(folder / f"{args.session_name}_best.pth", run.step, save)

    def on_round(_round: int) -> dict:
        if validation is None:
            return {}
        measures, panels = validation()
        best.update(measures["val_miou"])
        run.log.scalars({f"val/{name.removeprefix('val_')}": value for name, value in measures.items()}, run.step)
        for index, panel in enumerate(panels):
            run.log.panel(f"seg/{index}", panel, run.step)
        tqdm.write(f"iteration {run.step}: val mIoU {measures['val_miou']:.2f}, best {best.miou:.2f}")
        return measures

    run.train(
        round_loader(train_set, args.batch_size, args.seed, args.num_workers, device.type == "cuda", iterations),
        lambda batch: train_step(net, batch),
        on_round,
    )

    # ============ output ============
    if not is_main():
        return
    path = folder / f"{args.session_name}.pth"
    save(path, {})
    run.log.line("end", step=run.step, weights=str(path))
    run.log.close()
    print(f"weights: {path}" + ("" if validation is None else f"; best on {args.val_list}: {best.path}"))


if __name__ == "__main__":
    run_script(main, parse_args)
