"""Segmentation networks that export_seg.py has written as ONNX, run by onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tool.errors import InputError
from tool.file.checkpoint import other_file
from tool.file.require import require_file
from tool.mask_values import BACKGROUND
from tool.names import require_names
from tool.run.notes import note

INPUT, LOGITS, LOW = "image", "logits", "low_resolution"
FORMAT = 2  # of the metadata; files of before do not say it
AGAIN = "write it again with export_seg.py"


class OnnxSeg:
    """RGB in 0..1 (B, 3, H, W) -> logits at feature size, in the place of a SegNet in inference.

    mean, std: normalisation is in the file, so there is none before it
    sizes: what the file says of the sides that it takes (export_seg.py); training_facts: what it
    says of its training, for the long side
    """

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(
        self, session: Any, sizes: dict[str, int], path: Path, training_facts: dict[str, Any]
    ) -> None:
        self.session, self.sizes, self.path = session, sizes, path
        self.training_facts = training_facts

    def taken_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W) nearest to size that the file takes."""
        if "height" in self.sizes:
            return self.sizes["height"], self.sizes["width"]
        step = self.sizes["step"]
        return tuple(max(1, round(side / step)) * step for side in size)

    def taken_image(self, x: Tensor) -> np.ndarray:
        """(B, 3, H, W) as the file takes it, resized where it does not take its size."""
        size = tuple(x.shape[2:])
        if (taken := self.taken_size(size)) != size:
            sides = "x".join(map(str, taken)) if "height" in self.sizes else "other sides"
            note(f"{self.path} takes no image of any size: they are resized ({sides})")
            x = F.interpolate(x, taken, mode="bilinear", align_corners=False).clamp(0, 1)
        return np.ascontiguousarray(x.cpu().numpy())

    def forward_low_resolution(self, x: Tensor) -> Tensor:
        """The logits (B, K, h, w) at feature size of an image as taken_image makes it."""
        (logits,) = self.session.run([LOW], {INPUT: self.taken_image(x)})
        return torch.from_numpy(logits)


def open_session(file: str | bytes) -> Any:
    """An onnxruntime.InferenceSession of a file or its content, on torch's number of threads."""
    import onnxruntime  # 0.3 s, for ONNX alone

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it prints stands in the error
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def load_onnx(path: str | Path) -> tuple[OnnxSeg, dict[str, Any], tuple[str, ...]]:
    """(network, config, foreground class names) from a file of export_seg.py.

    config: the arguments of build_seg, and method. Raises InputError naming the file where it is
    damaged, another network, or of an older export_seg.py.
    """
    path = require_file(path, "--onnx", "write it with export_seg.py")
    try:
        session = open_session(str(path))
        said = session.get_modelmeta().custom_metadata_map
        outputs = {output.name for output in session.get_outputs()}
    except Exception as error:  # onnxruntime's are a class for each of its states
        if other := other_file(path):
            raise InputError(f"network {path} is {other}") from error
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"cannot read network {path}: {reason}; {AGAIN}") from error
    if "classes" not in said or LOGITS not in outputs:
        raise InputError(f"{path} is no network of export_seg.py; {AGAIN}")
    if said.get("format") != str(FORMAT) or LOW not in outputs:
        raise InputError(f"{path} was written by another version of export_seg.py; {AGAIN}")
    try:
        found = {name: json.loads(said[name]) for name in ("classes", "network", "sizes")}
        long_side = json.loads(said["long_side"])
        background, *classes = found["classes"]
        sizes = {name: int(value) for name, value in found["sizes"].items()}
        config = dict(found["network"])
        if background != BACKGROUND or not ("step" in sizes or {"height", "width"} <= set(sizes)):
            raise ValueError("no background, or no sizes")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} says of itself what is damaged ({error}); {AGAIN}") from error
    require_names(classes, f"{path}: class")
    training = {"long_side": long_side} if type(long_side) is int else {}
    return OnnxSeg(session, sizes, path, training), config, tuple(classes)
