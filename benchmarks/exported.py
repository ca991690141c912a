"""The exported DeepLab from photograph to mask by onnxruntime: milliseconds, and what int8
weights and activations change.

    python export_seg.py --weights results/seg/seg.pth --export onnx
    python -m benchmarks.exported --onnx results/seg/seg.onnx --voc12_root DIR --list val

Each way is a process of its own, and the ways go in turn, without spinning threads.
int8: as export_seg.py --int8 makes it, with scales from the first --calibrate photographs of the
list. Agreement: pixels that get the same class as by float32. mIoU: of the network without mirror
image, scales and CRF, by the masks of the list, where the data set has the network's classes, as a
test folder of experiments/own_sets.py has.
Results: benchmarks/RESULTS.md.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.common import measure_apart, photographs, print_json, section
from network.seg_onnx import load_onnx
from tool.file.images import read_image, read_mask
from tool.metrics import confusion_matrix, iou_table
from tool.run.flags import positive_int
from voc12.class_list import load_class_list
from voc12.lists import image_path, mask_path

SIZE = (384, 512)  # 500 x 375 and a border, for networks whose sides must be multiples of 32


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", required=True, help="a file of export_seg.py")
    parser.add_argument("--voc12_root", help="photographs in VOC layout (default: the sample)")
    parser.add_argument("--list", default="train", help="which of them (default %(default)s)")
    parser.add_argument("--images", type=positive_int, default=20, help="default %(default)s")
    parser.add_argument("--calibrate", type=positive_int, default=10, help="default %(default)s")
    parser.add_argument("--threads", type=positive_int, default=2, help="default %(default)s")
    parser.add_argument(
        "--rounds", type=positive_int, default=3, help="of each way (default %(default)s)"
    )
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def network_input(path: Path) -> np.ndarray:
    """(1, 3, H, W) float32 in 0..1: the photograph in the corner of a grey image of SIZE."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    pixels = read_image(path)[: SIZE[0], : SIZE[1]]
    image[: len(pixels), : pixels.shape[1]] = pixels
    return (image.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)


def time_masks(args: argparse.Namespace, paths: list[Path]) -> None:
    """Print milliseconds from file to mask as JSON; masks go to --out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside other work
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    masks, seconds = [], []
    for path in paths:
        start = time.perf_counter()
        (logits, *_) = session.run(None, {name: network_input(path)})
        masks.append(logits[0].argmax(axis=0).astype(np.uint8))
        seconds.append(time.perf_counter() - start)
    np.save(args.out, np.stack(masks))
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    print_json({"ms": median(seconds[1:]) * 1e3, "cpu": (cpu.ru_utime + cpu.ru_stime) / len(paths)})


def mean_iou(masks: np.ndarray, truths: list[Path], labels: int) -> float:
    """mIoU (%) of masks (n, *SIZE) by the true masks of their photographs, which lie in the
    corner.
    """
    counts = np.zeros((labels, labels), np.int64)
    for mask, path in zip(masks, truths, strict=True):
        truth = read_mask(path)[: SIZE[0], : SIZE[1]]
        counts += confusion_matrix(mask[: len(truth), : truth.shape[1]], truth, labels)
    return float(iou_table(counts).miou_skip)


def quantised_files(source: Path, folder: Path, paths: list[Path]) -> dict[str, Path]:
    """The ONNX file of each way."""
    from network.seg_int8 import quantised  # slow to import, and nothing to the timed processes

    int8 = folder / "int8.onnx"
    int8.write_bytes(quantised(source.read_bytes(), [network_input(path) for path in paths]))
    return {"float32": source, "int8": int8}


def main(args: argparse.Namespace) -> None:
    """Time every way in turn; print the section."""
    root, ids, what = photographs(args, args.images)
    paths = [image_path(root, name) for name in ids]
    if args.out:
        time_masks(args, paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(args.onnx).resolve()
        files = quantised_files(source, Path(folder), paths[: args.calibrate])
        runs: dict[str, list[dict]] = {way: [] for way in files}
        for _ in range(args.rounds):
            for way, file in files.items():
                words = ["--onnx", file, "--voc12_root", root, "--list", args.list]
                words += ["--images", args.images, "--threads", args.threads]
                words += ["--out", Path(folder) / f"{way}.npy"]
                runs[way].append(measure_apart("benchmarks.exported", *words))
        masks = {way: np.load(Path(folder) / f"{way}.npy") for way in files}
        sizes = {way: file.stat().st_size / 1e6 for way, file in files.items()}
    classes = load_onnx(source)[2]
    is_scored = load_class_list(root) == classes
    truths = [mask_path(root, name) for name in ids] if is_scored else []
    rows = []
    for way in files:
        ms, cpu = (median(run[key] for run in runs[way]) for key in ("ms", "cpu"))
        agreement = (masks[way] == masks["float32"]).mean()
        miou = f"{mean_iou(masks[way], truths, len(classes) + 1):.1f}" if is_scored else ""
        cells = [f"{ms:.0f}", f"{cpu * 1e3:.0f}", f"{sizes[way]:.1f}"]
        rows.append([way, *cells, f"{agreement:.2%}", miou])
    header = [
        "way",
        "ms a photograph",
        "CPU ms, start included",
        "file, MB",
        "agreement",
        "mIoU",
    ]
    words = f"{what}, {args.threads} threads, PIL {Image.__version__}."
    print(section("Exported DeepLab", "python -m benchmarks.exported", header, rows, words))


if __name__ == "__main__":
    main(parse_args())
