"""Make CAM files from a trained network: one a photograph, the classes of its image label, merged over scales and flips.

Reads the weights of train_cpn.py (or the authors' CPN.pth), an image list and image labels in VOC layout; writes
<out_cam>/<id>.npz, whose format tool/cam_file.py describes. Finished files made by the same weights and settings are kept.

With --image, photographs without list or labels: the classes are those that the classifier itself sees, the overlays go beside
the photograph.

    python infer_cam.py --image photo.jpg --weights results/cpn/cpn.pth
    python infer_cam.py --voc12_root data/VOCdevkit/VOC2012 --weights results/cpn/cpn.pth --infer_list train --out_cam results/cpn/cam_train
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from network.cpn import PRCM_KEYS, REFINEMENTS, CPNHead
from network.weights import load_network
from tool.cam import merge_passes
from tool.cam_file import FORMATS, CamFile, find_cam, load_cam, save_cam
from tool.device import KEEP_SMALL, PRECISIONS, autocast, choose_device, give_back_free_memory
from tool.errors import InputError, run_script
from tool.files import file_digest, require_dir
from tool.flags import DEFAULT_WORKERS, bool_flag, non_negative_int, positive_number
from tool.images import read_image, write_image
from tool.losses import global_average
from tool.overlay import caption, overlay
from tool.progress import progress
from tool.seed import PLAIN_STAGE, REFINED_STAGE
from tool.shards import shard, share_note
from tool.trainer import ignore_signals, to_device
from tool.transforms import normalise, to_tensor
from voc12.constants import CLASS_LIST_FILE, DATA_HELP
from voc12.dataset import InferenceSet, require_every
from voc12.labels import load_labels
from voc12.lists import LIST_HELP, image_path, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
WEIGHTS = "results/cpn/cpn.pth"
OUT_CAM = "results/cpn/cam"

STAGES = {"plain": PLAIN_STAGE, "refined": REFINED_STAGE}
# From here up a class counts as seen in a photograph without labels.
SEEN_PROBABILITY = 0.5
PHOTOGRAPH = "photograph"  # the digest of the file, in the meta of a CAM file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--infer_list", default="train", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--labels", default="auto", help="image labels: auto, npy, xml, mask, or a .npy file (default %(default)s)")
    data.add_argument(
        "--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="loader processes (default %(default)s)"
    )

    data.add_argument("--image", nargs="+", metavar="FILE", help="photographs to do instead of a list")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights", default=WEIGHTS, help="weights of train_cpn.py, or the authors' CPN.pth (default %(default)s)"
    )
    model.add_argument("--network", help="accepted for the released command line; the weights say which network they are")
    model.add_argument(
        "--cam", choices=("auto", *STAGES), default="auto", help="which map; auto is plain for --method cam, else refined"
    )
    model.add_argument(
        "--refinement",
        choices=[name for name in REFINEMENTS if name != "none"],
        help="modules that refine the CAM here, whatever refined it in training (default the same; none is --cam plain); with --cam "
        "refined also on a network of --method cam, whose modules are as they start",
    )
    model.add_argument("--prcm", choices=PRCM_KEYS, help="memory order of PRCM's keys (default as in training)")
    model.add_argument(
        "--scales", type=positive_number, nargs="+", default=(0.5, 1.0, 1.5, 2.0), help="image scales (default 0.5 1.0 1.5 2.0)"
    )
    model.add_argument("--flip", type=bool_flag, default=True, help="add the mirrored image at each scale (default true)")
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of convolutions (default %(default)s)")
    model.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")

    output = parser.add_argument_group("output")
    output.add_argument("--out_cam", help=f"folder for the CAM files (default {OUT_CAM}; with --image none)")
    output.add_argument(
        "--format",
        choices=FORMATS,
        default="npz",
        help="npz (ours); released (halved maps) or irn, which are always made again (default %(default)s)",
    )
    output.add_argument(
        "--save_png", help="folder for overlays on the photograph, <id>_<class>.png (default none; with --image the photograph's)"
    )
    output.add_argument(
        "--overwrite", type=bool_flag, nargs="?", const=True, default=False, help="make finished files again (default false)"
    )
    return parser.parse_args(argv)


@torch.inference_mode()
def image_cam(
    net: CPNHead, scaled: list[Tensor], size: tuple[int, int], keys: Tensor, refined: bool, flip: bool, precision: str
) -> np.ndarray:
    """The merged CAM of one image: (n, H, W) float32, unit scale.

    scaled: normalised images (3, h, w), one a scale; size: the original (H, W); keys: (n,) foreground classes to make.
    Each pass resizes the maps to the pass's image and then to the original, as released.
    """
    if not len(keys):
        return np.zeros((0, *size), dtype=np.float32)
    device = keys.device
    passes, flipped = [], []
    for image in scaled:
        pair = torch.stack([image, image.flip(-1)]) if flip else image[None]
        pair = to_device({"image": pair}, device)["image"]
        # A CPU gains nothing from pairs, and needs half the memory without.
        for part in pair.split(1 if device.type == "cpu" else 2):
            with autocast(device, precision):
                cam = net.forward_low_resolution(part)[1] if refined else net.cam_and_features(part)[0]
            cam = cam[:, keys + 1].float()
            cam = F.interpolate(cam, part.shape[2:], mode="bilinear", align_corners=True)
            passes.append(F.interpolate(cam, size, mode="bilinear", align_corners=False))
        flipped += [False, True][: len(pair)]
    return merge_passes(torch.cat(passes), torch.tensor(flipped, device=device)).cpu().numpy()


def is_finished(out_cam: Path, name: str, keys: np.ndarray, meta: dict, file_format: str) -> bool:
    """Whether a whole CAM file of this image, with these classes and this meta, is there already.

    Files of the field's formats do not say what made them, so they never count. A file that does not say of which photograph it is,
    as older ones, counts whatever the photograph.
    """
    path = out_cam / f"{name}.npz"
    if file_format != "npz" or not path.is_file():
        return False
    try:
        found = load_cam(path)
    except InputError:
        return False
    return np.array_equal(found.keys, keys) and {PHOTOGRAPH: meta[PHOTOGRAPH]} | found.meta == meta


def overlay_paths(cam_file: CamFile, folder: str | Path, classes: Sequence[str]) -> list[Path]:
    """Where write_overlays writes."""
    return [Path(folder) / f"{cam_file.id}_{classes[key]}.png" for key in cam_file.keys]


def write_overlays(cam_file: CamFile, image: np.ndarray, folder: str | Path, classes: Sequence[str]) -> list[Path]:
    """Write <folder>/<id>_<class>.png for each class of the file; their paths."""
    paths = overlay_paths(cam_file, folder, classes)
    for path, key, cam in zip(paths, cam_file.keys, cam_file.cam, strict=True):
        write_image(path, caption(overlay(image, cam), classes[key]))
    return paths


def write_outputs(cam_file: CamFile, path: Path, classes: Sequence[str], out_cam: Path, args: argparse.Namespace) -> None:
    """Write the overlays, if asked, then the CAM file, which says that the image is finished."""
    if args.save_png:
        write_overlays(cam_file, read_image(path), args.save_png, classes)
    save_cam(out_cam, cam_file, args.format)


@torch.inference_mode()
def predict_classes(net: CPNHead, image: Tensor) -> tuple[Tensor, Tensor]:
    """(keys, scores): the foreground classes whose probability exceeds 0.5, or the likeliest one if none does.

    image: (3, H, W), normalised; keys: (n,) int64; scores: (n,), probabilities, from the global average of the plain CAM.
    """
    probability = global_average(net.cam_and_features(image[None])[0], image.shape[1:])[0].sigmoid()
    keys = torch.nonzero(probability > SEEN_PROBABILITY).flatten()
    keys = keys if len(keys) else probability.argmax()[None]
    return keys, probability[keys]


def infer_list(
    args: argparse.Namespace, net: CPNHead, classes: Sequence[str], refined: bool, meta: dict, device: torch.device
) -> None:
    """Write a CAM file for every image of the list that has none made by the same weights and settings."""
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    if (root / CLASS_LIST_FILE).is_file() and (own := load_class_list(root)) != tuple(classes):
        raise InputError(f"{root / CLASS_LIST_FILE} says {', '.join(own[:3])} ..., {args.weights} {', '.join(classes[:3])} ...")
    every = load_ids(root, args.infer_list)
    ids = shard(every)
    labels = load_labels(root, ids, classes, args.labels)
    paths = require_every(image_path, root, ids, f"images of {args.infer_list}")
    out_cam = Path(args.out_cam or OUT_CAM)
    metas = [meta | {PHOTOGRAPH: file_digest(path)} for path in paths]
    todo = [
        index
        for index, name in enumerate(ids)
        if args.overwrite or not is_finished(out_cam, name, np.flatnonzero(labels[index]), metas[index], args.format)
    ]
    if len(todo) < len(ids):
        tqdm.write(f"{len(ids) - len(todo)} of {len(ids)} CAM files are there already, made with these weights and settings")
    for index in sorted(set(range(len(ids))) - set(todo)) if args.save_png else ():
        cam_file = load_cam(find_cam(out_cam, ids[index]))
        if not all(path.is_file() for path in overlay_paths(cam_file, args.save_png, classes)):
            write_overlays(cam_file, read_image(paths[index]), args.save_png, classes)
    data = InferenceSet([ids[i] for i in todo], [paths[i] for i in todo], labels[todo], args.scales, net.mean, net.std)
    loader = DataLoader(data, batch_size=None, num_workers=min(args.num_workers, len(todo)), worker_init_fn=ignore_signals)

    maps = silent = 0
    with ThreadPoolExecutor(max_workers=1) as writer:  # writes one image while the next is computed
        pending: Future | None = None
        for index, sample in enumerate(progress(loader, unit="img")):
            keys = torch.nonzero(sample["label"]).flatten().to(device)
            size = tuple(int(side) for side in sample["size"])
            cam = image_cam(net, sample["scaled"], size, keys, refined, args.flip, args.precision)
            if pending is not None:
                pending.result()
            cam_file = CamFile(sample["id"], keys.cpu().numpy(), cam, size, metas[todo[index]])
            maps, silent = maps + len(cam), silent + sum(not (map_ > 0).any() for map_ in cam)
            pending = writer.submit(write_outputs, cam_file, data.paths[index], classes, out_cam, args)
        if pending is not None:
            pending.result()
    print(f"CAM files ({meta['stage']}, {args.format}): {out_cam}, {share_note(len(every))}")
    if silent:
        print(
            f"note: {silent} of {maps} new maps respond nowhere; if they are many, the network has learnt little: look at its losses"
        )


def infer_photographs(
    args: argparse.Namespace, net: CPNHead, classes: Sequence[str], refined: bool, meta: dict, device: torch.device
) -> None:
    """Write overlays, and CAM files if asked, for photographs without labels; print what the classifier sees in each."""
    names = [Path(name).stem for name in args.image]
    if (args.out_cam or args.save_png) and (twice := next((name for name in names if names.count(name) > 1), None)):
        raise InputError(f"--image has two photographs named {twice}, whose files would be the same; do them one after the other")
    paths = [Path(name) for name in shard(args.image)]
    data = InferenceSet([path.stem for path in paths], paths, None, args.scales, net.mean, net.std)
    for path, sample in zip(paths, data, strict=False):
        image = read_image(path)
        keys, scores = predict_classes(net, to_tensor(normalise(image, net.mean, net.std)).to(device))
        cam = image_cam(net, sample["scaled"], sample["size"], keys, refined, args.flip, args.precision)
        cam_file = CamFile(path.stem, keys.cpu().numpy(), cam, sample["size"], meta)
        if args.out_cam:
            save_cam(args.out_cam, cam_file, args.format)
        overlays = write_overlays(cam_file, image, args.save_png or path.parent, classes)
        seen = ", ".join(f"{classes[key]} {score:.2f}" for key, score in zip(keys.tolist(), scores.tolist(), strict=True))
        print(f"{path}: {seen}; overlays: {', '.join(map(str, overlays))}")


def main(args: argparse.Namespace) -> None:
    """Write the CAM files of a list, or the overlays of single photographs."""
    device = choose_device(args.device, KEEP_SMALL)
    net, config, classes = load_network(args.weights)
    net.to(device, memory_format=torch.channels_last)
    give_back_free_memory()
    refined = args.cam == "refined" or (args.cam == "auto" and config["method"] != "cam")
    if refined and config["method"] == "cam" and not args.refinement:
        raise InputError(
            f"--cam refined: {args.weights} was trained with --method cam, its refinement is untrained; use --cam plain, or name the "
            "untrained modules to use, e.g. --refinement pcm"
        )
    if not refined and (args.refinement or args.prcm):
        raise InputError("--refinement and --prcm are for refined maps; this network or --cam makes plain ones")
    net.refinement, net.prcm = args.refinement or net.refinement, args.prcm or net.prcm
    meta = {
        "stage": STAGES["refined" if refined else "plain"],
        **{name: value for name, value in (("refinement", args.refinement), ("prcm", args.prcm)) if value},  # else as trained
        "method": config["method"],
        "backbone": config["backbone"],
        "weights": file_digest(args.weights),
        "scales": list(args.scales),
        "flip": args.flip,
        "precision": args.precision,
        "classes": list(classes),
    }
    infer = infer_photographs if args.image else infer_list
    infer(args, net, classes, refined, meta, device)


if __name__ == "__main__":
    run_script(main, parse_args)
