"""The loader of a CPN training: what a sample costs by stage, samples a second, and how long the
training step waits for data.

python -m benchmarks.data_pipeline --voc12_root DIR
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.common import add_photographs_flag, photographs, section
from network import build_cpn
from network.cam_steps import train_cpn_step
from tool.errors import run_script
from tool.file.images import read_image
from tool.file.region_cache import RegionCache
from tool.patches import PatchMask
from tool.run.device import autocast, choose_device
from tool.run.flags import positive_int, worker_count
from tool.run.trainer import to_device
from tool.schedule import build_optimizer
from tool.transforms import TrainTransform, View, colour_jitter, resize
from voc12.dataset import TrainSet, epoch_loader
from voc12.lists import image_path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES = 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_photographs_flag(parser)
    parser.add_argument(
        "--images", type=positive_int, default=64, help="photographs (default %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument(
        "--backbone",
        default="efficientnet_lite0",
        help="network of the training loop (default %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        default=8,
        help="of the training loop (default %(default)s)",
    )
    parser.add_argument(
        "--crop_size",
        type=positive_int,
        default=224,
        help="of the training loop, pixels (default %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        help="of the training loop, fp32 or bf16 (default %(default)s)",
    )
    parser.add_argument(
        "--num_workers", type=worker_count, default=2, help="loader processes (default %(default)s)"
    )
    return parser.parse_args(argv)


def sample_set(root: Path, ids: list[str], crop_size: int, folder: str) -> TrainSet:
    """Training samples of crops of a size, long sides from once to 1.7 times of it as released;
    superpixels kept in folder.
    """
    resize_long = (crop_size, round(crop_size * 768 / 448))
    transform = TrainTransform(MEAN, STD, crop_size, resize_long)
    labels = np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(len(ids)) % NUM_CLASSES]
    regions = RegionCache(Path(folder), MEAN, STD, crop_size=crop_size, resize_long=resize_long)
    return TrainSet(root, ids, labels, transform, PatchMask(), 0, regions)


def stage_seconds(data: TrainSet) -> dict[str, float]:
    """The median seconds of each stage of a sample, on this core, and of a whole one; superpixels
    already kept.
    """
    times: dict[str, list[float]] = {}

    def timed(stage: str, function: Callable, *arguments: object) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        times.setdefault(stage, []).append(time.perf_counter() - start)
        return result

    def cp_mask(
        photograph: np.ndarray, crop: np.ndarray, view: View, rng: np.random.Generator
    ) -> None:
        data.patch_mask(crop, rng, data.regions.crop(photograph, view))

    still = replace(data.transform, jitter=(0, 0, 0, 0))
    for index, name in enumerate(data.ids):
        data[0, index]  # keeps the superpixels
        photograph = timed("decode", read_image, image_path(data.voc12_root, name))
        crop, view = still.with_view(photograph, np.random.default_rng(index))
        small = timed("resize", resize, photograph, view.height, view.width)
        timed(
            "colour jitter",
            colour_jitter,
            small,
            data.transform.jitter,
            np.random.default_rng(index),
        )
        timed("CP mask", cp_mask, photograph, crop, view, np.random.default_rng(index))
        timed("whole sample", data.__getitem__, (0, index))
    return {name: median(values) for name, values in times.items()}


def training_loop(args: argparse.Namespace, data: TrainSet) -> tuple[float, float]:
    """(images a second, fraction of the time that the step waits for its batch), the first two
    steps left out.
    """
    device = choose_device(args.device)
    net = build_cpn(args.backbone).to(device, memory_format=torch.channels_last).train()
    optimizer, _ = build_optimizer(net, 0.01, 5e-4, 5e-4, max_step=1000)
    waited, computed = [], []
    batches = iter(
        epoch_loader(data, args.batch_size, 0, args.num_workers, pin_memory=device.type == "cuda")(
            0, 0
        )
    )
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waited.append(time.perf_counter() - start)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, args.precision):
            loss = train_cpn_step(net, to_device(batch, device))["loss"]
        loss.backward()
        optimizer.step()
        loss.item()  # a GPU is done by then
        computed.append(time.perf_counter() - start - waited[-1])
    wait, work = sum(waited[2:]), sum(computed[2:])
    return args.batch_size * len(waited[2:]) / (wait + work), wait / (wait + work)


def main(args: argparse.Namespace) -> None:
    """Print the section of RESULTS.md."""
    root, ids, what = photographs(args, args.images)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for crop_size in dict.fromkeys((448, args.crop_size)):
            stages = stage_seconds(sample_set(root, ids, crop_size, folder))
            whole = stages.pop("whole sample")
            stages["crop, normalisation, tensors"] = max(0.0, whole - sum(stages.values()))
            rows.append(
                [
                    crop_size,
                    f"{1 / whole:.0f}",
                    *(f"{1e3 * seconds:.1f}" for seconds in stages.values()),
                ]
            )
        speed, waiting = training_loop(args, sample_set(root, ids, args.crop_size, folder))
    print(
        section(
            "Data pipeline",
            f"python -m benchmarks.data_pipeline --voc12_root DIR --device {args.device}",
            ["crop", "samples/s a core", *(f"{name}, ms" for name in stages)],
            rows,
            f"{what}. In a training of {args.backbone} (crop {args.crop_size}, batch "
            f"{args.batch_size}, {args.precision}, {args.num_workers} workers, {args.device}) at "
            f"{speed:.2g} images/s the step waits for data {waiting:.1%} of the time.",
        )
    )


if __name__ == "__main__":
    run_script(main, parse_args)
