"""Train AffinityNet (Ahn, Kwak, CVPR 2018), the second expansion of PSA and SEAM, from seeds.

Reads photographs and an image list in VOC layout, and the CAM files of infer_cam.py. Puts them
through the dense CRF against a low and a high background first, once, in <label_dir>; then trains
on their agreement. Writes results/<session_name>/ with the final weights <session_name>.pth, which
infer_aff.py understands by itself, a checkpoint to continue from, log.jsonl and TensorBoard events.

    python train_aff.py --voc12_root data/VOCdevkit/VOC2012 --cam_dir results/cpn/cam_train_aug \\
        --weights weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params --preset seam
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.aff_training", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from flags.aff_training import parse_args
from network.aff import AffinityNet, AffinityNetTimm, build_affinity_net
from network.weights import (
    load_backbone_weights,
    save_network,
    starting_weights,
)
from tool.errors import InputError, run_script
from tool.expand.affinity import AFFINITY_STRIDE, fitting_radius, pair_labels, pair_offsets
from tool.expand.expansion_losses import affinity_net_loss
from tool.expand.seed import find_seeds
from tool.file.cam_file import cam_content
from tool.run.distributed import mean_over_ranks
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
from tool.schedule import build_optimizer
from voc12.cam_folder import CamFolder
from voc12.dataset import epoch_loader
from voc12.expansion_data import AffTrainSet
from voc12.expansion_labels import AffinityScores, label_settings, make_labels, open_seeds
from voc12.training_list import TrainingList, load_training_list, loader_settings


def build_network(
    backbone: str, weights: str | None, key: str | None = None
) -> AffinityNet | AffinityNetTimm:
    """The network with its ImageNet weights."""
    weights = starting_weights(backbone, weights, key)
    net = build_affinity_net(
        backbone, output_stride=AFFINITY_STRIDE, pretrained=weights == "imagenet"
    )
    if weights not in ("imagenet", "none"):
        load_backbone_weights(net, weights, key)
    return net


def train_step(net: AffinityNet | AffinityNetTimm, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """AffinityNet's losses, their total as "loss"."""
    radius = fitting_radius(batch["label"].shape[-2:])
    pairs = pair_labels(batch["label"], pair_offsets(radius), radius)
    return affinity_net_loss(net(batch["image"]), pairs, mean_over_ranks)


def require_crop(crop_size: int) -> None:
    """Raise InputError unless the crop divides into cells and has room for pairs."""
    if crop_size % AFFINITY_STRIDE or crop_size < 3 * AFFINITY_STRIDE:
        raise InputError(
            f"--crop_size {crop_size} must be a multiple of {AFFINITY_STRIDE}, at least "
            f"{3 * AFFINITY_STRIDE}"
        )


def make_scores(
    args: argparse.Namespace, data: TrainingList, cams: CamFolder
) -> Callable[[str], Path]:
    """Make the scores that are not there yet; the path of an image's scores."""
    scores = AffinityScores(
        low_alpha=args.low_alpha,
        high_alpha=args.high_alpha,
        **label_settings(args, data, cams),
    )
    make_labels(scores, data.ids, args.num_workers)
    return scores.path


def main(args: argparse.Namespace) -> None:
    """Make the scores, train, and write results/<session_name>/<session_name>.pth."""
    # ============ settings ============
    require_crop(args.crop_size)
    device = begin_machine(args)

    # ============ data ============
    data = load_training_list(args)
    cams = open_seeds(args, data)  # before anything is written

    # ============ network, optimiser ============
    net = build_network(args.backbone, args.weights, args.weights_key)
    net.to(device, memory_format=torch.channels_last)
    steps_per_epoch = data.steps_per_epoch(args.batch_size)
    optimizer, schedule = build_optimizer(
        net, args.lr, args.wt_dec, args.momentum, args.max_epoches * steps_per_epoch
    )

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
            "weights": weights_contents(
                starting_weights(args.backbone, args.weights, args.weights_key)
            ),
            "cam_dir": file_contents(find_seeds(args.cam_dir, data.ids), cam_content),
        },
    )

    # ============ labels, batches ============
    score_path = make_scores(args, data, cams)
    train_set = AffTrainSet(
        data.root, data.ids, score_path, net.mean, net.std, args.seed, args.crop_size, args.exif
    )

    # ============ loop ============
    run.train(
        epoch_loader(train_set, **loader_settings(args, device)),
        lambda batch: train_step(net, batch),
        on_epoch=lambda epoch: {},
    )

    # ============ output ============
    config = {"method": "aff", "backbone": args.backbone, "preset": args.preset}

    def save(path: Path, training: dict) -> None:
        save_network(path, net, config, data.classes, training)

    end_session(run, weights_path(args), save)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
