"""Export a network of train_seg.py for use without this repository: ONNX for onnxruntime and others, torch.export's .pt2 for torch.

Reads the trained weights; writes <out>.onnx and <out>.pt2. Both map RGB in 0..1, (B, 3, H, W), to logits (B, K, H, W), background first,
for B up to 1024 and for H and W that are multiples of 32 from 64 to 4096; normalisation is inside. Class names go with them: metadata of
the ONNX file, meta.json in the .pt2. Each is run before it is written, and its largest difference to the network itself is printed.

    python export_seg.py --weights results/seg/seg.pth
"""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import timm
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from network.seg import SegNet
from network.seg_weights import load_seg
from tool.errors import InputError, run_script
from tool.files import atomic_write, file_digest
from voc12.constants import BACKGROUND

WEIGHTS = "results/seg/seg.pth"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
SIZE_STEP = 32  # every map then has sides that its stride divides, see exact_padding
SIZE_STEPS = (2, 128)  # fewest and most: sides of 64 to 4096 pixels
TRACED_SIZE = (2, 3, 96, 128)
CHECKED_SIZES = ((1, 3, 128, 96), (2, 3, 224, 160))
TOLERANCE = 1e-4  # of the largest logit


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=WEIGHTS, help="weights of train_seg.py (default %(default)s)")
    parser.add_argument("--export", nargs="+", choices=SUFFIXES, default=list(SUFFIXES), help="formats (default onnx torch)")
    parser.add_argument("--out", help="path of the files without .onnx and .pt2 (default that of the weights without .pth)")
    return parser.parse_args(argv)


class Portable(nn.Module):
    """The network with its normalisation: RGB in 0..1, (B, 3, H, W) -> logits (B, K, H, W)."""

    def __init__(self, net: SegNet) -> None:
        super().__init__()
        self.net = net
        for name, value in (("mean", net.mean), ("std", net.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """The logits of image."""
        return self.net((image - self.mean) / self.std)


def exact_padding(_side: Any, kernel_size: int, stride: int, dilation: int) -> int:
    """TensorFlow's padding of a side that the stride divides. timm computes it from the side by math.ceil, which no .pt2 can hold."""
    return max((kernel_size - 1) * dilation + 1 - stride, 0)


def trace(net: Portable) -> ExportedProgram:
    """The network as a graph for any batch, and height and width that are multiples of SIZE_STEP."""
    height, width = (SIZE_STEP * Dim(name, min=SIZE_STEPS[0], max=SIZE_STEPS[1]) for name in ("rows", "columns"))
    shapes = {"image": {0: Dim("batch", min=1, max=1024), 2: height, 3: width}}
    with patch.object(timm.layers.padding, "get_same_padding", exact_padding):
        return torch.export.export(net, (torch.rand(TRACED_SIZE),), dynamic_shapes=shapes)


def to_onnx(program: ExportedProgram, meta: dict[str, Any]) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """(the ONNX file, a function that runs it)."""
    model = torch.onnx.export(program, dynamo=True, input_names=["image"], output_names=["logits"], verbose=False).model_proto
    for name, value in meta.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda image: torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])


def to_torch(program: ExportedProgram, meta: dict[str, Any]) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """(the .pt2 file, a function that runs it)."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"meta.json": json.dumps(meta)})
    content = buffer.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


@torch.no_grad()
def largest_difference(net: Portable, run: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """(largest difference of run's logits to net's, largest logit), over random images of sizes that were not traced.

    Raises InputError when they differ by more than TOLERANCE.
    """
    differences, logits = [], []
    for size in CHECKED_SIZES:
        image = torch.from_numpy(np.random.default_rng(0).random(size, dtype=np.float32))
        expected = net(image)
        differences.append(float((run(image) - expected).abs().max()))
        logits.append(float(expected.abs().max()))
    if not max(differences) <= TOLERANCE * max(logits):
        raise InputError(f"the exported network differs by {max(differences):.2g} from the trained one; nothing is written")
    return max(differences), max(logits)


def main(args: argparse.Namespace) -> None:
    """Write the network in the formats asked for."""
    net, config, classes = load_seg(args.weights)
    net = Portable(net).eval()
    smallest, largest = (SIZE_STEP * steps for steps in SIZE_STEPS)
    meta = {
        "classes": [BACKGROUND, *classes],
        "input": f"image (B, 3, H, W), float32 RGB in 0..1, H and W multiples of {SIZE_STEP} from {smallest} to {largest}",
        "output": "logits (B, K, H, W), float32; argmax over K is the mask value",
        "network": config,
        "weights": file_digest(args.weights),
    }
    out = args.out or str(Path(args.weights).with_suffix(""))
    program = trace(net)
    exported = {name: {"onnx": to_onnx, "torch": to_torch}[name](program, meta) for name in args.export}
    checked = {name: largest_difference(net, run) for name, (_, run) in exported.items()}
    for name, (content, _) in exported.items():
        path = f"{out}{SUFFIXES[name]}"
        difference, logit = checked[name]
        with atomic_write(path) as file:
            file.write(content)
        print(f"{path}: {len(content) / 1e6:.1f} MB, largest difference {difference:.2g}, largest logit {logit:.2g}")


if __name__ == "__main__":
    run_script(main, parse_args)
