"""Bring the CAM files of a list to what all photographs agree on: a linear classifier of pixels,
taught by the sure pixels of their own seeds, says where a photograph's map floods its background or
cuts its object (tool/consensus.py).

Reads a trained CAM network, whose early maps are the features (and its deepest, where a photograph
shows several classes), photographs and the CAM files of infer_cam.py; writes CAM files of the same
stage, whose background threshold is near 0.5, into <out_cam>. No masks enter, and no labels but
those in the CAM files. Finished files made from the same CAM files with the same settings are kept.

    python consensus_cam.py --voc12_root data/VOCdevkit/VOC2012 --train_list train_aug \\
        --cam_dir results/cpn/cam_train_aug --weights results/cpn/cpn.pth \\
        --infer_list train_aug --out_cam results/cpn/agreed_train_aug
    python consensus_cam.py --voc12_root data/VOCdevkit/VOC2012 --train_list train_aug \\
        --cam_dir results/cpn/cam_train_aug --weights results/cpn/cpn.pth --infer_list train \\
        --infer_cam_dir results/cpn/cam_train --out_cam results/cpn/agreed_train
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.consensus", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from flags.consensus import MAX_IMAGES, parse_args
from network.refiner import Refiner
from network.weights import load_network
from tool.auto_threshold import CONSENSUS, MIDDLE
from tool.cam import require_finite
from tool.consensus import (
    BACKGROUND_PIXELS,
    CLASS_PIXELS,
    Agreement,
    Lessons,
    agreed_cam,
    around_the_middle,
    fit_agreement,
)
from tool.errors import InputError, naming_file, run_script
from tool.expand.crf import mask_values
from tool.expand.seed import REFINED_STAGE, cam_is_finished, find_seeds, load_seed, made_from
from tool.file.cam_file import PACKED, CamFile, save_cam
from tool.file.digests import digest, weights_meta
from tool.run.device import KEEP_SMALL, autocast, choose_device
from tool.run.notes import note, note_finished
from tool.run.progress import progress
from tool.run.shards import shard, share_note
from voc12.cam_folder import CamFolder, open_cam_folder, require_same_photographs
from voc12.class_list import load_class_list
from voc12.constants import CLASSES
from voc12.dataset import InferenceSet
from voc12.inference_list import inference_loader
from voc12.lists import evenly, image_path, load_ids, require_root
from voc12.threshold_choice import choose_sure_thresholds


@dataclass(frozen=True, eq=False)
class Seeds:
    """The photographs of a list with their CAM files."""

    root: Path
    ids: Sequence[str]
    cam_dir: str
    cams: CamFolder
    classes: tuple[str, ...]

    def load(self, name: str, size: tuple[int, int]) -> CamFile:
        """The seed of an image of this size."""
        path = find_seeds(self.cam_dir, [name])[0]
        return load_seed(path, size, self.classes, load=self.cams.load)


def open_seeds(
    args: argparse.Namespace, root: Path, image_list: str, cam_dir: str, classes: tuple[str, ...]
) -> Seeds:
    """The seeds of a list. Raises InputError naming images without one."""
    ids = load_ids(root, image_list)
    find_seeds(cam_dir, ids)
    cams = open_cam_folder(cam_dir, args.cam_format, root, ids, classes, args.exif)
    require_same_photographs(cam_dir, root, ids)
    return Seeds(root, ids, cam_dir, cams, classes)


@torch.inference_mode()
def network_maps(
    args: argparse.Namespace, net: Refiner, seeds: Seeds, ids: Sequence[str], device: torch.device
) -> Iterator[tuple[str, CamFile, Tensor, Tensor]]:
    """(id, seed, early (D, h, w), deep (E, h, w)) of each image: the network's two early maps at
    equal scale, and its deepest.
    """
    paths = [image_path(seeds.root, name) for name in ids]
    data = InferenceSet(ids, paths, None, [args.scale], net.mean, net.std, args.exif)
    for sample in progress(inference_loader(data, args.num_workers), unit="img"):
        size = tuple(int(side) for side in sample["size"])
        with naming_file(sample["id"]), autocast(device, args.precision):
            maps = net.early_and_deep(sample["scaled"][0][None].to(device))
            early, deep = (map_[0].float().cpu() for map_ in maps)
            require_finite(early, "the network's early maps")
            require_finite(deep, "the network's deepest map")
        yield sample["id"], seeds.load(sample["id"], size), early, deep


def teach(
    args: argparse.Namespace,
    net: Refiner,
    seeds: Seeds,
    sure: tuple[float, float],
    device: torch.device,
) -> Agreement | None:
    """What the pixels teach of which the seeds are sure, over and under the scores `sure`; None,
    and a note, where one label alone has any.
    """
    rng = np.random.default_rng(args.seed)
    # in any order: the first ones choose the directions of the deepest map
    ids = rng.permutation(evenly(seeds.ids, MAX_IMAGES)).tolist()
    lessons = Lessons(sure, rng)
    for _, seed, early, deep in network_maps(args, net, seeds, ids, device):
        small = [resize_map(map_, early.shape[1:]) for map_ in seed.cam]
        cam = np.stack(small) if small else np.zeros((0, *early.shape[1:]), np.float32)
        lessons.add(cam, seed.keys, early, deep)
    rows, deep_rows, known = lessons.finish()
    if len(known.unique()) < 2:
        note(
            f"note: nothing to agree on: the {len(ids)} seeds in {seeds.cam_dir} are sure of "
            f"{'one label' if len(known) else 'no pixel'} alone; they stay as they are, their "
            f"threshold {MIDDLE}"
        )
        return None
    print(
        f"taught by {len(known)} pixels of {len(ids)} photographs, {BACKGROUND_PIXELS} of the "
        f"background and {CLASS_PIXELS} of each class that one is sure of"
    )
    return fit_agreement(rows, deep_rows, known, len(seeds.classes) + 1, args.seed)


def resize_map(map_: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A map (H, W) averaged down to size (h, w)."""
    return cv2.resize(map_, tuple(size)[::-1], interpolation=cv2.INTER_AREA)


def require_same_classes(
    args: argparse.Namespace, trained: Sequence[str], classes: Sequence[str]
) -> None:
    """Raise InputError where the network was trained for other classes than the data set's."""
    if tuple(trained) != tuple(classes):
        raise InputError(
            f"--weights {args.weights} are of other classes ({', '.join(trained[:3])} ...) than "
            f"{args.voc12_root} ({', '.join(classes[:3])} ...)"
        )


def cam_meta(
    args: argparse.Namespace,
    classes: Sequence[str],
    threshold: float,
    sure: tuple[float, float],
    taught: Agreement | None,
) -> dict[str, Any]:
    """What an agreed CAM file says of itself, but for its seed."""
    learnt = (taught.background, taught.classes, taught.directions) if taught else ()
    parts = [part for its in learnt for part in vars(its).values()]
    how = {
        **weights_meta(args.weights, args.weights_key),
        "scale": args.scale,
        "precision": args.precision,
        "threshold": threshold,
        "sure": [round(score, 4) for score in sure],
        "classifier": digest({"values": [part.tolist() for part in parts]}),
    }
    return {"stage": REFINED_STAGE, "units": "unit", CONSENSUS: how, "classes": list(classes)}


def write_agreed(
    args: argparse.Namespace,
    net: Refiner,
    seeds: Seeds,
    taught: Agreement | None,
    meta: dict[str, Any],
    device: torch.device,
) -> None:
    """Write the CAM file of each image that has none made with these settings from its seed."""
    out = Path(args.out_cam)
    paths = dict(zip(seeds.ids, find_seeds(seeds.cam_dir, seeds.ids), strict=True))
    ids = shard(seeds.ids)
    todo = [
        name
        for name in ids
        if args.overwrite or not cam_is_finished(out / f"{name}.npz", meta, paths[name])
    ]
    note_finished(len(ids) - len(todo), len(ids), "CAM files")
    for name, seed, early, deep in network_maps(args, net, seeds, todo, device):
        cam, threshold = seed.cam, meta[CONSENSUS]["threshold"]
        if taught is None:
            cam = around_the_middle(cam, threshold)
        elif len(seed.keys):
            probabilities = taught.probabilities(early, deep, mask_values(seed.keys))
            cam = agreed_cam(cam, threshold, probabilities)
        made = made_from(meta, paths[name], seed)
        save_cam(out, CamFile(name, seed.keys, cam, seed.size, made), PACKED)


def main(args: argparse.Namespace) -> None:
    """Teach the classifier, and write an agreed CAM file for every image of --infer_list."""
    # ============ network, data ============
    root = require_root(args.voc12_root)
    infer_cam_dir = args.infer_cam_dir or args.cam_dir
    if Path(args.out_cam).resolve() in (
        Path(infer_cam_dir).resolve(),
        Path(args.cam_dir).resolve(),
    ):
        raise InputError(f"--out_cam {args.out_cam} holds the seeds, which are needed again")
    classes = load_class_list(root)
    device = choose_device(args.device, KEEP_SMALL)
    net, _, trained = load_network(args.weights, CLASSES, args.weights_key)
    require_same_classes(args, trained, classes)
    refiner = Refiner(net.to(device, memory_format=torch.channels_last))
    teachers = open_seeds(args, root, args.train_list, args.cam_dir, classes)
    seeds = open_seeds(args, root, args.infer_list, infer_cam_dir, classes)

    # ============ classifier ============
    threshold, *sure = choose_sure_thresholds(
        root, teachers.ids, args.cam_dir, args.num_workers, teachers.cams.load, args.exif
    )
    print(
        f"seeds: threshold without masks {threshold:.2f}, a class is sure over {sure[0]:.2f}, "
        f"background under {sure[1]:.2f}"
    )
    taught = teach(args, refiner, teachers, tuple(sure), device)

    # ============ output ============
    meta = cam_meta(args, classes, threshold, sure, taught) | seeds.cams.meta
    write_agreed(args, refiner, seeds, taught, meta, device)
    print(f"CAM files ({REFINED_STAGE}, agreed): {args.out_cam}, {share_note(len(seeds.ids))}")


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
