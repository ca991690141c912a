"""The restricted reader: it reads what np.load reads of plain data, runs nothing, and answers every
damage with InputError.
"""

import io
import os
import pickle
import re
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from tool.errors import InputError
from tool.file import safe_pickle
from tool.file.safe_pickle import load_pickled_npy

HEADER = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
    + b"\n"
)
MAPS = {
    3: np.linspace(0, 0.5, 12, dtype=np.float32).reshape(3, 4),
    7: np.eye(3, 4, dtype=np.float32),
}


def _npy(path: Path, value: object, protocol: int = 4) -> Path:
    """np.save as any numpy version did it: same header, pickle protocol 2 (old), 3 or 4."""
    outer = np.empty((), dtype=object)
    outer[()] = value
    path.write_bytes(HEADER + pickle.dumps(outer, protocol=protocol))
    return path


def _with_payload(path: Path, payload: bytes) -> Path:
    """A .npy whose outer array wraps a dict with the value that the opcodes `payload` make."""
    outer = pickle.dumps(np.array(12345, dtype=object), protocol=2)
    number = b"M90"  # BININT2 12345
    assert outer.count(number) == 1
    path.write_bytes(HEADER + outer.replace(number, b"}X\x01\x00\x00\x00a" + payload + b"s"))
    return path


def _assert_same(value: object, expected: object) -> None:
    assert type(value) is type(expected)
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        for key in expected:
            _assert_same(value[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    else:
        assert value == expected


# ============ what it reads ============
def test_reads_what_np_save_wrote(tmp_path):
    value = {
        **MAPS,
        "keys": np.array([3, 7]),
        "high_res": np.asfortranarray(np.random.default_rng(0).random((2, 3, 4), dtype=np.float32)),
        "empty": np.zeros((0, 3, 4), dtype=np.float32),
        "names": np.array(["cat", "dog é"]),
        "flags": np.array([True, False]),
        "bytes": np.arange(5, dtype=np.uint8)[::2],
        "half": np.array([0.5], dtype=np.float16),
        "scalar array": np.array(3.5),
        "nested": {"list": [1, -2, 2**40, 0.5, None, True], "tuple": ("a", (1, 2), ())},
    }
    path = tmp_path / "a.npy"
    np.save(path, value)
    _assert_same(load_pickled_npy(path), value)
    _assert_same(load_pickled_npy(path), np.load(path, allow_pickle=True).item())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_reads_every_protocol_and_both_names_of_numpy(tmp_path, protocol, module):
    value = {"2007_000032": np.eye(4, 5, dtype=np.float32), 2007000039: np.arange(6)[::-1]}
    outer = np.empty((), dtype=object)
    outer[()] = value
    pickled = pickle.dumps(outer, protocol=protocol)
    assert b"numpy._core" in pickled
    if module == "numpy.core":
        pickled = re.sub(
            rb"\x8c(.)numpy\._core",
            lambda found: b"\x8c" + bytes([found[1][0] - 1]) + b"numpy.core",
            pickled,
            flags=re.DOTALL,
        )
        pickled = pickled.replace(b"cnumpy._core", b"cnumpy.core")
        # the frame lengths no longer fit; they are optional
        pickled = re.sub(rb"\x95.{8}", b"", pickled, flags=re.DOTALL)
        assert b"numpy.core.multiarray" in pickled
        assert b"_core" not in pickled
    path = tmp_path / "a.npy"
    path.write_bytes(HEADER + pickled)
    _assert_same(load_pickled_npy(path), value)


def test_other_byte_order_is_converted(tmp_path):
    path = _npy(tmp_path / "a.npy", {0: np.array([[1.5, -2.0]], dtype=">f4")})
    _assert_same(load_pickled_npy(path), {0: np.array([[1.5, -2.0]], dtype=np.float32)})


def test_numpy_scalars_become_python_values(tmp_path):
    path = _npy(tmp_path / "a.npy", {np.int64(3): np.float32(0.25), np.str_("id"): np.bool_(True)})
    _assert_same(load_pickled_npy(path), {3: 0.25, "id": True})


def test_torch_tensors_become_arrays(tmp_path):
    """IRN's make_cam.py saves keys = nonzero(label)[:, 0] and cam as tensors."""
    keys = torch.nonzero(torch.tensor([0.0, 1.0, 0.0, 1.0]))[:, 0]
    cam = torch.rand(4, 6, 8)
    path = tmp_path / "a.npy"
    np.save(
        path,
        {
            "keys": keys,
            "cam": cam,
            "part": cam[1:3, ::2].transpose(1, 2),
            "none": cam[:0],
            "bool": cam > 0.5,
        },
    )
    loaded = load_pickled_npy(path)
    _assert_same(loaded["keys"], np.array([1, 3]))
    _assert_same(loaded["cam"], cam.numpy())
    _assert_same(loaded["part"], cam[1:3, ::2].transpose(1, 2).numpy())
    _assert_same(loaded["none"], cam[:0].numpy())
    _assert_same(loaded["bool"], (cam > 0.5).numpy())


def test_arrays_are_writable_and_shared_ones_stay_shared(tmp_path):
    shared = np.zeros(3)
    loaded = load_pickled_npy(_npy(tmp_path / "a.npy", {"a": shared, "b": shared}))
    loaded["a"][0] = 1
    assert loaded["b"][0] == 1


# ============ nothing runs ============
class _Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["value", "key", "root", "array"])
def test_payloads_run_nothing(tmp_path, protocol, place):
    marker = tmp_path / "marker"
    source = f"open({str(marker)!r}, 'w').close()"
    calls = [
        (_Call(os.system, f"touch {marker}"), "system"),
        (_Call(eval, source), "eval"),
        (_Call(exec, source), "exec"),
        (_Call(open, str(marker), "w"), "io.open"),
        (_Call(getattr, "", "join"), "getattr"),
        (_Call(__import__, "os"), "__import__"),
        (_Call(Path, str(marker)), "Path"),
        (_Call(np.load, str(marker)), "numpy"),
        (_Call(np.save, str(marker), 1), "numpy"),
        (_Call(pickle.loads, pickle.dumps(1)), "pickle.loads"),
        (_Call(torch.load, str(marker)), "torch"),
    ]
    for call, name in calls:
        outer = np.empty((1,) if place == "array" else (), dtype=object)
        outer[...] = call
        pickled = {
            "value": lambda call=call: {"a": call},
            "key": lambda call=call: {call: 1},
            "root": lambda call=call: call,
            "array": lambda outer=outer: {"a": outer},
        }[place]()
        with pytest.raises(InputError, match=name):
            load_pickled_npy(_npy(tmp_path / "a.npy", pickled, protocol))
        assert not marker.exists()


def test_the_payload_of_these_tests_would_run(tmp_path):
    """Without this the tests above could pass with a payload that does nothing."""
    marker = tmp_path / "marker"
    path = _npy(tmp_path / "a.npy", {"a": _Call(os.system, f"touch {marker}")})
    np.load(path, allow_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"cos\nsystem\n", "names 'os.system', which plain data does not need"),
        (b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93", "names 'os.system'"),
        (b"(S'true'\nios\nsystem\n", "has the instruction STRING"),
        (b"(X\x01\x00\x00\x00aios\nsystem\n", "has the instruction INST"),
        (b"(cnumpy\ndtype\no", "has the instruction OBJ"),
        (b"\x82\x01", "has the instruction EXT1"),
        (b"cnumpy\nndarray\n)\x81", "has the instruction NEWOBJ"),
        (b"cnumpy\nndarray\n)R", r"damaged \(KeyError\)"),  # a name, not one of the calls
        (b"cnumpy\ndtype\n}b", "wrong kind of value"),  # BUILD on a name would set attributes
        (b"]}b", "wrong kind of value"),
        (b"NQ", "wrong kind of value"),
        (b"cnumpy.core.multiarray\n_reconstruct.__globals__\n", "names"),
        (b"cnumpy.core.multiarray\n_reconstruct\n", "holds something besides"),
        (b"C\x01a", "holds something besides"),
    ],
)
def test_hand_written_payloads_are_refused(tmp_path, payload, reason):
    with pytest.raises(InputError, match=reason):
        load_pickled_npy(_with_payload(tmp_path / "a.npy", payload))


def test_no_module_level_state_changes(tmp_path):
    before = dict(safe_pickle.CALLS)
    for state in (
        b"}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xs",
        b"N}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xs\x86",
    ):
        with pytest.raises(InputError):
            load_pickled_npy(
                _with_payload(tmp_path / "a.npy", b"c_codecs\nencode\n" + state + b"b")
            )
    assert before == safe_pickle.CALLS


# ============ what it refuses ============
def _self_containing() -> list:
    value: list = []
    value.append(value)
    return value


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": np.array([{}, 1], dtype=object)}, "holds an array of Python objects"),
        ({"a": np.array(None, dtype=object)}, "holds something besides"),
        ({"a": np.zeros(2, dtype=[("x", "f4")])}, "holds a structured array"),
        ({"a": np.zeros(2, dtype="V3")}, "array of type 'V3'"),
        ({"a": np.array(["2007-01-01"], dtype="M8[D]")}, "array of type 'M8'"),
        ({"a": np.zeros(2, dtype=np.complex64)}, "array of type 'c8'"),
        ({"a": np.array([b"x"])}, "array of type 'S1'"),
        ({"a": b"x"}, "holds something besides"),
        ({"a": {1, 2}}, "EMPTY_SET"),
        ({"a": 1j}, "complex"),
        ({"a": 2**63}, "holds a number beyond 64 bits"),
        ({"a": OrderedDict(a=1)}, None),
        ({(1, 2): 1}, "a dict with a key of type tuple, where text and whole numbers"),
        ({None: 1}, "a dict with a key of type NoneType"),
        ({0.0: 1}, "a dict with a key of type float"),
        ({"a": _self_containing()}, "contains itself"),
        ({"a": _nested(9)}, "nested more than 8 deep"),
        ({"a": _nested(200)}, "nested more than 8 deep"),
        ({"a": "\ud800"}, "UnicodeEncodeError"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "torch.ComplexFloatStorage"),
    ],
)
def test_what_is_not_plain_data_is_refused(tmp_path, value, reason):
    path = _npy(tmp_path / "a.npy", value)
    if reason is None:
        _assert_same(load_pickled_npy(path), {"a": {"a": 1}})
        return
    with pytest.raises(InputError, match=reason):
        load_pickled_npy(path)


def test_other_npy_files_are_refused_by_name(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(
        InputError,
        match=r"plain\.npy: its header does not announce one pickled object; not a \.npy of plain",
    ):
        load_pickled_npy(tmp_path / "plain.npy")
    np.save(tmp_path / "list.npy", np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match="header does not announce one"):
        load_pickled_npy(tmp_path / "list.npy")
    (tmp_path / "text.npy").write_text("not numpy")
    with pytest.raises(InputError, match=r"text\.npy: does not start as a \.npy file"):
        load_pickled_npy(tmp_path / "text.npy")
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(InputError, match="does not start"):
        load_pickled_npy(tmp_path / "empty.npy")
    (tmp_path / "version.npy").write_bytes(b"\x93NUMPY\x09\x00" + HEADER[8:])
    with pytest.raises(InputError, match=r"unknown \.npy version 9"):
        load_pickled_npy(tmp_path / "version.npy")
    with pytest.raises(
        InputError, match=r"cannot read .*missing\.npy: No such file or directory; check the path"
    ):
        load_pickled_npy(tmp_path / "missing.npy")
    with pytest.raises(InputError, match="Is a directory"):
        load_pickled_npy(tmp_path)


def test_trailing_bytes_are_refused(tmp_path):
    path = _npy(tmp_path / "a.npy", MAPS)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match="goes on after the end of the pickle"):
        load_pickled_npy(path)


# ============ memory ============
def _long(opcode: bytes, size: int, format: str = "<I") -> bytes:
    return opcode + struct.pack(format, size)


MEGABYTE = 2**20
BIG = b"B" + struct.pack("<I", MEGABYTE) + bytes(MEGABYTE)
BIG_TEXT = b"X" + struct.pack("<I", MEGABYTE) + b"a" * MEGABYTE
TERA = b"\x8a\x06" + bytes(5) + b"\x01"  # 2**40
QUARTER = b"J" + struct.pack("<i", MEGABYTE // 4)
FLOAT32 = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"


def _storage(count: int, data: bytes) -> bytes:
    """A torch storage that says it holds count numbers."""
    storage = torch.zeros(2).__reduce_ex__(2)[1][0]
    legacy = storage.__reduce__()[1][0]
    legacy = legacy[:-16] + struct.pack("<q", count) + data
    return (
        b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(legacy)) + legacy + b"\x85R"
    )


def _frombuffer(data: bytes, size: bytes) -> bytes:
    return (
        b"cnumpy._core.numeric\n_frombuffer\n("
        + data
        + FLOAT32
        + size
        + b"\x85X\x01\x00\x00\x00CtR"
    )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (_long(b"B", 2**31), "ValueError"),  # bytes that are not there
        (_long(b"\x8e", 2**60, "<Q"), "ValueError"),
        (_long(b"\x96", 2**60, "<Q"), "ValueError"),
        (_long(b"X", 2**32 - 1), "ValueError"),
        (_long(b"\x8b", 2**31 - 1), "ValueError"),
        # one megabyte, encoded 1,000 times
        (
            BIG_TEXT
            + b"q\x01]("
            + b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R" * 1000
            + b"e\x86",
            "larger than the file",
        ),
        # one megabyte, as 1,000 arrays
        (
            b"]("
            + _frombuffer(BIG + b"q\x01", QUARTER)
            + _frombuffer(b"h\x01", QUARTER) * 1000
            + b"e",
            "larger than the file",
        ),
        # one megabyte of torch storage, read 1,000 times
        (
            b"]("
            + _storage(2**18, bytes(2**20)).replace(b"\x85R", b"q\x01\x85R")
            + b"ctorch.storage\n_load_from_bytes\nh\x01\x85R" * 1000
            + b"e",
            "larger than the file",
        ),
        (_frombuffer(b"C\x0c" + bytes(12), TERA), "shape does not fit its bytes"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + _storage(2, bytes(8))
            + b"K\x00"
            + TERA
            + b"\x85K\x00\x85tR",
            "larger than the file",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + _storage(2, bytes(8))
            + b"K\x00K\x03\x85K\x01\x85tR",
            "larger than its storage",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + _storage(2, bytes(8))
            + b"K\x00K\x02\x85J\xff\xff\xff\xff\x85tR",
            "impossible shape",
        ),
        (_storage(2**40, bytes(8)), "shape does not fit its bytes"),
        (
            _frombuffer(b"C\x0c" + bytes(12), b"X\x01\x00\x00\x00a" + TERA).replace(
                b"\x85X", b"\x86X"
            ),
            "impossible shape",
        ),
        (_frombuffer(b"C\x00", b"J\xff\xff\xff\xff"), "impossible shape"),
    ],
)
def test_memory_bombs_are_refused(tmp_path, payload, reason):
    with pytest.raises(InputError, match=reason):
        load_pickled_npy(_with_payload(tmp_path / "a.npy", payload))


def test_the_parts_of_these_bombs_are_read_when_honest(tmp_path):
    array = load_pickled_npy(
        _with_payload(tmp_path / "a.npy", _frombuffer(b"C\x0c" + bytes(12), b"K\x03"))
    )
    _assert_same(array, {"a": np.zeros(3, dtype=np.float32)})
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + _storage(2, struct.pack("<ff", 1, 2))
        + b"K\x00K\x02\x85K\x01\x85tR"
    )
    array = load_pickled_npy(_with_payload(tmp_path / "a.npy", tensor))
    _assert_same(array, {"a": np.array([1, 2], dtype=np.float32)})


def test_an_empty_text_array_of_many_rows_is_not_spelled_out(tmp_path):
    payload = (
        _frombuffer(b"C\x00", TERA + b"K\x00").replace(b"f4", b"U1").replace(b"\x85X", b"\x86X")
    )
    assert load_pickled_npy(_with_payload(tmp_path / "a.npy", payload))["a"].shape == (2**40, 0)


def test_large_memo_index_takes_no_memory(tmp_path):
    """In the stock Unpickler this five-byte instruction allocates 64 GiB."""
    path = _with_payload(tmp_path / "a.npy", b"K\x05" + _long(b"r", 2**32 - 1))
    assert load_pickled_npy(path) == {"a": 5}


def test_deep_nesting_does_not_exhaust_the_stack(tmp_path):
    for deep in (b")" + b"\x85" * 200_000, b"]" * 200_000 + b"a" * 199_999):
        with pytest.raises(InputError, match="nested more than 8 deep"):
            load_pickled_npy(_with_payload(tmp_path / "a.npy", deep))
    deep_key = b"}" + b")" + b"\x85" * 200_000 + b"K\x01s"
    with pytest.raises(InputError, match="a dict with a key of type tuple"):
        load_pickled_npy(_with_payload(tmp_path / "a.npy", deep_key))


def test_shared_lists_do_not_multiply(tmp_path):
    """Seven lists, each holding the one before 100 times: 10^14 elements if copied one by one."""
    value: list = [1]
    for _ in range(7):
        value = [value] * 100
    loaded = load_pickled_npy(_npy(tmp_path / "a.npy", value))
    assert loaded[0] is loaded[99]


def test_torch_storage_cannot_nest_calls(tmp_path):
    inner = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R."
    payload = (
        b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R"
    )
    with pytest.raises(InputError, match=r"damaged \(KeyError\)"):
        load_pickled_npy(_with_payload(tmp_path / "a.npy", payload))


# ============ damage ============
def _specimens(folder: Path) -> list[bytes]:
    values = [
        {3: MAPS[3], "flag": (True, None, [0.5, 70_000, -3]), "name": np.array(["a"])},
        {"keys": torch.tensor([1, 3]), "high_res": MAPS[7], "n": np.float32(2)},
    ]
    return [
        _npy(folder / "a.npy", value, protocol).read_bytes()
        for value in values
        for protocol in (2, 4, 5)
    ]


def test_every_truncation_is_an_input_error(tmp_path):
    for specimen in _specimens(tmp_path):
        for length in range(len(specimen)):
            (tmp_path / "cut.npy").write_bytes(specimen[:length])
            with pytest.raises(InputError, match=r"cut\.npy"):
                load_pickled_npy(tmp_path / "cut.npy")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_random_damage_gives_plain_data_or_input_error(tmp_path):
    """Any other exception fails the test; a change inside a number or a name is not damage that a
    reader could see.
    """
    generator = np.random.default_rng(0)
    path = tmp_path / "damaged.npy"
    refused = 0
    specimens = _specimens(tmp_path)
    for trial in range(6000):
        data = bytearray(specimens[trial % len(specimens)])
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(0 if trial % 10 == 0 else 128, len(data)))
            match generator.integers(4):
                case 0:
                    data[place] = generator.integers(256)
                case 1:
                    data[place] ^= 1 << int(generator.integers(8))
                case 2:
                    del data[place : place + int(generator.integers(1, 9))]
                case 3:
                    data[place:place] = generator.bytes(int(generator.integers(1, 9)))
            if len(data) < 129:
                break
        path.write_bytes(data)
        try:
            _assert_plain(load_pickled_npy(path))
        except InputError:
            refused += 1
    assert 1000 < refused < 6000


def _assert_plain(value: object) -> None:
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufU"
        value.tolist()
    elif isinstance(value, dict):
        for key, part in value.items():
            assert type(key) in (str, int, bool)
            _assert_plain(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _assert_plain(part)
    else:
        assert value is None or type(value) in (bool, int, float, str)
        print(value, file=io.StringIO())
