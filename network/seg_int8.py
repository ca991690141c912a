"""int8 copies of the ONNX networks that export_seg.py writes: a quarter of the bytes."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from network.seg_onnx import INPUT


class _Inputs(quantization.CalibrationDataReader):
    """Images for the calibration, one after the other."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, None after the last."""
        image = next(self.left, None)
        return None if image is None else {INPUT: image}


def quantised(content: bytes, images: Sequence[np.ndarray]) -> bytes:
    """An ONNX file of export_seg.py with weights and activations in int8; inputs, outputs and
    metadata stay as they are.

    images: (1, 3, H, W) float32 RGB in 0..1 each, of sizes that the file takes. The extremes to
    which they drive an activation are the ends of its scale; of weights every channel has its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = ("given.onnx", "ready.onnx", "int8.onnx")
        source, ready, written = (Path(folder, name) for name in names)
        source.write_bytes(content)
        # Its symbolic shapes give up on the exported sides; plain shapes are enough. What it keeps
        # on the way goes into the working folder.
        with contextlib.chdir(folder):
            quantization.quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            written,
            _Inputs(images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
        )
        return _with_metadata_of(content, written.read_bytes())


def _with_metadata_of(given: bytes, written: bytes) -> bytes:
    """written with the metadata of given alone; onnxruntime adds what its steps were."""
    source, model = onnx.load_from_string(given), onnx.load_from_string(written)
    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    return model.SerializeToString()
