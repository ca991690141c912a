"""Segment photographs with a network of train_seg.py: scales and mirror images averaged, dense CRF,
masks in the VOC palette.

Reads the trained weights, or what export_seg.py has made of them (--onnx), and an image list in
VOC layout; writes <out_mask>/<id>.png. Finished masks made with the same weights and settings are
kept. --submission adds the folder that the VOC evaluation server takes. --image does photographs,
films and folders of them, and writes of each photograph the mask, an overlay and the scores of its
classes, of each film an overlaid film and the scores.

    python infer_seg.py --weights results/seg/seg.pth --infer_list val \\
        --out_mask results/seg/mask_val
    python evaluation_cam.py --type png --list val --predict_dir results/seg/mask_val
    python infer_seg.py --weights results/seg/seg.pth --image photo.jpg
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.seg_inference", __doc__)  # before the imports, which take seconds

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from flags.seg_inference import NO_CRF, OUT_MASK, parse_args
from network.seg import SegNet, merged_logits
from network.seg_onnx import OnnxSeg, load_onnx
from network.seg_weights import load_seg
from tool.cam import require_finite
from tool.errors import InputError, naming_file, run_script
from tool.expand.crf import (
    CrfSettings,
    cam_to_marginals,
    crf_probabilities,
    mask_values,
    named_settings,
)
from tool.expand.seed import (
    AGREEMENT,
    CRF_STAGE,
    MASK_UNITS,
    SEG_MASK_STAGE,
    find_seeds,
    load_seed,
    made_from,
    mask_is_finished,
)
from tool.file.atomic import write_json
from tool.file.cam_file import CamFile, find_cam, has_cam, require_cam_labels
from tool.file.digests import digest, file_digest
from tool.file.films import WRITTEN_SUFFIX, film_writer, open_film
from tool.file.foreign_cam import AUTO_FORMAT
from tool.file.images import (
    EXIF_KEY,
    PHOTOGRAPH_DIGEST,
    read_image,
    read_mask,
    read_mask_meta,
    read_picture_meta,
    write_image,
    write_mask,
)
from tool.file.photographs import Photograph, find_photographs, require_outputs
from tool.file.state_dict import read_training
from tool.mask_values import BACKGROUND
from tool.metrics import confusion_matrix, iou_table
from tool.run.device import KEEP_SMALL, autocast, choose_device
from tool.run.flags import Unasked
from tool.run.notes import note, note_finished
from tool.run.photograph_flags import (
    chosen_long_side,
    require_photograph_flags,
)
from tool.run.pool import background_calls
from tool.run.progress import progress
from tool.run.shards import shard, share_note
from tool.show.overlay import mask_overlay, with_inner_legend, with_legend
from tool.transforms import enlarged_mask, resize, scaled_images
from voc12.cam_folder import open_cam_folder, require_same_photographs
from voc12.dataset import InferenceSet, require_every
from voc12.inference_list import (
    inference_loader,
    load_inference_list,
)
from voc12.labels import load_labels
from voc12.lists import image_path
from voc12.submission import submission_folder, write_submission

WITHIN_LABELS = "within_labels"  # in the meta of a mask: the classes that it may show, from 0


@torch.inference_mode()
def image_probabilities(
    net: SegNet,
    scaled: Sequence[Tensor],
    size: tuple[int, int],
    flip: bool,
    precision: str,
    device: torch.device,
) -> np.ndarray:
    """Probabilities (K, H, W), float32, background first, of an image given at its scales, (3, h,
    w) each.
    """
    with autocast(device, precision):
        logits = merged_logits(net, [image.to(device) for image in scaled], size, flip)
    require_finite(logits, "the network's output")
    return logits.softmax(dim=0).cpu().numpy()


def within_labels(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """probabilities (K, H, W) without those of the classes that label (K - 1,) has not, each pixel
    summing to 1 again; background stays.
    """
    kept = probabilities * np.concatenate(([1], label > 0)).astype(np.float32)[:, None, None]
    kept[0] = np.maximum(kept[0], np.finfo(np.float32).tiny)
    return kept / kept.sum(axis=0)


def probability_mask(
    image: np.ndarray, probabilities: np.ndarray, crf: CrfSettings | None
) -> np.ndarray:
    """The label mask (H, W), uint8, of probabilities (K, H, W), after the CRF if there is one;
    image: (H, W, 3) uint8.
    """
    scores = probabilities if crf is None else crf_probabilities(image, probabilities, crf)
    return scores.argmax(axis=0).astype(np.uint8)


def joined_mask(
    image: np.ndarray, probabilities: np.ndarray, crf: CrfSettings | None, seed: CamFile
) -> tuple[np.ndarray, float]:
    """(the mask of the mean of probabilities, after the CRF if there is one, and a seed's after its
    own; the mean IoU of the two masks that each gives by itself).

    Not in the papers: what two different views of a photograph agree on is right more often than
    either.
    """
    own = probabilities if crf is None else crf_probabilities(image, probabilities, crf)
    seen = np.zeros_like(own)
    seen[mask_values(seed.keys)] = cam_to_marginals(seed.cam)
    masks = [scores.argmax(axis=0).astype(np.uint8) for scores in (own, seen, own + seen)]
    counts = confusion_matrix(masks[0], masks[1], len(probabilities))
    return masks[2], round(float(iou_table(counts).miou_skip) / 100, 4)


def overlay_meta(name: str, meta: dict[str, Any]) -> dict[str, str]:
    """What the overlay of an image's mask says of itself; meta: what the mask does."""
    return {"id": name, "made_from": digest(meta)}


def write_outputs(
    path: Path,
    probabilities: np.ndarray,
    crf: CrfSettings | None,
    out_mask: Path | None,
    save_png: Path | None,
    meta: dict,
    seed: Path | None = None,
) -> np.ndarray:
    """Write the overlay, if save_png is a folder, then <out_mask>/<id>.png, which says that the
    image is finished; return the mask. seed: the CAM file that it is joined with.
    """
    image = read_image(path, meta[EXIF_KEY])
    if seed is None:
        mask = probability_mask(image, probabilities, crf)
    else:
        cam = load_seed(seed, image.shape[:2], meta["classes"], (CRF_STAGE,))
        if WITHIN_LABELS in meta:
            require_cam_labels(
                cam, np.isin(np.arange(len(meta["classes"])), meta[WITHIN_LABELS]), seed
            )
        mask, agreement = joined_mask(image, probabilities, crf, cam)
        meta = made_from(meta, seed, cam) | {AGREEMENT: agreement}
    if save_png is not None:
        made = overlay_meta(path.stem, meta)
        write_image(save_png / f"{path.stem}_seg.png", mask_overlay(image, mask), made)
    if out_mask is not None:
        write_mask(out_mask / f"{path.stem}.png", mask, meta)
    return mask


def joined_seeds(
    args: argparse.Namespace, root: Path, ids: Sequence[str], classes: Sequence[str]
) -> dict[str, Path]:
    """id -> file in --cam_dir, of the images that have one; notes how many have none.

    Raises InputError for a folder that has none of them, and for files of other photographs.
    """
    cam_dir = args.cam_dir
    seeds = {name: find_cam(cam_dir, name) for name in ids if has_cam(cam_dir, name)}
    if not seeds:
        find_seeds(cam_dir, ids)  # says what the folder is
    open_cam_folder(cam_dir, AUTO_FORMAT, root, list(seeds), classes, args.exif)
    require_same_photographs(cam_dir, root, list(seeds))
    if alone := len(ids) - len(seeds):
        note(
            f"note: {alone} of {len(ids)} images have no CAM file in {cam_dir}: the network "
            "makes their masks by itself"
        )
    return seeds


def infer_list(
    args: argparse.Namespace,
    net: SegNet,
    crf: CrfSettings | None,
    meta: dict[str, Any],
    device: torch.device,
) -> None:
    """Write a mask for every image of the list that has none made with the same weights and
    settings.
    """
    images = load_inference_list(args)
    root, every, ids = images.root, images.every, images.ids
    out_mask, save_png = (
        Path(args.out_mask or OUT_MASK),
        Path(args.save_png) if args.save_png else None,
    )
    submission = (
        submission_folder(args.submission, every, meta["classes"]) if args.submission else None
    )
    found = require_every(image_path, root, ids, f"images of {args.infer_list}")
    photographs, labels = dict(zip(ids, found, strict=True)), None
    metas = {name: meta | {PHOTOGRAPH_DIGEST: file_digest(photographs[name])} for name in ids}
    if args.within_labels:
        rows = load_labels(root, ids, meta["classes"], args.within_labels)
        labels = dict(zip(ids, rows, strict=True))
        for name in ids:
            metas[name] |= {WITHIN_LABELS: np.flatnonzero(labels[name]).tolist()}
    seeds = joined_seeds(args, root, ids, meta["classes"]) if args.cam_dir else {}
    todo = [
        name
        for name in ids
        if args.overwrite
        or not mask_is_finished(out_mask / f"{name}.png", metas[name], seeds.get(name))
    ]
    for name in sorted(set(ids) - set(todo)) if save_png else ():
        path, mask_path = save_png / f"{name}_seg.png", out_mask / f"{name}.png"
        made = overlay_meta(name, read_mask_meta(mask_path))
        if read_picture_meta(path) != made:
            image = read_image(photographs[name], args.exif)
            write_image(path, mask_overlay(image, read_mask(mask_path)), made)
    note_finished(len(ids) - len(todo), len(ids), "masks")
    paths = [photographs[name] for name in todo]
    data = InferenceSet(todo, paths, None, args.scales, net.mean, net.std, args.exif)
    workers = min(args.num_workers, len(todo))
    with background_calls(workers if crf else 0) as call:
        for sample in progress(inference_loader(data, args.num_workers), unit="img"):
            size = tuple(int(side) for side in sample["size"])
            with naming_file(sample["id"]):
                probabilities = image_probabilities(
                    net, sample["scaled"], size, args.flip, args.precision, device
                )
            name = sample["id"]
            if labels is not None:
                probabilities = within_labels(probabilities, labels[name])
            outputs = (out_mask, save_png, metas[name], seeds.get(name))
            call(write_outputs, photographs[name], probabilities, crf, *outputs)
    print(f"masks ({SEG_MASK_STAGE}): {out_mask}, {share_note(len(every))}")
    if submission is not None:
        write_submission(submission, [out_mask / f"{name}.png" for name in ids])
        print(
            f"submission: {submission}, {share_note(len(every))}; `tar -czf results.tgz -C "
            f"{args.submission} results` packs it"
        )


def photograph_outputs(args: argparse.Namespace, photograph: Photograph) -> dict[str, Path]:
    """What is written of a photograph: mask, scores, overlay, confidence if asked; of a film the
    overlaid film and the scores.
    """
    folder, name = photograph.folder(args.out_mask), photograph.name
    overlays = photograph.folder(args.save_png or args.out_mask)
    if photograph.is_film:
        overlay = overlays / f"{name}_seg{WRITTEN_SUFFIX}"
        return {"overlay": overlay, "scores": folder / f"{name}_scores.json"}
    # beside the photograph <name>.png may be the photograph itself
    paths = {
        "mask": folder / (f"{name}_mask.png" if args.out_mask is None else f"{name}.png"),
        "scores": folder / f"{name}_scores.json",
        "overlay": overlays / f"{name}_seg.png",
    }
    if args.confidence:
        paths["confidence"] = folder / f"{name}_confidence.png"
    return paths


class ClassScores:
    """The share of the pixels that each class has, and how sure it is there, over masks that are
    added one by one; names: of the labels, background first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.pixels, self.sums = np.zeros(len(names)), np.zeros(len(names))

    def add(self, mask: np.ndarray, confidence: np.ndarray) -> None:
        """Count a mask (H, W) and its probability (H, W)."""
        self.pixels += np.bincount(mask.ravel(), minlength=len(self.names))
        self.sums += np.bincount(mask.ravel(), confidence.ravel(), minlength=len(self.names))

    def result(self) -> dict[str, dict[str, float]]:
        """name -> share and confidence, 0..1, of the classes in the masks."""
        return {
            self.names[label]: {
                "share": round(float(self.pixels[label] / self.pixels.sum()), 4),
                "confidence": round(float(self.sums[label] / self.pixels[label]), 4),
            }
            for label in np.flatnonzero(self.pixels)
        }


def photograph_mask(
    image: np.ndarray, probabilities: np.ndarray, crf: CrfSettings | None
) -> tuple[np.ndarray, np.ndarray]:
    """(label mask, its probability), (H, W), of a photograph (H, W, 3) from probabilities (K, h, w)
    of it, reduced.
    """
    if crf is not None:
        small = resize(image, *probabilities.shape[1:])
        probabilities = crf_probabilities(small, probabilities, crf)
    return enlarged_mask(probabilities, image.shape[:2])


def write_photograph(
    image: np.ndarray,
    probabilities: np.ndarray,
    crf: CrfSettings | None,
    paths: dict[str, Path],
    meta: dict[str, Any],
) -> dict[str, dict[str, float]]:
    """Write the outputs of a photograph (H, W, 3) from probabilities (K, h, w) of it, reduced;
    return the scores of the classes in the mask.
    """
    names = (BACKGROUND, *meta["classes"])
    mask, confidence = photograph_mask(image, probabilities, crf)
    counted = ClassScores(names)
    counted.add(mask, confidence)
    scores = counted.result()
    if "confidence" in paths:
        write_image(paths["confidence"], (confidence.clip(0, 1) * 255).round().astype(np.uint8))
    write_image(paths["overlay"], with_legend(mask_overlay(image, mask), mask, names))
    write_json(paths["scores"], scores)
    write_mask(paths["mask"], mask, meta)
    return scores


def write_film(
    path: Path,
    probabilities_of: Callable[[Path, np.ndarray], np.ndarray],
    crf: CrfSettings | None,
    paths: dict[str, Path],
    names: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Write the overlaid film of the film at path, as fast and as large, and the scores of the
    classes in all of it; return these. A picture at a time is in memory.

    probabilities_of: (path, picture (H, W, 3) uint8) -> (K, h, w); names: background first
    """
    counted = ClassScores(names)
    with open_film(path) as film, film_writer(paths["overlay"], film) as write:
        bar = progress(total=film.count or None, unit="picture", desc=path.name, leave=False)
        with bar:
            for time, picture in film.pictures:
                mask, confidence = photograph_mask(picture, probabilities_of(path, picture), crf)
                counted.add(mask, confidence)
                write(time, with_inner_legend(mask_overlay(picture, mask), mask, names))
                bar.update()
    write_json(paths["scores"], counted.result())
    return counted.result()


def infer_photographs(
    args: argparse.Namespace,
    net: SegNet,
    crf: CrfSettings | None,
    meta: dict[str, Any],
    device: torch.device,
) -> None:
    """Write mask, overlay and scores of each photograph and film of --image, and print the classes
    in it.
    """
    outputs = (args.out_mask, args.save_png or args.out_mask)
    every = find_photographs(args.image, "seg", outputs, films=True)
    require_outputs(every, lambda one: photograph_outputs(args, one).values())
    still = [one.path for one in every if not one.is_film]
    training = net.training_facts if args.onnx else read_training(args.weights)
    long_side = chosen_long_side(args, training, still)

    def probabilities_of(path: Path, image: np.ndarray) -> np.ndarray:
        with naming_file(path):
            size, scaled = scaled_images(image, args.scales, net.mean, net.std, long_side)
            return image_probabilities(net, scaled, size, args.flip, args.precision, device)

    photographs = shard(every)
    for one in progress(photographs, unit="file") if len(photographs) > 1 else photographs:
        paths = photograph_outputs(args, one)
        if one.is_film:
            names = (BACKGROUND, *meta["classes"])
            scores = write_film(one.path, probabilities_of, crf, paths, names)
        else:
            image = read_image(one.path, args.exif)
            probabilities = probabilities_of(one.path, image)
            made = meta | {"long_side": long_side, PHOTOGRAPH_DIGEST: file_digest(one.path)}
            scores = write_photograph(image, probabilities, crf, paths, made)
        seen = ", ".join(f"{name} {100 * its['share']:.0f} %" for name, its in scores.items())
        shown = [what for what in ("mask", "overlay") if what in paths]
        written = ", ".join(f"{what}: {paths[what]}" for what in shown)
        tqdm.write(f"{one.path}: {seen}; {written}")


def load_network(
    args: argparse.Namespace, device: torch.device
) -> tuple[SegNet | OnnxSeg, dict[str, Any], tuple[str, ...]]:
    """(network on the device, its config, class names) of --weights or --onnx."""
    if args.onnx is None:
        net, config, classes = load_seg(args.weights)
        return net.to(device, memory_format=torch.channels_last), config, classes
    if not isinstance(args.weights, Unasked):
        raise InputError("--onnx is a whole network, in the place of --weights; leave one out")
    if args.precision != "fp32" or args.device not in ("auto", "cpu"):
        raise InputError("--onnx computes in fp32 on the CPU; leave --precision and --device out")
    return load_onnx(args.onnx)


def main(args: argparse.Namespace) -> None:
    """Write the masks of a list, or the overlays of single photographs."""
    require_photograph_flags(args)
    device = choose_device("cpu" if args.onnx else args.device, KEEP_SMALL)
    net, config, classes = load_network(args, device)
    crf = None if args.crf == NO_CRF else named_settings(args.crf, **dict(args.crf_set))
    meta = {
        "stage": SEG_MASK_STAGE,
        "units": MASK_UNITS,
        "arch": config["arch"],
        "backbone": config["backbone"],
        "weights": file_digest(args.onnx or args.weights),
        "scales": list(args.scales),
        "flip": args.flip,
        "precision": args.precision,
        EXIF_KEY: args.exif,
        "crf": asdict(crf) if crf else None,
        "classes": list(classes),
    }
    for flag in ("within_labels", "cam_dir"):
        if args.image and getattr(args, flag):
            raise InputError(f"--{flag} is for --infer_list; photographs of --image have none")
    infer = infer_photographs if args.image else infer_list
    infer(args, net, crf, meta, device)


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
