"""Reads the ImageNet weights of ResNet38 as their authors publish them, an MXNet parameter file,
without MXNet.

ilsvrc-cls_rna-a1_cls1000_ep-0001.params (Wu, Shen, van den Hengel; md5
ff21f45d6bf03284100dcbec571edfad in the authors' repository itijyou/ademxapp) is a list of arrays
with names. All numbers in the file are little-endian:

    uint64 0x112, uint64 reserved
    uint64 count of arrays, and per array
        uint32 magic: 0xF993fac8 (V1), 0xF993fac9 (V2) or 0xF993faca (V3); before V1 the number of
               axes stands here
        int32 storage type: in V2 and V3 only; 0 is dense
        uint32 number of axes: not repeated before V1
        int64 length of each axis: uint32 before V1
        int32 device type, int32 device number, int32 data type
        the values: in C order
    uint64 count of names, and per name
        uint64 length: of what follows
        its bytes: "arg:conv1a_weight" or "aux:bn7_moving_mean"

Source: MXNet src/ndarray/ndarray.cc, NDArray::Load.
"""

import math
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from tool.errors import InputError
from tool.file.checkpoint import other_file
from tool.file.require import require_file

LIST_MAGIC = 0x112
MAGIC_V1 = 0xF993FAC8
MAGIC_V2 = 0xF993FAC9
MAGIC_V3 = 0xF993FACA
DENSE = 0
DTYPES = {
    0: np.float32,
    1: np.float64,
    2: np.float16,
    3: np.uint8,
    4: np.int32,
    5: np.int8,
    6: np.int64,
}
MAX_AXES = 32

BATCH_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def read_mxnet_params(path: str | Path) -> dict[str, Tensor]:
    """The arrays of an MXNet parameter file by name, "arg:" and "aux:" included, in the file's
    shapes and data types.

    Raises InputError naming the file, the array and the reason when the file is missing, not of
    this format, cut off, longer than its content, or holds sparse or nameless arrays. Claimed sizes
    are checked against the file's before memory is taken.
    """
    path = require_file(path, "MXNet weights", "see 'Weights' in docs/data.md")
    with path.open("rb") as file:
        source = _Source(file, path)
        if source.number("Q", "the file type") != LIST_MAGIC:
            other = other_file(path)
            raise InputError(
                f"MXNet weights {path} is {other}"
                if other
                else f"{path} is no MXNet parameter file: it does not begin with {LIST_MAGIC:#x}"
            )
        source.number("Q", "the reserved field")
        arrays = [
            _read_array(source, f"array {i}")
            for i in range(source.count(4, "the number of arrays"))
        ]
        names = [
            _read_name(source, f"name {i}") for i in range(source.count(8, "the number of names"))
        ]
        if source.left:
            raise InputError(
                f"{path} has {source.left} bytes after its last name; download it again"
            )
    if len(names) != len(arrays):
        raise InputError(f"{path} has {len(names)} names for {len(arrays)} arrays")
    params = dict(zip(names, arrays, strict=True))
    if len(params) != len(names):
        raise InputError(
            f"{path} gives several arrays one name: "
            f"{next(name for name in names if names.count(name) > 1)}"
        )
    return params


def resnet38_state_dict(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays of read_mxnet_params under the names of network/resnet38.py, as float32.

    res5a is our b5 and res5b1 our b5_1; bn7 and conv1a keep their names; linear1000, the ImageNet
    classifier, is left out. MXNet does not count batches, so num_batches_tracked is missing;
    nothing reads it while batch norms stay in eval mode.
    Raises InputError naming every array that has no place in ResNet38.
    Source: convert_mxnet_to_torch of the released AffinityNet and SEAM code.
    """
    state = {}
    unknown = []
    for name, value in params.items():
        key = _torch_name(name.removeprefix("arg:").removeprefix("aux:"))
        if key is None or key in state:
            unknown.append(name)
        elif key:
            state[key] = value.float()
    if unknown:
        raise InputError(
            f"not weights of ResNet38: no place for {len(unknown)} of {len(params)} arrays: "
            f"{', '.join(unknown)}"
        )
    return state


def _torch_name(name: str) -> str | None:
    """Our name of a parameter; "" for the classifier's, None for one that ResNet38 does not
    have.
    """
    if name == "conv1a_weight":
        return "conv1a.weight"
    if name in ("linear1000_weight", "linear1000_bias"):
        return ""
    statistic = "|".join(BATCH_NORM_NAMES)
    if found := re.fullmatch(rf"bn7_({statistic})", name):
        return f"bn7.{BATCH_NORM_NAMES[found[1]]}"
    if found := re.fullmatch(r"res([2-7])(?:a|b(\d))_(branch1|branch2a|branch2b[12])_weight", name):
        return f"{_block(found[1], found[2])}.conv_{found[3]}.weight"
    if found := re.fullmatch(rf"bn([2-7])(?:a|b(\d))_(branch2a|branch2b[12])_({statistic})", name):
        return f"{_block(found[1], found[2])}.bn_{found[3]}.{BATCH_NORM_NAMES[found[4]]}"
    return None


def _block(stage: str, index: str | None) -> str:
    return f"b{stage}_{index}" if index else f"b{stage}"


class _Source:
    """Reads a file front to back and raises InputError before a read, or an allocation, that goes
    beyond its end.
    """

    def __init__(self, file: BinaryIO, path: Path):
        self.file = file
        self.path = path
        self.left = os.fstat(file.fileno()).st_size

    def take(self, size: int, what: str) -> bytearray:
        if size > self.left:
            raise self.error(
                what,
                f"takes {size} bytes where {self.left} are left; the file is cut off or damaged",
            )
        data = bytearray(size)
        self.file.readinto(data)
        self.left -= size
        return data

    def number(self, code: str, what: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code), what))[0]

    def count(self, smallest: int, what: str) -> int:
        """A number of items of at least `smallest` bytes each."""
        count = self.number("Q", what)
        if count * smallest > self.left:
            raise self.error(
                what,
                f"is {count}, more than the {self.left} bytes left can hold; the file is cut off "
                "or damaged",
            )
        return count

    def error(self, what: str, problem: str) -> InputError:
        return InputError(f"{self.path}: {what} {problem}")


def _read_array(source: _Source, what: str) -> Tensor:
    shape = _read_shape(source, what)
    source.take(8, what)  # device type and number of the machine that saved it
    type_flag = source.number("i", what)
    if type_flag not in DTYPES:
        raise source.error(what, f"has unknown data type {type_flag}")
    dtype = np.dtype(DTYPES[type_flag]).newbyteorder("<")
    values = np.frombuffer(
        source.take(math.prod(shape) * dtype.itemsize, f"{what} of shape {shape}"), dtype
    )
    return torch.from_numpy(values.astype(dtype.newbyteorder("="), copy=False)).reshape(shape)


def _read_shape(source: _Source, what: str) -> tuple[int, ...]:
    magic = source.number("I", what)
    if magic in (MAGIC_V2, MAGIC_V3):
        storage = source.number("i", what)
        if storage != DENSE:
            raise source.error(
                what, f"has storage type {storage}; only dense arrays ({DENSE}) are read"
            )
    current = magic in (MAGIC_V1, MAGIC_V2, MAGIC_V3)
    axes = source.number("I", what) if current else magic
    if not 1 <= axes <= MAX_AXES:
        raise source.error(
            what,
            f"has {axes:#x} where a known magic number or a number of axes in 1..{MAX_AXES} "
            "belongs",
        )
    code = f"<{axes}{'q' if current else 'I'}"
    shape = struct.unpack(code, source.take(struct.calcsize(code), what))
    if min(shape) < 1:
        raise source.error(what, f"has an impossible shape: {shape}")
    return shape


def _read_name(source: _Source, what: str) -> str:
    try:
        return source.take(source.number("Q", what), what).decode("utf-8")
    except UnicodeDecodeError:
        raise source.error(what, "is not text; the file is damaged") from None
