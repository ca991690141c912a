"""The reader of MXNet parameter files against files written here from the format, and the names of
ResNet38.
"""

import json
import random
import re
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from network.mxnet_params import read_mxnet_params, resnet38_state_dict
from tests.reference import PARITY
from tool.errors import InputError

KEYS_FILE = PARITY / "state_dict_keys.json"
MAGIC = {"v1": 0xF993FAC8, "v2": 0xF993FAC9, "v3": 0xF993FACA}
TYPE_FLAGS = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "uint8": 3,
    "int32": 4,
    "int8": 5,
    "int64": 6,
}


def array_bytes(array, version="v2", storage=0, type_flag=None):
    """One array as NDArray::Save writes it (v2, v3), or as MXNet did before (v1, legacy)."""
    head = b"" if version == "legacy" else struct.pack("<I", MAGIC[version])
    if version in ("v2", "v3"):
        head += struct.pack("<i", storage)
    head += struct.pack(
        f"<I{array.ndim}{'I' if version == 'legacy' else 'q'}", array.ndim, *array.shape
    )
    head += struct.pack(
        "<iii", 1, 0, TYPE_FLAGS[array.dtype.name] if type_flag is None else type_flag
    )
    return head + array.astype(array.dtype.newbyteorder("<")).tobytes()


def file_bytes(records, names, magic=0x112):
    """A list of array records with names as MXNet's list Save writes it."""
    data = struct.pack("<QQQ", magic, 0, len(records)) + b"".join(records)
    data += struct.pack("<Q", len(names))
    return data + b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "net-0001.params"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "legacy"])
@pytest.mark.parametrize("dtype", TYPE_FLAGS)
def test_every_version_and_data_type_reads_back(write, version, dtype):
    rng = np.random.default_rng(0)
    arrays = {
        "arg:conv1a_weight": rng.integers(0, 100, (2, 3, 4, 5)).astype(dtype),
        "aux:bn7_moving_var": rng.integers(0, 100, (7,)).astype(dtype),
        "arg:one": np.array([[[3]]], dtype=dtype),
    }
    params = read_mxnet_params(
        write(file_bytes([array_bytes(a, version) for a in arrays.values()], list(arrays)))
    )
    assert list(params) == list(arrays)
    for name, array in arrays.items():
        torch.testing.assert_close(params[name], torch.from_numpy(array), rtol=0, atol=0)


def test_versions_may_mix_and_a_list_may_be_empty(write):
    a, b = np.arange(3, dtype=np.float32), np.arange(4, dtype=np.float64).reshape(2, 2)
    params = read_mxnet_params(
        write(file_bytes([array_bytes(a, "legacy"), array_bytes(b, "v2")], ["a", "b"]))
    )
    assert params["a"].tolist() == a.tolist()
    assert params["b"].tolist() == b.tolist()
    assert read_mxnet_params(write(file_bytes([], []))) == {}


GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)
RECORD = array_bytes(GOOD)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": the file type takes 8 bytes where 0 are left; the file is cut off or damaged"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            " is a pointer of git-lfs; `git lfs pull`",
        ),
        (b"PK\x03\x04" + bytes(100), " is no MXNet parameter file: it does not begin with 0x112"),
        (
            file_bytes([RECORD], ["a"], magic=0x113),
            " is no MXNet parameter file: it does not begin with 0x112",
        ),
        (
            file_bytes([RECORD], ["a"]) + b"\0\0",
            " has 2 bytes after its last name; download it again",
        ),
        (file_bytes([RECORD, RECORD], ["a"]), " has 1 names for 2 arrays"),
        (file_bytes([RECORD], []), " has 0 names for 1 arrays"),
        (
            file_bytes([RECORD, RECORD, RECORD], ["a", "b", "b"]),
            " gives several arrays one name: b",
        ),
        (file_bytes([array_bytes(GOOD, type_flag=7)], ["a"]), ": array 0 has unknown data type 7"),
        (
            file_bytes([RECORD, array_bytes(GOOD, storage=1)], ["a", "b"]),
            ": array 1 has storage type 1; only dense arrays (0)",
        ),
        (
            file_bytes([struct.pack("<I", 0xF993FACB) + RECORD[4:]], ["a"]),
            ": array 0 has 0xf993facb where a known magic number",
        ),
        (
            file_bytes([array_bytes(np.array(1.0), "v2")], ["a"]),
            ": array 0 has 0x0 where a known magic number",
        ),
        (
            file_bytes([array_bytes(np.zeros((2, 0)), "v1")], ["a"]),
            ": array 0 has an impossible shape: (2, 0)",
        ),
        (
            file_bytes([RECORD], ["a"])[:-1],
            ": name 0 takes 1 bytes where 0 are left; the file is cut off or damaged",
        ),
        (
            file_bytes([RECORD], ["a"])[: 24 + len(RECORD) - 4],
            ": array 0 of shape (2, 3) takes 24 bytes where 20 are left",
        ),
        (
            struct.pack("<QQQ", 0x112, 0, 2**63) + RECORD,
            f": the number of arrays is {2**63}, more than the",
        ),
        (
            file_bytes([RECORD], ["a"]).replace(b"a", b"\xff"),
            ": name 0 is not text; the file is damaged",
        ),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(write, data, message):
    path = write(data)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        read_mxnet_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        InputError, match=re.escape(f"MXNet weights not found: {tmp_path / 'no.params'}; ")
    ):
        read_mxnet_params(tmp_path / "no.params")


def test_a_claimed_size_takes_no_memory(write):
    header = struct.pack("<IiI2qiii", MAGIC["v2"], 0, 2, 2**14, 2**14, 1, 0, 0)  # claims 1 GiB
    path = write(struct.pack("<QQQ", 0x112, 0, 1) + header + bytes(64))
    tracemalloc.start()
    with pytest.raises(
        InputError,
        match=re.escape("array 0 of shape (16384, 16384) takes 1073741824 bytes where 64 are left"),
    ):
        read_mxnet_params(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_cut_is_refused(write):
    data = file_bytes(
        [array_bytes(GOOD, version) for version in ("v1", "v2", "legacy")], ["arg:a", "aux:b", "c"]
    )
    assert len(read_mxnet_params(write(data))) == 3
    for length in range(len(data)):
        with pytest.raises(InputError):
            read_mxnet_params(write(data[:length]))


def test_mutated_files_raise_nothing_but_input_error(write):
    rng = random.Random(0)
    base = file_bytes(
        [array_bytes(GOOD, version) for version in ("v1", "v2", "v3", "legacy")],
        ["arg:a", "aux:b", "c", "d"],
    )
    extremes = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
    messages = []
    for _ in range(3000):
        data = bytearray(base)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    data[at] ^= 1 << rng.randrange(8)
                case 2:
                    data[at : at + 8] = struct.pack("<Q", rng.choice(extremes))
                case 3:
                    data[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        try:
            params = read_mxnet_params(write(bytes(data)))
        except InputError as error:
            messages.append(str(error))
        else:
            assert all(isinstance(value, torch.Tensor) for value in params.values())
    assert 1000 < len(messages) < 3000
    assert not any("\n" in message for message in messages)


def mxnet_name(key):
    """MXNet's name of one of our parameters, by the rules of the file's authors (ademxapp,
    util/symbol/resnet_v2.py).
    """
    suffix = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_var",
    }
    *module, kind = key.split(".")
    if module == ["conv1a"]:
        return "arg:conv1a_weight"
    prefix = "aux" if kind.startswith("running") else "arg"
    if module == ["bn7"]:
        return f"{prefix}:bn7_{suffix[kind]}"
    block, layer = module
    stage, _, index = block.removeprefix("b").partition("_")
    name, branch = layer.split("_")
    unit = f"{stage}b{index}" if index else f"{stage}a"
    return (
        f"arg:res{unit}_{branch}_weight"
        if name == "conv"
        else f"{prefix}:bn{unit}_{branch}_{suffix[kind]}"
    )


@pytest.fixture(scope="module")
def backbone_keys():
    new_layers = ("fc8.", "f8_3.", "f8_4.", "f9.", "f10.")
    keys = [key for key, *_ in json.loads(KEYS_FILE.read_text())]
    return [
        key
        for key in keys
        if not key.startswith(new_layers) and not key.endswith("num_batches_tracked")
    ]


def test_names_map_onto_exactly_the_backbone_of_the_released_checkpoints(write, backbone_keys):
    names = [mxnet_name(key) for key in backbone_keys]
    assert {
        "arg:res5b1_branch2a_weight",
        "aux:bn5b1_branch2b1_moving_var",
        "arg:res6a_branch2b2_weight",
    } <= set(names)
    records = [array_bytes(np.array([i], dtype=np.float64), "v1") for i in range(len(names) + 2)]
    path = write(file_bytes(records, [*names, "arg:linear1000_weight", "arg:linear1000_bias"]))
    state = resnet38_state_dict(read_mxnet_params(path))
    assert {key: value.item() for key, value in state.items()} == {
        key: float(i) for i, key in enumerate(backbone_keys)
    }
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_names_without_prefix_map_too():
    state = resnet38_state_dict({"res2a_branch1_weight": torch.ones(1), "bn7_beta": torch.zeros(1)})
    assert list(state) == ["b2.conv_branch1.weight", "bn7.bias"]


@pytest.mark.parametrize(
    "name",
    [
        "arg:fc1_weight",
        "aux:bn5b1_branch2a_var",
        "arg:res5b1_branch2a_bias",
        "arg:res8a_branch1_weight",
        "arg:linear21_weight",
        "",
    ],
)
def test_arrays_without_a_place_are_named(name):
    params = {"arg:conv1a_weight": torch.ones(1), name: torch.ones(1), "arg:zzz": torch.ones(1)}
    with pytest.raises(InputError, match=re.escape(f"no place for 2 of 3 arrays: {name}, arg:zzz")):
        resnet38_state_dict(params)


def test_two_arrays_for_one_place_are_refused():
    with pytest.raises(
        InputError, match=re.escape("no place for 1 of 2 arrays: aux:conv1a_weight")
    ):
        resnet38_state_dict(
            {"arg:conv1a_weight": torch.ones(1), "aux:conv1a_weight": torch.ones(1)}
        )
