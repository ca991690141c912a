"""Train a CAM network (CPN, SEAM or the plain baseline) from image-level labels.

Reads photographs, an image list and image labels in VOC layout; writes results/<session_name>/ with the final weights
<session_name>.pth, which infer_cam.py understands by itself, a checkpoint to continue from, log.jsonl and TensorBoard events.

The paper's setting, and a small one for a CPU:

    python train_cpn.py --voc12_root data/VOCdevkit/VOC2012 --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params
    python train_cpn.py --voc12_root data/VOCdevkit/VOC2012 --backbone efficientnet_lite0 --crop_size 224 --resize_long 256 400 \\
        --batch_size 8 --preset best --session_name small
"""

import argparse
import functools
import operator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from network import build_cpn
from network.cpn import PRCM_KEYS, REFINEMENTS, CPNHead
from network.weights import WEIGHTS_HELP, load_backbone_weights, save_network
from tool.cam import normalise_cam
from tool.device import choose_device
from tool.distributed import gather, join
from tool.errors import InputError, naming_file, run_script
from tool.files import git_commit, require_dir
from tool.flags import (
    DEFAULT_WORKERS,
    MinMax,
    at_least,
    bool_flag,
    named_number,
    non_negative_int,
    non_negative_number,
    positive_int,
    positive_number,
    share,
)
from tool.images import read_image, read_mask
from tool.losses import (
    cam_losses,
    cpn_losses_low_resolution,
    global_average,
    label_with_background,
    loss_classification,
    seam_losses_low_resolution,
    seam_scale,
)
from tool.metrics import ThresholdSweep, iou_table
from tool.overlay import cam_panel
from tool.patches import DRAWS, SLIC_INPUTS, STRATEGIES, PatchMask, cp_pair
from tool.progress import progress
from tool.region_cache import RegionCache
from tool.schedule import NEW_LAYER_FACTOR, RELEASED_MOMENTUM, build_optimizer
from tool.shards import is_main, shard
from tool.trainer import ignore_signals, seed_everything
from tool.training_flags import add_machine_flags, add_session_flags, begin_session, data_digest
from tool.transforms import TrainTransform
from voc12.constants import DATA_HELP, MASK_DIR
from voc12.dataset import InferenceSet, TrainSet, epoch_loader, require_every
from voc12.labels import label_source, load_labels, require_positive
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids, mask_path

VOC12_ROOT = "data/VOCdevkit/VOC2012"
WEIGHTS = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"

# Defaults that --preset changes. "best" is the best found with EfficientNet-Lite0 on 790 photographs, seed 0, short trainings at crop 224
# (docs/LOG.md, 2026-11-24); over three seeds at crop 160 it is level with the released settings. Nothing is known at the paper's size.
PRESETS = {
    "paper": {},
    "best": {"patch": "grid", "grid_sizes": (56, 112), "lr": 0.005, "momentum": 0.9, "refinement_factor": 0.0},
}
VALIDATION_THRESHOLDS = [i / 100 for i in range(101)]
PANEL_IMAGES = 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, defaults as released or those of --preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--preset", choices=PRESETS, default="paper", help="whose settings are the defaults (default %(default)s)"
    )
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--train_list", default="train_aug", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--val_list", default="val", help="list for validation, or 'none' (default %(default)s)")
    data.add_argument("--labels", default="auto", help="image labels: auto, npy, xml, mask, or a .npy file (default %(default)s)")
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader processes (default %(default)s)"
    )
    data.add_argument(
        "--crop_size", type=positive_int, default=448, help="side of the training crop, pixels (default %(default)s)"
    )
    data.add_argument(
        "--resize_long",
        action=MinMax,
        type=positive_int,
        nargs=2,
        default=(448, 768),
        metavar=("MIN", "MAX"),
        help="long side before the crop, pixels (default 448 768)",
    )

    model = parser.add_argument_group("model")
    model.add_argument("--method", choices=STEPS, default="cpn", help="what to train (default %(default)s)")
    model.add_argument(
        "--backbone", default="resnet38", help="resnet38, efficientnet_lite0 or a timm model (default %(default)s)"
    )
    model.add_argument(
        "--network",
        type=_released_network,
        dest="backbone",
        help="the released flag; network.resnet38_* means --backbone resnet38",
    )
    model.add_argument(
        "--output_stride", type=int, choices=(8, 16), help="pixels a CAM cell (default 8 for resnet38, 16 for timm models)"
    )
    model.add_argument(
        "--weights",
        help=f"weights to start from: a ResNet38 file, 'imagenet' for a timm backbone, a trained network of the same backbone, or 'none' "
        f"(default {WEIGHTS}; imagenet for timm)",
    )
    model.add_argument("--refinement", choices=REFINEMENTS, help="modules that refine the CAM (default pcm+prcm; pcm for seam)")
    model.add_argument("--prcm", choices=PRCM_KEYS, default="released", help="memory order of PRCM's keys (default %(default)s)")
    model.add_argument(
        "--checkpointing",
        type=bool_flag,
        nargs="?",
        const=True,
        default=False,
        help="keep only the inputs of ResNet38's blocks and compute them again: less memory, a third more work (default false)",
    )
    model.add_argument(
        "--compile",
        type=bool_flag,
        nargs="?",
        const=True,
        default=False,
        help="torch.compile the backbone for training; needs a C++ compiler (default false)",
    )

    patches = parser.add_argument_group("complementary patches (cpn)")
    patches.add_argument("--patch", choices=STRATEGIES, default="superpixel", help="what is hidden (default %(default)s)")
    patches.add_argument(
        "--superpixels", type=at_least(2), default=300, help="segments asked of SLIC per crop (default %(default)s)"
    )
    patches.add_argument(
        "--slic_input",
        choices=SLIC_INPUTS,
        default="rescaled",
        help="SLIC's input: rescaled as scikit-image >= 0.19, raw as 0.17 (default %(default)s)",
    )
    patches.add_argument(
        "--superpixel_mode",
        choices=("cached", "exact"),
        default="cached",
        help="SLIC once a photograph, kept on disk, or on every crop as released (default %(default)s)",
    )
    patches.add_argument(
        "--superpixel_cache", help="folder of the kept superpixels, for any number of sessions (default <results>/superpixels)"
    )
    patches.add_argument(
        "--grid_sizes",
        type=positive_int,
        nargs="+",
        default=(224, 448),
        help="cell sides, one drawn per image, pixels (default 224 448)",
    )
    patches.add_argument("--hide_ratio", type=share, default=0.5, help="share to hide, in (0, 1) (default %(default)s)")
    patches.add_argument(
        "--draw",
        choices=DRAWS,
        default="released",
        help="superpixels drawn with replacement as released (39%% hidden at 0.5), or exactly (default %(default)s)",
    )

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--batch_size", type=positive_int, default=4, help="images a step, of all processes together (default %(default)s)"
    )
    optimisation.add_argument("--max_epoches", type=positive_int, default=8, help="epochs (default %(default)s)")
    optimisation.add_argument(
        "--lr", type=positive_number, default=0.01, help="learning rate of pretrained weights (default %(default)s)"
    )
    optimisation.add_argument(
        "--new_layer_factor",
        type=non_negative_number,
        default=NEW_LAYER_FACTOR,
        help="new layers take this times --lr (default %(default)s)",
    )
    optimisation.add_argument(
        "--refinement_factor",
        type=non_negative_number,
        help="PCM's and PRCM's layers take this times --lr, 0 leaves them as they start (default --new_layer_factor)",
    )
    optimisation.add_argument("--wt_dec", type=non_negative_number, default=5e-4, help="weight decay (default %(default)s)")
    optimisation.add_argument(
        "--momentum",
        type=non_negative_number,
        default=RELEASED_MOMENTUM,
        help="SGD momentum; the released code's slip makes it %(default)s (default)",
    )
    optimisation.add_argument(
        "--loss_weights",
        type=named_number,
        nargs="+",
        default=(),
        metavar="NAME=W",
        help="weights other than 1, e.g. loss_tcp=0 loss_cpcr=0.5",
    )
    add_machine_flags(optimisation)

    output = parser.add_argument_group("output")
    add_session_flags(output, "cpn")
    output.add_argument(
        "--val_scale", type=positive_number, default=1.0, help="image scale of the quick validation CAMs (default %(default)s)"
    )
    parser.set_defaults(**PRESETS[parser.parse_known_args(argv)[0].preset])
    return parser.parse_args(argv)


def _released_network(name: str) -> str:
    if "resnet38" not in name:
        raise argparse.ArgumentTypeError(f"{name}: only network.resnet38_* was released; other networks go by --backbone")
    return "resnet38"


def train_cpn_step(net: CPNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """CPN's losses. The three branches go through the network as one batch, which changes nothing but the dropout masks drawn,
    since batch norm is frozen.
    """
    image = batch["image"]
    patch, complement = cp_pair(image, batch["mask"])
    cam, refined = net.forward_low_resolution(torch.cat([image, patch, complement]))
    return cpn_losses_low_resolution(cam.chunk(3), refined.chunk(3), batch["label"], batch["visible"], image.shape[2:])


def train_seam_step(net: CPNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """SEAM's losses: the image, and the image at 0.3 of its size."""
    branches = (batch["image"], seam_scale(batch["image"]))
    cams, refined = zip(*(net.forward_low_resolution(image) for image in branches), strict=True)
    return seam_losses_low_resolution(cams, refined, batch["label"], [image.shape[2:] for image in branches])


def train_cam_step(net: CPNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The plain baseline's loss."""
    image = batch["image"]
    return cam_losses(net.cam_and_features(image)[0], batch["label"], image.shape[2:])


STEPS = {"cpn": train_cpn_step, "seam": train_seam_step, "cam": train_cam_step}


def weigh_losses(losses: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """losses with the total "loss" taken with weights (1 where none is given). Raises InputError for an unknown name."""
    if unknown := set(weights) - (set(losses) - {"loss"}):
        raise InputError(
            f"--loss_weights names {sorted(unknown)[0]}, this method has {', '.join(sorted(set(losses) - {'loss'}))}"
        )
    if not weights:
        return losses
    parts = {name: value for name, value in losses.items() if name != "loss"}
    return losses | {"loss": sum(weights.get(name, 1.0) * value for name, value in parts.items())}


def compile_training(net: CPNHead) -> None:
    """Have net's backbone compiled in training mode; validation, whose images all differ in size, stays as it is."""
    plain, compiled = net.forward_features, torch.compile(net.forward_features)
    net.forward_features = lambda x: compiled(x) if net.training else plain(x)


def build_network(args: argparse.Namespace, num_classes: int) -> tuple[CPNHead, dict]:
    """The network with its ImageNet weights, and its configuration for the checkpoint."""
    config = {
        "backbone": args.backbone,
        "num_classes": num_classes,
        "output_stride": args.output_stride,
        "refinement": args.refinement or ("pcm" if args.method == "seam" else "pcm+prcm"),
        "prcm": args.prcm,
    }
    weights = args.weights or (WEIGHTS if args.backbone == "resnet38" else "imagenet")
    if args.backbone == "resnet38" and weights == "imagenet":
        raise InputError(f"--weights imagenet: {WEIGHTS_HELP}")
    net = build_cpn(**config, pretrained=weights == "imagenet")
    if args.checkpointing:
        if args.backbone != "resnet38":
            raise InputError(f"--checkpointing is for resnet38, not for {args.backbone}; use --accum to save memory")
        net.checkpointing = True
    if weights not in ("imagenet", "none"):
        unused = load_backbone_weights(net, weights)
        tqdm.write(f"weights {weights}: {len(unused)} tensors not used" + (f" ({', '.join(unused[:4])})" if unused else ""))
    return net, config | {"method": args.method}


class Validation:
    """Quick validation at one scale: classification loss, and the best mIoU over thresholds of plain and refined CAM where the list
    has masks. A guide while training; evaluation_cam.py on CAM files of all scales gives the numbers to report. Several processes share
    the list.
    """

    def __init__(self, args: argparse.Namespace, net: CPNHead, classes: tuple[str, ...], device: torch.device) -> None:
        self.net, self.device, self.classes = net, device, classes
        self.root = Path(args.voc12_root)
        every = load_ids(self.root, args.val_list)
        self.has_masks = (self.root / MASK_DIR).is_dir()
        for find in (image_path, mask_path) if self.has_masks else (image_path,):
            require_every(find, self.root, every, "validation images")
        ids = shard(every)
        labels = load_labels(self.root, ids, classes, args.labels)
        paths = [image_path(self.root, name) for name in ids]
        data = InferenceSet(ids, paths, labels, [args.val_scale], net.mean, net.std)
        self.loader = DataLoader(data, batch_size=None, num_workers=args.num_workers, worker_init_fn=ignore_signals)
        self.kinds = ("cam",) if args.method == "cam" else ("cam", "cam_refined")

    @torch.inference_mode()
    def __call__(self) -> tuple[dict[str, float], list[np.ndarray]]:
        """(measures of the whole list, CAM panels of this process's first images)."""
        sweeps = {kind: ThresholdSweep(VALIDATION_THRESHOLDS, len(self.classes) + 1) for kind in self.kinds}
        losses, panels = [], []
        for sample in progress(self.loader, desc="validation", unit="img", leave=False):
            image, label = sample["scaled"][0][None].to(self.device), sample["label"][None].to(self.device)
            maps = dict(zip(self.kinds, self.net(image) if len(self.kinds) == 2 else [self.net.forward_cam(image)], strict=True))
            losses.append(float(loss_classification(global_average(maps["cam"]), label)))
            size = [int(side) for side in sample["size"]]
            unit = {
                kind: torch.nn.functional.interpolate(
                    normalise_cam(cam) * label_with_background(label), size, mode="bilinear", align_corners=True
                )[0, 1:]
                .cpu()
                .numpy()
                for kind, cam in maps.items()
            }
            if self.has_masks:
                mask = read_mask(mask_path(self.root, sample["id"]))
                keys = np.flatnonzero(sample["label"].numpy())
                with naming_file(mask_path(self.root, sample["id"])):
                    for kind, cam in unit.items():
                        sweeps[kind].update(cam[keys], keys, mask)
            if len(panels) < PANEL_IMAGES:
                photograph = read_image(image_path(self.root, sample["id"]))
                panels.append(cam_panel(photograph, unit[self.kinds[-1]], self.classes))
        shares = gather((losses, sweeps))
        measures = {"val_loss_cls": float(np.mean([loss for share, _ in shares for loss in share]))}
        for kind in self.kinds if self.has_masks else ():
            sweep = functools.reduce(operator.add, (share[kind] for _, share in shares))
            miou = iou_table(sweep.confusion()).miou_skip
            best = int(np.argmax(miou))
            measures |= {f"val_miou_{kind}": float(miou[best]), f"val_threshold_{kind}": VALIDATION_THRESHOLDS[best]}
        return measures, panels


def main(args: argparse.Namespace) -> None:
    """Train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    seed_everything(args.seed, args.deterministic)
    device = choose_device(args.device)
    join(device)
    folder = Path(args.results) / args.session_name

    # ============ data ============
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    ids = load_ids(root, args.train_list)
    labels = load_labels(root, ids, classes, args.labels)
    require_positive(ids, labels)
    require_every(image_path, root, ids, f"images of {args.train_list}")
    if is_main():
        print(
            f"training images: {len(ids)} of {args.train_list}, {len(classes)} classes, labels: {label_source(root, args.labels)}"
        )
    if len(ids) < args.batch_size:
        raise InputError(f"{args.train_list} has {len(ids)} images, fewer than --batch_size {args.batch_size}; lower it")

    # ============ network, optimiser ============
    net, config = build_network(args, len(classes))
    net.to(device, memory_format=torch.channels_last)
    if args.compile:
        compile_training(net)
    steps_per_epoch = len(ids) // args.batch_size
    optimizer, schedule = build_optimizer(
        net,
        args.lr,
        args.wt_dec,
        args.momentum,
        args.max_epoches * steps_per_epoch,
        new_factor=args.new_layer_factor,
        refinement_factor=args.refinement_factor,
    )

    transform = TrainTransform(net.mean, net.std, args.crop_size, tuple(args.resize_long))
    patch_mask = regions = None
    if args.method == "cpn":
        if args.patch == "grid" and min(args.grid_sizes) >= args.crop_size:
            raise InputError(
                f"--grid_sizes {' '.join(map(str, args.grid_sizes))}: no cell is smaller than --crop_size {args.crop_size}, so a patch "
                "hides all or nothing; a quarter and a half of the crop do well"
            )
        patch_mask = PatchMask(
            strategy=args.patch,
            segments=args.superpixels,
            grid_sizes=tuple(args.grid_sizes),
            hide_ratio=args.hide_ratio,
            draw=args.draw,
            slic_input=args.slic_input,
        )
        if args.patch == "superpixel" and args.superpixel_mode == "cached":
            regions = RegionCache(
                folder=Path(args.superpixel_cache or Path(args.results) / "superpixels"),
                mean=net.mean,
                std=net.std,
                segments=args.superpixels,
                crop_size=args.crop_size,
                resize_long=tuple(args.resize_long),
                slic_input=args.slic_input,
            )
    train_set = TrainSet(root, ids, labels, transform, patch_mask, args.seed, regions)
    validation = Validation(args, net, classes, device) if args.val_list != "none" else None

    # ============ loop ============
    defaults, data = parse_args(["--preset", args.preset]), data_digest(ids, classes, labels)
    free = ("preset",)  # what it sets is compared
    run = begin_session(args, defaults, net, optimizer, schedule, device, args.max_epoches, steps_per_epoch, data, free)

    def losses_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return weigh_losses(STEPS[args.method](net, batch), dict(args.loss_weights))

    def on_epoch(epoch: int) -> dict:
        if validation is None:
            return {}
        measures, panels = validation()
        run.log.scalars({f"val/{name.removeprefix('val_')}": value for name, value in measures.items()}, run.step)
        for index, panel in enumerate(panels):
            run.log.panel(f"cam/{index}", panel, run.step)
        tqdm.write(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in measures.items()))
        return measures

    run.train(
        epoch_loader(train_set, args.batch_size, args.seed, args.num_workers, pin_memory=device.type == "cuda"),
        losses_of,
        on_epoch,
    )
    if not is_main():
        return
    path = folder / f"{args.session_name}.pth"
    save_network(path, net, config, classes, {"settings": run.settings, "iterations": run.step, "commit": git_commit()})
    run.log.line("end", step=run.step, weights=str(path))
    run.log.close()
    print(f"weights: {path}")


if __name__ == "__main__":
    run_script(main, parse_args)
