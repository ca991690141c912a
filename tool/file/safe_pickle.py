"""Reading the field's pickled .npy files (np.save of a dict) without being able to run anything
from them.

A pickle is a program: `np.load(path, allow_pickle=True)` runs whatever its author put in. This
reader interprets the instructions itself and knows only those that plain data needs. A name in the
file is looked up in a table of a few functions of this module, never imported; no instruction can
set an attribute or reach a Python object that this module did not make. (A stock Unpickler with a
restricted find_class is not enough: its BUILD sets attributes of whatever find_class hands out,
numpy's own ndarray.__setstate__ and dtype.__setstate__ trust their arguments, and a five-byte
instruction makes its memo claim gigabytes.)

Read: dict, list, tuple, str, int, float, bool, None, arrays of bool, int, float and str, numpy
scalars (as Python values) and torch tensors on the CPU (as arrays: IRN's own CAM files hold them),
nested up to 8 deep, dict keys being str or int. Pickle protocols 2 to 5, module names of numpy 1
(numpy.core) and 2 (numpy._core). What is built takes memory in proportion to the file.
"""

import io
import math
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError

NPY_MAGIC = b"\x93NUMPY"
# The only header np.save writes for a dict: one Python object.
OBJECT_HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".split()
MAX_DEPTH = 8
MAX_INT = 2**63
BYTES_PER_FILE_BYTE = 4  # a protocol 2 array exists as text, as bytes and as array
STORAGE_DTYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "?",
}


class _Refused(ValueError):
    """The bytes are not a pickle that this module reads; the message says why."""


def load_pickled_npy(path: str | Path) -> Any:
    """The Python object in a .npy file written by np.save(path, dict), read without running
    anything.

    Arrays come back as writable copies in the machine's byte order. Raises InputError naming the
    file when it is missing, damaged, not a pickled object, or holds anything beyond the plain data
    listed in the module docstring.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        budget = _Budget(BYTES_PER_FILE_BYTE * len(data))
        return _plain(_run_file(data, budget), budget)
    except (
        Exception
    ) as error:  # hostile bytes reach int, struct, numpy: whatever they raise means a bad file
        reason = str(error) if isinstance(error, _Refused) else f"damaged ({type(error).__name__})"
        raise InputError(
            f"{path}: {reason}; not a .npy of plain arrays as np.save writes it, so it is not read"
        ) from error


def load_npy(path: str | Path) -> Any:
    """The array of numbers in a .npy file, or else what load_pickled_npy says of it.

    Raises InputError naming the file, also when it ends before the array that its header announces.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                return load_pickled_npy(path)
            shape, _, dtype = read_header(file)
            if dtype.hasobject:
                return load_pickled_npy(path)
            wanted = math.prod(shape) * dtype.itemsize
            if path.stat().st_size - file.tell() < wanted:
                raise InputError(f"{path}: damaged, it ends before its array does")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    # damaged headers reach ast, struct and numpy: whatever they raise means a bad file
    except Exception as error:
        raise InputError(f"{path}: damaged ({type(error).__name__})") from error


class _Budget:
    """Bytes that may still be made by copying what a file can repeat by reference, as its 2-byte
    BINGET does.
    """

    def __init__(self, left: int):
        self.left = left

    def charge(self, value: Any) -> None:
        self.left -= (
            value.nbytes
            if isinstance(value, np.ndarray)
            else len(value)
            if isinstance(value, bytes | str)
            else 0
        )
        if self.left < 0:
            raise _Refused("what it describes is larger than the file")


def _run_file(data: bytes, budget: _Budget) -> Any:
    if not data.startswith(NPY_MAGIC):
        raise _Refused("does not start as a .npy file")
    length_format = {1: "<H", 2: "<I", 3: "<I"}.get(data[6])
    if length_format is None:
        raise _Refused(f"unknown .npy version {data[6]}")
    (header_size,) = struct.unpack_from(length_format, data, 8)
    start = 8 + struct.calcsize(length_format)
    if data[start : start + header_size].split() != OBJECT_HEADER:
        raise _Refused("its header does not announce one pickled object")
    stream = io.BytesIO(data[start + header_size :])
    root = _run(stream, CALLS, budget)
    if not isinstance(root, _Array) or root.wrapped is None:
        raise _Refused("its pickle is not a numpy array around one object")
    if stream.read(1):
        raise _Refused("it goes on after the end of the pickle")
    return root.wrapped[0]


# ============ what the instructions work on ============
@dataclass(frozen=True)
class _Name:
    """A name in the file, such as numpy.ndarray: a word to compare, never imported."""

    text: str


@dataclass(eq=False)
class _Dtype:
    code: str
    order: str = "="

    def numpy(self) -> np.dtype:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|U[1-9]\d{0,5}", self.code):
            raise _Refused(
                f"holds an array of type {self.code[:20]!r} where only numbers and text are read"
            )
        return np.dtype(self.code).newbyteorder(self.order)


@dataclass(eq=False)
class _Array:
    """An array under construction: its values (a view of the file's bytes), or the one object that
    the outer array wraps.
    """

    values: np.ndarray | None = None
    wrapped: list | None = None


def _view(shape: tuple, dtype: np.dtype, data: bytes, order: str = "C") -> np.ndarray:
    if math.prod(_counts(shape)) * dtype.itemsize != len(data):
        raise _Refused("an array's shape does not fit its bytes")
    values = np.ndarray(shape, dtype, buffer=data, order=order)
    if dtype.kind == "U":
        values.ravel().tolist()  # raises on numbers that are no character
    return values


def _counts(values: tuple) -> tuple:
    """values, checked to be a tuple of int >= 0: the product of (10**12, "a") would be a terabyte
    of text.
    """
    if any(type(value) is not int or value < 0 for value in _expect(values, tuple)):
        raise _Refused("holds an array of impossible shape")
    return values


def _set_array_state(
    array: _Array, version: int, shape: tuple, dtype: _Dtype, fortran: bool, data: bytes | list
) -> None:
    if version != 1:
        raise _Refused("unknown version of a pickled array")
    if dtype.code.startswith("O"):
        if shape != () or len(data) != 1:
            raise _Refused("holds an array of Python objects")
        array.wrapped = data
    else:
        array.values = _view(shape, dtype.numpy(), data, "F" if fortran else "C")


def _set_dtype_state(
    dtype: _Dtype, version: int, order: str, subdtype: None, names: None, fields: None, *_: Any
) -> None:
    if order not in ("<", ">", "|", "=") or (subdtype, names, fields) != (None, None, None):
        raise _Refused("holds a structured array")
    dtype.order = order


def _load_storage(data: bytes) -> np.ndarray:
    """The numbers of a torch storage in torch's legacy format: five pickles, their count (int64),
    their bytes.
    """
    stream = io.BytesIO(data)
    _magic, _version, _system, storage, _keys = [_run(stream, {}, _Budget(0)) for _ in range(5)]
    if not isinstance(storage, _Name) or storage.text not in STORAGE_DTYPES:
        raise _Refused("holds a torch storage of unknown type")
    dtype = np.dtype(STORAGE_DTYPES[storage.text])
    (count,) = struct.unpack("<q", stream.read(8))
    return _view((count,), dtype, stream.read())


def _rebuild_tensor(
    storage: np.ndarray, offset: int, shape: tuple, stride: tuple, *_: Any
) -> _Array:
    _counts((offset,))
    last = offset + sum(
        (size - 1) * step for size, step in zip(_counts(shape), _counts(stride), strict=True)
    )
    if math.prod(shape) > 0 and last >= len(storage):
        raise _Refused("holds a torch tensor larger than its storage")
    strides = [step * storage.itemsize for step in stride]
    return _Array(
        np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)
    )


CALLS: dict[str, Callable] = {
    "numpy.multiarray._reconstruct": lambda _kind, _shape, _code: _Array(),
    "numpy.numeric._frombuffer": lambda data, dtype, shape, order: _Array(
        _view(shape, dtype.numpy(), data, order)
    ),
    "numpy.multiarray.scalar": lambda dtype, data: _view((), dtype.numpy(), data).item(),
    "numpy.dtype": lambda code, _align, _copy: _Dtype(code),
    "_codecs.encode": lambda text, _latin1: text.encode("latin1"),  # protocol 2 writes bytes so
    "collections.OrderedDict": lambda: {},
    "torch.storage._load_from_bytes": _load_storage,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
}
NAMES = {*CALLS, *STORAGE_DTYPES, "numpy.ndarray"}


def _name(module: str, attribute: str) -> _Name:
    text = f"{re.sub(r'^numpy[.]_?core[.]', 'numpy.', module)}.{attribute}"
    if text not in NAMES:
        raise _Refused(f"names {f'{module}.{attribute}'[:80]!r}, which plain data does not need")
    return _Name(text)


# ============ the instructions ============
PUSH = {
    *(
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    ),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


def _run(stream: io.BytesIO, calls: dict[str, Callable], budget: _Budget) -> Any:
    """The value of the next pickle in stream. Every argument was read from the stream, so none is
    larger than the file.

    calls: what REDUCE may call; their results are charged to budget.
    """
    stack: list = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop(count: int) -> list:
        if count > len(stack) - (marks[-1] if marks else 0):
            raise _Refused("an instruction takes more values than there are")
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken

    def pop_to_mark() -> list:
        return pop(len(stack) - marks.pop())

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in PUSH:
                stack.append(argument)
            case name if name in MAKE:
                stack.append(MAKE[name]())
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "APPEND" | "APPENDS":
                values = pop(1) if opcode.name == "APPEND" else pop_to_mark()
                _expect(stack[-1], list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = pop(2) if opcode.name == "SETITEM" else pop_to_mark()
                _set_items(_expect(stack[-1], dict), values)
            case "GLOBAL":
                stack.append(_name(*argument.split(" ")))
            case "STACK_GLOBAL":
                stack.append(_name(*pop(2)))
            case "REDUCE":
                function, arguments = pop(2)
                stack.append(calls[_expect(function, _Name).text](*_expect(arguments, tuple)))
                budget.charge(stack[-1])
            case "BUILD":
                (state,) = pop(1)
                set_state = _set_array_state if isinstance(stack[-1], _Array) else _set_dtype_state
                set_state(_expect(stack[-1], _Array | _Dtype), *_expect(state, tuple))
            case "BINPERSID":  # a torch storage; _load_storage reads its numbers
                (persistent,) = pop(1)
                stack.append(_expect(_expect(persistent, tuple)[1], _Name))
            case "STOP":
                return pop(1)[0]
            case name:
                raise _Refused(
                    f"its pickle has the instruction {name}, which plain data does not need"
                )
    raise _Refused("its pickle has no end")


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise _Refused("an instruction works on the wrong kind of value")
    return value


def _set_items(target: dict, values: list) -> None:
    if len(values) % 2:
        raise _Refused("a dict has a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        # no tuples: hashing a deep one overflows the C stack
        if not isinstance(key, str | int):
            raise _Refused(
                f"has a dict with a key of type {type(key).__name__.lstrip('_')}, where text and "
                "whole numbers are read"
            )
        target[key] = value


# ============ checking and copying the result ============
def _plain(value: Any, budget: _Budget, depth: int = 0, done: dict | None = None) -> Any:
    """A copy of value made of plain data only, shared parts copied once; arrays are charged to
    budget.
    """
    done = {} if done is None else done
    if type(value) is int and abs(value) >= MAX_INT:
        raise _Refused("holds a number beyond 64 bits")
    if isinstance(value, str):
        value.encode()  # raises on half a surrogate pair, which no terminal prints
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth > MAX_DEPTH:
        raise _Refused(f"is nested more than {MAX_DEPTH} deep")
    if id(value) not in done:
        done[id(value)] = (
            _Refused  # until its parts are done: a part that meets it again is inside itself
        )
        done[id(value)] = _plain_copy(value, budget, depth, done)
    if done[id(value)] is _Refused:
        raise _Refused("holds something that contains itself")
    return done[id(value)]


def _plain_copy(value: Any, budget: _Budget, depth: int, done: dict) -> Any:
    def deeper(part: Any) -> Any:
        return _plain(part, budget, depth + 1, done)

    match value:
        case dict():
            return {deeper(key): deeper(part) for key, part in value.items()}
        case list() | tuple():
            return type(value)(deeper(part) for part in value)
        case _Array(values=np.ndarray() as values):
            budget.charge(values)
            return values.astype(values.dtype.newbyteorder("="))
    raise _Refused("holds something besides dicts, lists, text, numbers and arrays")
