"""The exported DeepLab from photograph to mask by onnxruntime: milliseconds, and what int8
weights and activations change.

    python export_seg.py --weights results/seg/seg.pth --export onnx
    python -m benchmarks.exported --onnx results/seg/seg.onnx --voc12_root DIR --list val

Each way is a process of its own, and the ways go in turn, without spinning threads.
dynamic: int8 weights, activations scaled as they come; static: their scales from --calibrate
photographs of the list. Agreement: pixels that get the same class as by float32.
Results: benchmarks/RESULTS.md.
"""

import argparse
import contextlib
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.common import measure_apart, photographs, print_json, section
from tool.file.images import read_image
from tool.run.flags import positive_int
from voc12.lists import image_path

SIZE = (384, 512)  # 500 x 375 and a border, for networks whose sides must be multiples of 32
WAYS = ("float32", "dynamic", "static")


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


def quantised(source: Path, folder: Path, paths: list[Path]) -> dict[str, Path]:
    """The ONNX file of each way."""
    from onnxruntime import quantization  # slow to import, and nothing to the timed processes

    ready, dynamic, static = (folder / f"{name}.onnx" for name in ("ready", "dynamic", "static"))
    # Its symbolic shapes give up on the exported sides; plain shapes are enough. What it keeps on
    # the way goes into the working folder.
    with contextlib.chdir(folder):
        quantization.quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    name = onnxruntime.InferenceSession(str(source)).get_inputs()[0].name

    class Photographs(quantization.CalibrationDataReader):
        """Inputs one after the other."""

        def __init__(self) -> None:
            self.inputs: Iterator = iter(paths)

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.inputs, None)
            return None if path is None else {name: network_input(path)}

    quantization.quantize_dynamic(str(ready), str(dynamic))
    quantization.quantize_static(
        str(ready),
        str(static),
        Photographs(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )
    return {"float32": source, "dynamic": dynamic, "static": static}


def main(args: argparse.Namespace) -> None:
    """Time every way in turn; print the section."""
    root, ids, what = photographs(args, args.images)
    paths = [image_path(root, name) for name in ids]
    if args.out:
        time_masks(args, paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(args.onnx).resolve()
        files = quantised(
            source, Path(folder), [path.resolve() for path in paths[: args.calibrate]]
        )
        runs: dict[str, list[dict]] = {way: [] for way in files}
        for _ in range(args.rounds):
            for way, file in files.items():
                words = ["--onnx", file, "--voc12_root", root, "--list", args.list]
                words += ["--images", args.images, "--threads", args.threads]
                words += ["--out", Path(folder) / f"{way}.npy"]
                runs[way].append(measure_apart("benchmarks.exported", *words))
        masks = {way: np.load(Path(folder) / f"{way}.npy") for way in files}
        sizes = {way: file.stat().st_size / 1e6 for way, file in files.items()}
    rows = []
    for way in files:
        ms, cpu = (median(run[key] for run in runs[way]) for key in ("ms", "cpu"))
        agreement = (masks[way] == masks["float32"]).mean()
        cells = [f"{ms:.0f}", f"{cpu * 1e3:.0f}", f"{sizes[way]:.1f}"]
        rows.append([way, *cells, f"{agreement:.2%}"])
    header = [
        "way",
        "ms a photograph",
        "CPU ms, start included",
        "file, MB",
        "agreement",
    ]
    words = f"{what}, {args.threads} threads, PIL {Image.__version__}."
    print(section("Exported DeepLab", "python -m benchmarks.exported", header, rows, words))


if __name__ == "__main__":
    main(parse_args())
