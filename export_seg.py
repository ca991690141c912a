"""Export a network of train_seg.py for use without this repository: ONNX for onnxruntime and
others, torch.export's .pt2 for torch.

Reads the trained weights; writes <out>.onnx and <out>.pt2. Both map RGB in 0..1, (B, 3, H, W), to
logits (B, K, H, W), background first, for B up to 1024 and for H and W from 64 to 4096;
normalisation is inside. Of some transformers, H and W are multiples of 32 from 64 to 4096; others
(DINOv3) can be exported for one size of image alone, by --size. The ONNX file takes sides below 64
and above 4096 too. Class names and sizes go with them: metadata of the ONNX file, meta.json in the
.pt2. Each is run before it is written, and its largest difference to the network itself is printed.
The ONNX file has the logits at feature size as well, low_resolution, from which infer_seg.py --onnx
makes the masks that the network itself makes.

    python export_seg.py --weights results/seg/seg.pth

--int8 writes <out>_int8.onnx too, a quarter as large, and says how many pixels of the photographs
get the same class by it as by the other.

    python export_seg.py --weights results/seg/seg.pth --export onnx --int8 photos
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.seg_export", __doc__)  # before the imports, which take seconds

import argparse
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import timm
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from flags.seg_export import CALIBRATED, INT8_SUFFIX, SIZE_STEP, SUFFIXES, parse_args
from network.seg import SegNet
from network.seg_int8 import quantised
from network.seg_onnx import FORMAT, INPUT, LOGITS, LOW, OnnxSeg, open_session
from network.seg_weights import load_seg
from tool.cam import require_finite
from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.digests import file_digest
from tool.file.images import read_image
from tool.file.photographs import find_photographs
from tool.file.require import require_no_folder
from tool.file.state_dict import read_training
from tool.mask_values import BACKGROUND
from tool.run.photograph_flags import trained_long_side
from tool.transforms import scaled_images
from voc12.lists import evenly

SIZE_STEPS = (2, 128)  # fewest and most: sides of 64 to 4096 pixels
TRACED_SIZES = {1: (2, 3, 97, 131), SIZE_STEP: (2, 3, 96, 128)}
CHECKED_SIZES = {1: ((1, 3, 127, 66), (2, 3, 224, 165)), 32: ((1, 3, 128, 96), (2, 3, 224, 160))}
TOLERANCE = 1e-4  # of the largest logit


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


def exact_padding(side: Any, kernel_size: int, stride: int, dilation: int) -> Any:
    """TensorFlow's padding of a side, in whole numbers. timm computes it by math.ceil, which no
    .pt2 can hold.
    """
    least = (kernel_size - 1) * dilation + 1 - stride  # of a side that the stride divides
    if kernel_size == 1:
        return 0
    if stride == 1:
        return least
    padding = least + (-side) % stride
    return padding if least >= 0 else torch.sym_max(padding, 0)


def example(*shape: int) -> Tensor:
    """A batch to trace with, always the same: the .pt2 holds it."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def trace(
    net: Portable, size: tuple[int, int] | None = None, step: int = SIZE_STEP
) -> ExportedProgram:
    """The network as a graph for any batch, and height and width of size, or without one any that
    are multiples of step, 1 or SIZE_STEP.
    """
    batch = Dim("batch", min=1, max=1024)
    if size is not None:
        shapes = {"image": {0: batch}}
        return torch.export.export(net, (example(2, 3, *size),), dynamic_shapes=shapes)
    few, many = (SIZE_STEP * steps // step for steps in SIZE_STEPS)
    height, width = (Dim(name, min=few, max=many) for name in ("rows", "columns"))
    if step > 1:
        height, width = step * height, step * width
    with patch.object(timm.layers.padding, "get_same_padding", exact_padding):
        return torch.export.export(
            net,
            (example(*TRACED_SIZES[step]),),
            dynamic_shapes={"image": {0: batch, 2: height, 3: width}},
            # else sides are refused of which maps of two levels do not halve alike
            prefer_deferred_runtime_asserts_over_guards=step == 1,
        )


def to_onnx(
    program: ExportedProgram, meta: dict[str, Any]
) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """(the ONNX file, a function that runs it)."""
    model = torch.onnx.export(
        program, dynamo=True, input_names=[INPUT], output_names=[LOGITS], verbose=False
    ).model_proto
    add_low_resolution(model.graph)
    for name, value in meta.items():
        model.metadata_props.add(
            key=name, value=value if isinstance(value, str) else json.dumps(value)
        )
    content = model.SerializeToString()
    session = open_session(content)
    return content, lambda image: torch.from_numpy(session.run([LOGITS], {INPUT: image.numpy()})[0])


def add_low_resolution(graph: onnx.GraphProto) -> None:
    """Make what the last interpolation enlarges an output too, LOW."""
    (last,) = [node for node in graph.node if LOGITS in node.output]
    if last.op_type != "Resize":
        raise ValueError(f"the logits come from {last.op_type}, not from an interpolation")
    graph.node.append(onnx.helper.make_node("Identity", [last.input[0]], [LOW]))
    shape = ["batch", "K", "h", "w"]
    kind = onnx.TensorProto.FLOAT
    graph.output.append(onnx.helper.make_tensor_value_info(LOW, kind, shape))


def to_torch(
    program: ExportedProgram, meta: dict[str, Any]
) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """(the .pt2 file, a function that runs it)."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"meta.json": json.dumps(meta)})
    content = buffer.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


@torch.no_grad()
def largest_difference(
    net: Portable,
    run: Callable[[Tensor], Tensor],
    size: tuple[int, int] | None = None,
    step: int = SIZE_STEP,
) -> tuple[float, float]:
    """(largest difference of run's logits to net's, largest logit), over random images of sizes
    that were not traced, multiples of step, or batches that were not, of the one size.

    Raises InputError when they differ by more than TOLERANCE.
    """
    differences, logits = [], []
    shapes = CHECKED_SIZES[step] if size is None else ((1, 3, *size), (3, 3, *size))
    for shape in shapes:
        image = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
        expected = net(image)
        require_finite(expected, "the network's output")
        differences.append(float((run(image) - expected).abs().max()))
        logits.append(float(expected.abs().max()))
    if not max(differences) <= TOLERANCE * max(logits):
        raise InputError(
            f"the exported network differs by {max(differences):.2g} from the trained one; nothing "
            "is written"
        )
    return max(differences), max(logits)


def sizes_meta(name: str, size: tuple[int, int] | None, step: int) -> dict[str, Any]:
    """What a file of format name says of the images that it takes; the sides of a .pt2 have bounds,
    which torch keeps to, those of an ONNX file have none.
    """
    smallest, largest = (SIZE_STEP * steps for steps in SIZE_STEPS)
    bounds = {"smallest": smallest, "largest": largest} if name == "torch" else {}
    sides = "H and W" if step == 1 else f"H and W multiples of {step}"
    if bounds:
        sides += f" from {smallest} to {largest}"
    elif step == 1:
        sides = "any H and W"
    sizes = {"step": step, **bounds}
    if size is not None:
        sides, sizes = f"H {size[0]} and W {size[1]}", {"height": size[0], "width": size[1]}
    return {"input": f"image (B, 3, H, W), float32 RGB in 0..1, {sides}", "sizes": sizes}


def export(
    net: Portable, meta: dict[str, Any], names: list[str], size: tuple[int, int] | None
) -> dict[str, tuple[bytes, tuple[float, float]]]:
    """name -> (the file, its largest_difference), of the formats names: for any size where a graph
    holds all, else for those of SIZE_STEP.

    Raises InputError for a network of which torch makes no such graph.
    """
    makers = {"onnx": to_onnx, "torch": to_torch}
    for step in (1, SIZE_STEP) if size is None else (SIZE_STEP,):
        try:
            program = trace(net, size, step)
            files = {
                name: makers[name](program, meta | sizes_meta(name, size, step)) for name in names
            }
            return {
                name: (content, largest_difference(net, run, size, step))
                for name, (content, run) in files.items()
            }
        except Exception as error:  # torch.export, the serialiser and onnxruntime have errors each
            if step == 1:
                continue
            if isinstance(error, InputError):
                raise
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            backbone, formats = meta["network"]["backbone"], " and ".join(names)
            advice = "choose one by --size H W" if size is None else "try --export with one format"
            raise InputError(
                f"--backbone {backbone} cannot be exported as {formats} for "
                f"{'any size' if size is None else 'this size'} of image ({reason}); {advice}"
            ) from error


def to_int8(content: bytes, paths: list[Path], long_side: int | None) -> tuple[bytes, float]:
    """(an ONNX file in int8, share of the photographs' pixels that get the same class by it);
    paths: of photographs, reduced to long_side.
    """
    session = open_session(content)
    sizes = json.loads(session.get_modelmeta().custom_metadata_map["sizes"])
    run = OnnxSeg(session, sizes, Path("the exported network"), {})
    images = []
    for path in paths:
        _, (image,) = scaled_images(read_image(path), [1.0], run.mean, run.std, long_side)
        images.append(run.taken_image(image[None]))
    made = quantised(content, images)
    sessions = (session, open_session(made))
    alike = []
    for image in images:
        masks = [each.run([LOGITS], {INPUT: image})[0].argmax(axis=1) for each in sessions]
        alike.append((masks[0] == masks[1]).mean())
    return made, float(np.mean(alike))


def main(args: argparse.Namespace) -> None:
    """Write the network in the formats asked for."""
    if args.int8 and "onnx" not in args.export:
        raise InputError("--int8 is a second ONNX file; have onnx among --export")
    out = args.out or str(Path(args.weights).with_suffix(""))
    for suffix in [SUFFIXES[name] for name in args.export] + [INT8_SUFFIX] * bool(args.int8):
        require_no_folder(f"{out}{suffix}", "out")
    found = [one.path for one in find_photographs(args.int8 or (), "seg")]
    photographs = evenly(found, CALIBRATED)
    net, config, classes = load_seg(args.weights)
    net = Portable(net).eval()
    size = tuple(args.size) if args.size else None
    meta = {
        "format": FORMAT,
        "classes": [BACKGROUND, *classes],
        "output": "logits (B, K, H, W), float32; argmax over K is the mask value",
        "network": config,
        "stride": net.net.backbone.stride,
        "mean": list(net.net.mean),  # inside the network already
        "std": list(net.net.std),
        "long_side": trained_long_side(read_training(args.weights)),
        "weights": file_digest(args.weights),
    }
    files = {}
    for name, (content, (difference, logit)) in export(net, meta, args.export, size).items():
        said = f"largest difference {difference:.2g}, largest logit {logit:.2g}"
        files[SUFFIXES[name]] = (content, said)
    if args.int8:
        content, alike = to_int8(files[SUFFIXES["onnx"]][0], photographs, meta["long_side"])
        said = f"{alike:.1%} of the pixels of {len(photographs)} photographs as without int8"
        files[INT8_SUFFIX] = (content, said)
    for suffix, (content, said) in files.items():
        with atomic_write(f"{out}{suffix}") as file:
            file.write(content)
        print(f"{out}{suffix}: {len(content) / 1e6:.1f} MB, {said}")


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
