"""Make CAM files from a trained network: one a photograph, the classes of its image label, merged
over scales and flips.

Reads the weights of train_cpn.py (or the authors' CPN.pth), an image list and image labels in VOC
layout; writes <out_cam>/<id>.npz, whose format tool/file/cam_file.py describes. Finished files made
by the same weights and settings are kept.

With --image, photographs and folders of them, without list or labels: the classes are those that
the classifier itself sees; overlays, a mask and the scores of all classes are written of each.

    python infer_cam.py --image photo.jpg --weights results/cpn/cpn.pth
    python infer_cam.py --voc12_root data/VOCdevkit/VOC2012 --weights results/cpn/cpn.pth \\
        --infer_list train --out_cam results/cpn/cam_train
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.cam_inference", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from flags.cam_inference import BG_THRESHOLD, OUT_CAM, STAGES, parse_args
from network.cam_inference import class_probabilities, image_cam, seen_classes
from network.cpn import CPNHead
from network.weights import load_network
from tool.errors import InputError, naming_file, run_script
from tool.expand.crf import threshold_mask
from tool.expand.seed import CAM_MASK_STAGE, MASK_UNITS
from tool.file.atomic import write_json
from tool.file.cam_file import (
    EXACT,
    OWN_FORMATS,
    PHOTOGRAPH,
    CamFile,
    find_cam,
    is_packed,
    load_cam,
    save_cam,
)
from tool.file.digests import digest, file_digest, weights_meta
from tool.file.images import (
    EXIF_KEY,
    read_image,
    read_picture_meta,
    same_making,
    write_image,
    write_mask,
)
from tool.file.model_folder import ROAD_FILE, read_cut_offs
from tool.file.photographs import Photograph, find_photographs, require_outputs
from tool.file.state_dict import read_training
from tool.file.text import shortened
from tool.run.device import (
    KEEP_SMALL,
    autocast,
    choose_device,
    give_back_free_memory,
    is_large,
)
from tool.run.notes import note_finished
from tool.run.photograph_flags import (
    chosen_long_side,
    require_photograph_flags,
)
from tool.run.progress import progress
from tool.run.shards import is_main, shard, share_note
from tool.run.side_by_side import side_by_side
from tool.show.overlay import caption, overlay
from tool.transforms import normalise, resize, to_tensor
from voc12.class_list import has_class_list, load_class_list
from voc12.constants import CLASS_LIST_FILE, CLASSES
from voc12.dataset import InferenceSet, require_every
from voc12.inference_list import (
    inference_loader,
    load_inference_list,
    photograph_set,
)
from voc12.labels import load_labels
from voc12.lists import image_path


def is_finished(out_cam: Path, name: str, keys: np.ndarray, meta: dict, file_format: str) -> bool:
    """Whether a whole CAM file of this image, with these classes and this meta, is there already.

    Files of the field's formats do not say what made them, so they never count. A file that does
    not say of which photograph it is, as older ones, counts whatever the photograph. A packed file
    does not count where float32 is asked for.
    """
    path = out_cam / f"{name}.npz"
    if file_format not in OWN_FORMATS or not path.is_file():
        return False
    try:
        found = load_cam(path)
    except InputError:
        return False
    if file_format == EXACT and is_packed(path):
        return False
    return np.array_equal(found.keys, keys) and same_making(
        {PHOTOGRAPH: meta[PHOTOGRAPH]} | found.meta, meta
    )


def overlay_names(name: str, classes: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """The name of the overlay of each class, <name>_<class>.png; of a class called as one of taken,
    the ends of what else is written of the photograph, <name>_<class>_cam.png.
    """
    names = []
    for its in classes:
        end = its
        while end in taken or (end != its and end in classes):
            end += "_cam"
        names.append(f"{name}_{end}.png")
    return names


def overlay_paths(
    cam_file: CamFile, folder: str | Path, classes: Sequence[str], taken: Collection[str] = ()
) -> list[Path]:
    """Where write_overlays writes."""
    names = overlay_names(cam_file.id, classes, taken)
    return [Path(folder) / names[key] for key in cam_file.keys]


def overlay_meta(cam_file: CamFile) -> dict[str, str]:
    """What the overlays of a CAM file say of themselves."""
    return {
        "id": cam_file.id,
        "made_from": digest({"keys": cam_file.keys.tolist(), "meta": cam_file.meta}),
    }


def write_overlays(
    cam_file: CamFile,
    image: np.ndarray,
    folder: str | Path,
    classes: Sequence[str],
    taken: Collection[str] = (),
) -> list[Path]:
    """Write the overlay of each class of the file into folder, called as overlay_names says; their
    paths. Takes away those of other classes that were written of earlier files of this image.
    """
    paths, made = overlay_paths(cam_file, folder, classes, taken), overlay_meta(cam_file)
    for path, key, cam in zip(paths, cam_file.keys, cam_file.cam, strict=True):
        write_image(path, caption(overlay(image, cam), classes[key]), made)
    for name in overlay_names(cam_file.id, classes, taken):
        path = Path(folder) / name
        if path not in paths and path.is_file():
            earlier = read_picture_meta(path)
            if earlier is not None and earlier.get("id") == cam_file.id:
                path.unlink()
    return paths


def write_outputs(
    cam_file: CamFile, path: Path, classes: Sequence[str], out_cam: Path, args: argparse.Namespace
) -> None:
    """Write the overlays, if asked, then the CAM file, which says that the image is finished."""
    if args.save_png:
        write_overlays(cam_file, read_image(path, args.exif), args.save_png, classes)
    save_cam(out_cam, cam_file, args.format)


def require_own_overlays(ids: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise InputError where two images of a list would have one overlay, as image a with class b_c
    and image a_b with class c; labels: (N, C).
    """
    owner: dict[str, str] = {}
    for name, label in zip(ids, labels, strict=True):
        for key, file in enumerate(overlay_names(name, classes)):
            if label[key] and owner.setdefault(file, name) != name:
                raise InputError(
                    f"--save_png: of {owner[file]} and {name} the same overlay would be written, "
                    f"{file}; leave --save_png out, or give the two in lists of their own"
                )


def is_alone(args: argparse.Namespace, sample: dict) -> bool:
    """Whether an image is computed with no other beside it: a large one, and where attention is
    recorded, which changes the network for as long.
    """
    return args.affinity == "attention" or is_large(sample["scaled"])


def infer_list(
    args: argparse.Namespace,
    net: CPNHead,
    classes: Sequence[str],
    refined: bool,
    meta: dict,
    device: torch.device,
) -> None:
    """Write a CAM file for every image of the list that has none made by the same weights and
    settings.
    """
    images = load_inference_list(args)
    root, ids = images.root, images.ids
    own = load_class_list(root) if has_class_list(root) else tuple(classes)
    if own != tuple(classes):
        raise InputError(
            f"{root / CLASS_LIST_FILE} says {', '.join(own[:3])} ..., {args.weights} "
            f"{', '.join(classes[:3])} ..."
        )
    labels = load_labels(root, ids, classes, args.labels, args.mask_values)
    if args.save_png:
        every_label = load_labels(root, images.every, classes, args.labels, args.mask_values)
        require_own_overlays(images.every, every_label, classes)
    paths = require_every(image_path, root, ids, f"images of {args.infer_list}")
    out_cam = Path(args.out_cam or OUT_CAM)
    metas = [meta | {PHOTOGRAPH: file_digest(path)} for path in paths]
    meta_of = dict(zip(ids, metas, strict=True))
    todo = [
        index
        for index, name in enumerate(ids)
        if args.overwrite
        or not is_finished(out_cam, name, np.flatnonzero(labels[index]), metas[index], args.format)
    ]
    note_finished(len(ids) - len(todo), len(ids), "CAM files")
    for index in sorted(set(range(len(ids))) - set(todo)) if args.save_png else ():
        cam_file = load_cam(find_cam(out_cam, ids[index]))
        shown = map(read_picture_meta, overlay_paths(cam_file, args.save_png, classes))
        if any(made != overlay_meta(cam_file) for made in shown):
            write_overlays(cam_file, read_image(paths[index], args.exif), args.save_png, classes)
    data = InferenceSet(
        [ids[i] for i in todo],
        [paths[i] for i in todo],
        labels[todo],
        args.scales,
        net.mean,
        net.std,
        args.exif,
    )

    def compute(sample: dict) -> CamFile:
        """What is written of an image."""
        keys = torch.nonzero(sample["label"]).flatten().to(device)
        size = tuple(int(side) for side in sample["size"])
        with naming_file(sample["id"]):
            cam = image_cam(net, sample["scaled"], size, keys, refined, args.flip, args.precision)
        return CamFile(sample["id"], keys.cpu().numpy(), cam, size, meta_of[sample["id"]])

    loader = inference_loader(data, args.num_workers)
    made = side_by_side(compute, loader, device, partial(is_alone, args))
    maps = silent = 0
    with ThreadPoolExecutor(max_workers=1) as writer:  # writes one image while the next is computed
        pending: Future | None = None
        for index, (_, cam_file) in enumerate(progress(made, unit="img", total=len(data))):
            if pending is not None:
                pending.result()
            cam = cam_file.cam
            maps, silent = maps + len(cam), silent + sum(not (map_ > 0).any() for map_ in cam)
            pending = writer.submit(
                write_outputs, cam_file, data.paths[index], classes, out_cam, args
            )
        if pending is not None:
            pending.result()
    print(f"CAM files ({meta['stage']}, {args.format}): {out_cam}, {share_note(len(images.every))}")
    if silent:
        print(
            f"note: {silent} of {maps} new maps respond nowhere; if they are many, the network has "
            "learnt little: look at its losses"
        )


def write_scores(
    args: argparse.Namespace, net: CPNHead, classes: Sequence[str], device: torch.device
) -> None:
    """Write --scores: id -> class -> probability, of the whole list, images as they are."""
    if not is_main():
        return
    images = load_inference_list(args)
    paths = [image_path(images.root, name) for name in images.every]
    data = InferenceSet(images.every, paths, None, [1.0], net.mean, net.std, args.exif)

    def compute(sample: dict) -> list[float]:
        """The probability of every class."""
        with naming_file(sample["id"]), autocast(device, args.precision):
            return class_probabilities(net, sample["scaled"][0].to(device)).tolist()

    loader = inference_loader(data, args.num_workers)
    made = side_by_side(compute, loader, device, lambda sample: is_large(sample["scaled"]))
    found = {}
    for sample, probabilities in progress(made, unit="img", total=len(data), desc="scores"):
        scores = zip(classes, probabilities, strict=True)
        found[sample["id"]] = {name: round(score, 4) for name, score in scores}
    write_json(args.scores, found)
    print(f"scores of {len(classes)} classes: {args.scores}, {len(found)} images")


def taken_ends(args: argparse.Namespace) -> tuple[str, ...]:
    """How the names of the other pictures of a photograph end."""
    return ("mask", "confidence") if args.confidence else ("mask",)


def photograph_outputs(
    args: argparse.Namespace, photograph: Photograph, keys: Iterable[int], classes: Sequence[str]
) -> dict[str, Path]:
    """What is written of a photograph with the classes keys: mask, scores, an overlay a class, CAM
    file and confidence if asked.
    """
    folder, name = photograph.folder(args.save_png), photograph.name
    paths = {"mask": folder / f"{name}_mask.png", "scores": folder / f"{name}_scores.json"}
    overlays = overlay_names(name, classes, taken_ends(args))
    paths |= {f"overlay {key}": folder / overlays[key] for key in keys}
    if args.confidence:
        paths["confidence"] = folder / f"{name}_confidence.png"
    if args.out_cam:
        suffix = ".npz" if args.format in OWN_FORMATS else ".npy"
        paths["cam"] = photograph.folder(args.out_cam) / f"{name}{suffix}"
    return paths


def write_photograph(
    args: argparse.Namespace,
    cam_file: CamFile,
    photograph: Photograph,
    probability: np.ndarray,
    classes: Sequence[str],
) -> list[Path]:
    """Write the outputs of a photograph; probability: (C,), of all classes. Returns overlays."""
    paths = photograph_outputs(args, photograph, cam_file.keys, classes)
    image = read_image(photograph.path, args.exif)
    folder = paths["mask"].parent
    overlays = write_overlays(cam_file, image, folder, classes, taken_ends(args))
    if "confidence" in paths:
        highest = cam_file.cam.max(axis=0, initial=0).clip(max=1)
        sure = np.where(highest > args.t, highest, 1 - highest)
        write_image(paths["confidence"], (sure * 255).round().astype(np.uint8))
    scores = zip(classes, probability.tolist(), strict=True)
    write_json(paths["scores"], {name: round(score, 4) for name, score in scores})
    meta = {"stage": CAM_MASK_STAGE, "units": MASK_UNITS, "threshold": args.t}
    meta |= {"classes": list(classes), EXIF_KEY: args.exif, "cam": cam_file.meta}
    write_mask(paths["mask"], threshold_mask(cam_file.cam, cam_file.keys, args.t), meta)
    if "cam" in paths:
        save_cam(paths["cam"].parent, cam_file, args.format)
    return overlays


def wanted_classes(
    args: argparse.Namespace, classes: Sequence[str], device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """(keys to look for, cut-off of each) by --classes, --min_score and --cut_offs.

    Raises InputError for a class that the weights do not know.
    """
    names = list(dict.fromkeys(args.classes or classes))
    if unknown := [name for name in names if name not in classes]:
        raise InputError(
            f"--classes {shortened(unknown[0])} is none of {args.weights}'s classes: "
            f"{shortened(', '.join(classes))}"
        )
    wanted = torch.tensor([list(classes).index(name) for name in names], device=device)
    beside = Path(args.weights).parent / ROAD_FILE
    path = args.cut_offs or (beside if beside.is_file() else None)
    if args.min_score is not None:
        return wanted, torch.full(wanted.shape, args.min_score, device=device)
    if path is None:
        return wanted, None
    return wanted, torch.tensor(read_cut_offs(path, names), device=device)


def infer_photographs(
    args: argparse.Namespace,
    net: CPNHead,
    classes: Sequence[str],
    refined: bool,
    meta: dict,
    device: torch.device,
) -> None:
    """Write overlays, mask and scores, and CAM files if asked, of photographs without labels; print
    what the classifier sees in each.
    """
    every = find_photographs(args.image, "cam", (args.save_png, args.out_cam or args.save_png))
    any_class = range(len(classes))
    require_outputs(every, lambda one: photograph_outputs(args, one, any_class, classes).values())
    long_side = chosen_long_side(args, read_training(args.weights), [one.path for one in every])
    wanted, cut_offs = wanted_classes(args, classes, device)
    photographs = shard(every)
    data = photograph_set(args, photographs, net.mean, net.std, long_side)

    def compute(item: tuple[Photograph, dict]) -> tuple[CamFile, np.ndarray]:
        """What is written of a photograph, and the probability of every class."""
        one, sample = item
        image = read_image(one.path, args.exif)
        reduced = normalise(resize(image, *sample["size"]), net.mean, net.std)
        with naming_file(one.path):
            probability = class_probabilities(net, to_tensor(reduced).to(device))
            keys = wanted[seen_classes(probability[wanted], cut_offs)]
            cam = image_cam(
                net, sample["scaled"], sample["size"], keys, refined, args.flip, args.precision
            )
        size = image.shape[:2]
        if not len(cam):
            cam = np.zeros((0, *size), dtype=np.float32)
        elif size != sample["size"]:
            large = [cv2.resize(map_, size[::-1], interpolation=cv2.INTER_LINEAR) for map_ in cam]
            cam = np.stack(large)
        made = meta | {"long_side": long_side, PHOTOGRAPH: file_digest(one.path)}
        cam_file = CamFile(one.name, keys.cpu().numpy(), cam, size, made)
        return cam_file, probability.cpu().numpy()

    pairs = zip(photographs, data, strict=False)
    made = side_by_side(compute, pairs, device, lambda pair: is_alone(args, pair[1]))
    many = len(photographs) > 1
    for (one, _), (cam_file, probability) in (
        progress(made, total=len(photographs), unit="img") if many else made
    ):
        overlays = write_photograph(args, cam_file, one, probability, classes)
        seen = ", ".join(f"{classes[key]} {probability[key]:.2f}" for key in cam_file.keys)
        said = f"{seen}; overlays: {', '.join(map(str, overlays))}" if seen else "no class"
        tqdm.write(f"{one.path}: {said}")


def require_affinity_flags(args: argparse.Namespace, refined: bool) -> None:
    """Raise InputError where flags of --affinity and --refiner have nothing to work on."""
    if args.refiner_weights and not args.refiner:
        raise InputError("--refiner_weights names no network; say whose they are by --refiner NAME")
    if args.attention_blocks and args.affinity != "attention":
        raise InputError("--attention_blocks is for --affinity attention; set that too")
    if (args.affinity or args.refiner) and not refined:
        raise InputError("--affinity and --refiner make refined maps; leave --cam plain out")
    if (args.affinity or args.refiner) and (args.refinement or args.prcm):
        raise InputError(
            "--affinity and --refiner take the place of PCM and PRCM; leave --refinement and "
            "--prcm out"
        )


def add_refiner(
    args: argparse.Namespace, net: CPNHead, config: dict, device: torch.device
) -> tuple[CPNHead | nn.Module, dict]:
    """The network with the refiner that --affinity and --refiner ask for, and what a CAM file says
    of it; the network itself and nothing without them.
    """
    if not (args.affinity or args.refiner):
        return net, {}
    # only here, for timm, which ResNet38 alone has no use for
    from network.refiner import RefinedBy, Refiner, build_refiner, trains_embedding

    affinity = args.affinity or "cosine"
    if args.refiner:
        refiner = build_refiner(args.refiner, args.refiner_weights, affinity, args.attention_blocks)
    else:
        refiner = Refiner(net, affinity, args.attention_blocks, raw=not trains_embedding(config))
    refiner.to(device, memory_format=torch.channels_last)
    facts = {
        "affinity": affinity,
        "attention_blocks": args.attention_blocks,
        "refiner": args.refiner,
        "refiner_weights": args.refiner_weights and file_digest(args.refiner_weights),
    }
    return RefinedBy(net, refiner), {name: fact for name, fact in facts.items() if fact}


def unrefined(net: CPNHead, config: dict) -> str:
    """Why a network has no refined maps of its own, to follow "trained with"; "" where it has."""
    if config["method"] == "cam":
        return "--method cam, its refinement is untrained"
    return "--refinement none, it has only plain maps" if net.refinement == "none" else ""


def main(args: argparse.Namespace) -> None:
    """Write the CAM files of a list, or the overlays of single photographs."""
    require_photograph_flags(args)
    if not args.image and args.t != BG_THRESHOLD:
        raise InputError("--t is for the masks of --image; make_masks.py makes a list's")
    if not args.image and (args.classes or args.min_score is not None or args.cut_offs):
        raise InputError(
            "--classes, --min_score and --cut_offs are for photographs given by --image; what a "
            "list's photographs show, its labels say"
        )
    if args.image and args.scores:
        raise InputError("--scores is for a list; --image writes the scores of each photograph")
    device = choose_device(args.device, KEEP_SMALL)
    net, config, classes = load_network(args.weights, CLASSES, args.weights_key)
    net.to(device, memory_format=torch.channels_last)
    give_back_free_memory()
    other = bool(args.affinity or args.refiner)  # what refines is not as trained
    lacking = unrefined(net, config)
    refined = args.cam == "refined" or (args.cam == "auto" and (other or not lacking))
    require_affinity_flags(args, refined)
    if refined and lacking and not (args.refinement or other):
        raise InputError(
            f"--cam refined: {args.weights} was trained with {lacking}; use --cam plain, name the "
            "untrained modules to use, e.g. --refinement pcm, or another network to refine by, "
            "--refiner NAME"
        )
    if not refined and (args.refinement or args.prcm):
        raise InputError(
            "--refinement and --prcm are for refined maps; this network or --cam makes plain ones"
        )
    net.refinement, net.prcm = args.refinement or net.refinement, args.prcm or net.prcm
    net, affinity = add_refiner(args, net, config, device)
    meta = {
        "stage": STAGES["refined" if refined else "plain"],
        # else as trained
        **{
            name: value
            for name, value in (("refinement", args.refinement), ("prcm", args.prcm))
            if value
        },
        **affinity,
        "method": config["method"],
        "backbone": config["backbone"],
        **weights_meta(args.weights, args.weights_key),
        "scales": list(args.scales),
        "flip": args.flip,
        "precision": args.precision,
        EXIF_KEY: args.exif,
        "classes": list(classes),
    }
    if args.scores:
        write_scores(args, net, classes, device)
        return
    infer = infer_photographs if args.image else infer_list
    infer(args, net, classes, refined, meta, device)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
