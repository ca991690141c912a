"""CAM files: every format gives back the unit maps it was given, released files are read as they
are, damage has a name.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch.nn import functional as F

from tests.reference import PARITY
from tool.errors import InputError
from tool.file.cam_file import (
    FORMATS,
    OWN_FORMATS,
    PACKED,
    CamFile,
    cam_content,
    find_cam,
    is_packed,
    load_cam,
    load_cam_header,
    save_cam,
)
from tool.file.packed_maps import STEPS

META = {
    "stage": "cam_refined",
    "weights": "sha256:0123",
    "scales": [0.5, 1.0, 1.5, 2.0],
    "classes": ["cat", "chien à poil"],
}


def _cam_file(n: int = 2, height: int = 5, width: int = 7, **changes) -> CamFile:
    cam = np.random.default_rng(n).random((n, height, width), dtype=np.float32)
    fields = {
        "id": "2007_000032",
        "keys": np.array([14, 3, 8][:n], dtype=np.int64),
        "cam": cam,
        "size": (height, width),
        "meta": META,
    }
    return CamFile(**{**fields, **changes})


def _assert_equal(loaded: CamFile, expected: CamFile, format: str) -> None:
    assert loaded.id == expected.id
    np.testing.assert_array_equal(loaded.keys, expected.keys)
    assert loaded.keys.dtype == np.int64
    assert loaded.cam.dtype == np.float32
    lost_size = format == "released" and len(expected.keys) == 0
    assert tuple(loaded.size) == ((0, 0) if lost_size else expected.size)
    assert loaded.cam.shape == (len(expected.keys), *loaded.size)
    if format == PACKED:
        higher = loaded.cam.astype(np.float64) - expected.cam
        assert (higher > -1e-7).all()
        assert (higher < 1 / STEPS).all()
    elif not lost_size:
        np.testing.assert_array_equal(loaded.cam, expected.cam)
    assert loaded.meta == (expected.meta if format in OWN_FORMATS else {"format": format})


# ============ round trips ============
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_round_trip(tmp_path, format, n):
    cam_file = _cam_file(n)
    path = save_cam(tmp_path / "new" / "folder", cam_file, format)
    assert path == tmp_path / "new" / "folder" / (
        "2007_000032.npz" if format in OWN_FORMATS else "2007_000032.npy"
    )
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    _assert_equal(load_cam(path), cam_file, format)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_round_trip_of_any_unit_map(tmp_path, data):
    """Exact for all values a normalisation can give, 0 and -1 included; halving is exact down to
    float32's denormals. Packed maps are exact to a step.
    """
    n = data.draw(st.integers(0, 4))
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = st.floats(-1, 1, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)
    keys = data.draw(st.lists(st.integers(0, 300), min_size=n, max_size=n, unique=True))
    json_values = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
    )
    cam_file = CamFile(
        id=data.draw(st.from_regex(r"[A-Za-z0-9][\w.-]{0,20}", fullmatch=True).filter(str.isascii)),
        keys=np.array(keys, dtype=np.int64),
        cam=data.draw(npst.arrays(np.float32, (n, height, width), elements=values)),
        size=(height, width),
        meta=data.draw(
            st.dictionaries(st.text(), json_values | st.lists(json_values, max_size=3), max_size=4)
        ),
    )
    for format in FORMATS:
        _assert_equal(load_cam(save_cam(tmp_path, cam_file, format)), cam_file, format)


def test_saving_changes_nothing_it_is_given(tmp_path):
    cam_file = _cam_file()
    before = cam_file.cam.copy()
    for format in FORMATS:
        save_cam(tmp_path, cam_file, format)
    np.testing.assert_array_equal(cam_file.cam, before)


def test_our_file_needs_no_pickle(tmp_path):
    path = save_cam(tmp_path, _cam_file())
    with np.load(path, allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.kind for name in arrays} == {
            "id": "U",
            "keys": "i",
            "cam": "f",
            "size": "i",
            "meta": "U",
        }
        assert json.loads(str(arrays["meta"])) == META


# ============ the field's formats, written by the field's code ============
def test_released_layout(tmp_path):
    cam_file = _cam_file()
    released = np.load(save_cam(tmp_path, cam_file, "released"), allow_pickle=True).item()
    assert list(released) == [14, 3]
    assert all(type(key) is int and map_.dtype == np.float32 for key, map_ in released.items())
    np.testing.assert_array_equal(released[14], cam_file.cam[0] / 2)


@pytest.mark.parametrize("name", ["infer", "infer_positive"])
def test_released_reference_maps_are_doubled_exactly(tmp_path, name):
    with np.load(PARITY / f"{name}.npz") as arrays:
        keys, halved = arrays["keys"], arrays["norm_cam"]
    np.save(tmp_path / "a.npy", {int(key): map_ for key, map_ in zip(keys, halved, strict=True)})
    loaded = load_cam(tmp_path / "a.npy")
    np.testing.assert_array_equal(loaded.keys, keys)
    np.testing.assert_array_equal(loaded.cam.astype(np.float64), 2 * halved.astype(np.float64))
    assert halved.min() < 0  # values below 0 come through
    assert loaded.cam.min() == 2 * halved.min()


def test_numpy_integer_classes_are_read(tmp_path):
    np.save(tmp_path / "a.npy", {np.int64(4): np.zeros((2, 3), dtype=np.float32)})
    np.testing.assert_array_equal(load_cam(tmp_path / "a.npy").keys, [4])


@pytest.mark.parametrize(("height", "width"), [(5, 7), (4, 8), (1, 1), (33, 50), (375, 500)])
def test_irn_layout(tmp_path, height, width):
    """cam is high_res resized as IRN resizes, at IRN's get_strided_size(size, 4)."""
    cam_file = _cam_file(2, height, width)
    irn = np.load(save_cam(tmp_path, cam_file, "irn"), allow_pickle=True).item()
    assert list(irn) == ["keys", "cam", "high_res"]
    np.testing.assert_array_equal(irn["keys"], [14, 3])
    np.testing.assert_array_equal(irn["high_res"], cam_file.cam)
    size = ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
    expected = F.interpolate(
        torch.from_numpy(cam_file.cam)[None], size, mode="bilinear", align_corners=False
    )[0]
    torch.testing.assert_close(torch.from_numpy(irn["cam"]), expected, rtol=0, atol=1e-4)


def test_irn_layout_without_classes(tmp_path):
    irn = np.load(save_cam(tmp_path, _cam_file(0, 33, 50), "irn"), allow_pickle=True).item()
    assert irn["cam"].shape == (0, 9, 13)
    assert irn["high_res"].shape == (0, 33, 50)


def test_irn_files_with_torch_tensors(tmp_path):
    label = torch.zeros(20)
    label[[3, 14]] = 1
    high_res = torch.rand(2, 5, 7)
    valid = torch.nonzero(label)[:, 0]  # IRN's make_cam.py
    np.save(
        tmp_path / "a.npy",
        {"keys": valid, "cam": torch.rand(2, 2, 2), "high_res": high_res.numpy()},
    )
    loaded = load_cam(tmp_path / "a.npy")
    np.testing.assert_array_equal(loaded.keys, [3, 14])
    np.testing.assert_array_equal(loaded.cam, high_res.numpy())


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_irn_keys_of_other_widths(tmp_path, dtype):
    np.save(
        tmp_path / "a.npy",
        {"keys": np.array([3], dtype=dtype), "high_res": np.zeros((1, 2, 3), dtype=np.float32)},
    )
    keys = load_cam(tmp_path / "a.npy").keys
    assert keys.dtype == np.int64
    assert keys.tolist() == [3]


def test_formats_are_told_apart_by_content(tmp_path):
    path = save_cam(tmp_path, _cam_file())
    renamed = path.rename(tmp_path / "2007_000032.npy")
    _assert_equal(load_cam(renamed), _cam_file(), "npz")


def test_find_cam_takes_either_kind_and_asks_where_both_are(tmp_path):
    cam_file = _cam_file()
    with pytest.raises(InputError) as error:
        find_cam(tmp_path, cam_file.id)
    assert str(error.value) == (
        f"no CAM file for 2007_000032: neither {tmp_path}/2007_000032.npz nor 2007_000032.npy "
        "exists; run infer_cam.py for it"
    )
    npy = save_cam(tmp_path, cam_file, "released")
    assert find_cam(tmp_path, cam_file.id) == npy
    npz = save_cam(tmp_path, cam_file)
    with pytest.raises(InputError) as error:
        find_cam(str(tmp_path), cam_file.id)
    assert str(error.value) == (
        f"two CAM files for 2007_000032: {tmp_path}/2007_000032.npz and 2007_000032.npy; take "
        "those of one kind out of the folder, or write to another"
    )
    npy.unlink()
    assert find_cam(str(tmp_path), cam_file.id) == npz


# ============ refusals ============
BAD_FIELDS = [
    ({"keys": np.array([3, 3])}, r"a class occurs twice in keys \[3, 3\]"),
    (
        {"keys": np.array([3, -1])},
        "negative class number or size; classes count from 0 without background",
    ),
    (
        {"keys": np.array([3])},
        r"cam must be \(1, 5, 7\) float32 for its keys and size, got \(2, 5, 7\) float32",
    ),
    ({"keys": np.array([[3, 4]])}, r"keys must be \(n,\) int64, got \(1, 2\) int64"),
    ({"keys": np.array([3.0, 4.0])}, r"keys must be \(n,\) int64, got \(2,\) float64"),
    ({"size": (7, 5)}, r"cam must be \(2, 7, 5\) float32"),
    ({"cam": np.zeros((2, 5, 7))}, r"got \(2, 5, 7\) float64"),
    ({"cam": np.zeros((2, 35), dtype=np.float32), "size": (35,)}, r"got \(2, 35\) float32"),
    (
        {"cam": np.zeros((2, 0, 7), dtype=np.float32), "size": (0, 7)},
        r"its maps are empty, size \(0, 7\)",
    ),
    ({"cam": np.full((2, 5, 7), np.nan, dtype=np.float32)}, "its maps hold NaN or infinity"),
    ({"cam": np.full((2, 5, 7), -np.inf, dtype=np.float32)}, "its maps hold NaN or infinity"),
    (
        {"cam": np.full((2, 5, 7), 1.5, dtype=np.float32)},
        r"its values go up to 1\.500; a unit CAM is normalised to \[0, 1\]",
    ),
    ({"meta": ["cam"]}, "meta must be a dict, got list"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_bad_fields_are_refused_on_save(tmp_path, changes, message):
    with pytest.raises(InputError, match=f"^CAM of 2007_000032: .*{message}"):
        save_cam(tmp_path, _cam_file(**changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_bad_fields_are_refused_on_load(tmp_path, changes, message):
    fields = {**vars(_cam_file()), **changes}
    np.savez(
        tmp_path / "a.npz",
        **{**fields, "size": np.array(fields["size"]), "meta": json.dumps(fields["meta"])},
    )
    with pytest.raises(InputError, match=rf"a\.npz: .*{message}"):
        load_cam(tmp_path / "a.npz")


MAP = np.full((2, 3), 0.25, dtype=np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is no CAM file: it holds a list, not a dict of maps"),
        ({"a": MAP}, "keys are neither class numbers nor IRN's keys, cam, high_res"),
        ({True: MAP}, "keys are neither class numbers nor IRN's"),
        ({3: 1.0}, r"every class must have one \(H, W\) float32 map"),
        ({3: MAP.astype(np.float64)}, r"every class must have one \(H, W\) float32 map"),
        ({3: MAP[None]}, r"every class must have one \(H, W\) float32 map"),
        ({3: MAP, 4: MAP.T}, "its maps have different sizes"),
        ({-1: MAP}, "negative class number"),
        ({3: MAP * np.nan}, "its maps hold NaN"),
        ({3: MAP[:0]}, "its maps are empty"),
        (
            {3: MAP * 4},
            r"a map reaches 1\.000, but a released CPN file holds half of the unit CAM, 0\.5 at "
            r"most; SEAM and Affin",
        ),
        ({"keys": [3], "high_res": MAP[None]}, "keys and high_res must be arrays, as IRN's"),
        (
            {"keys": np.array([3.5]), "high_res": MAP[None]},
            r"keys must be \(n,\) int64, got \(1,\) float64",
        ),
        (
            {"keys": np.array([2**63], dtype=np.uint64), "high_res": MAP[None]},
            r"keys must be \(n,\) int64, got \(1,\) uint64",
        ),
        ({"keys": np.array([3, 4]), "high_res": MAP[None]}, r"cam must be \(2, 2, 3\) float32"),
        ({"keys": np.array([3]), "high_res": MAP}, "cam must be"),
        (
            {"keys": np.array(3), "high_res": MAP[None]},
            r"keys must be \(n,\) int64, got \(\) int64",
        ),
        ({"keys": np.array([3]), "high_res": np.array(0.5, dtype=np.float32)}, "cam must be"),
        ({3: object}, "names 'builtins.object'"),
    ],
)
def test_bad_pickled_files(tmp_path, content, message):
    outer = np.empty((), dtype=object)
    outer[()] = content
    np.save(tmp_path / "a.npy", outer)
    with pytest.raises(InputError, match=rf"a\.npy.*{message}"):
        load_cam(tmp_path / "a.npy")


def test_other_files_are_named(tmp_path):
    with pytest.raises(
        InputError,
        match=r"cannot read CAM file .*none\.npz: No such file or directory; check the path",
    ):
        load_cam(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"a\.npz is no CAM file: neither \.npz nor \.npy by its first bytes"
    ):
        load_cam(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", keys=np.zeros(1))
    with pytest.raises(InputError, match=r"b\.npz is no CAM file: .*meta"):
        load_cam(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **{**vars(_cam_file()), "meta": "{not json"})
    with pytest.raises(InputError, match=r"c\.npz is damaged \(JSONDecodeError\); write it again"):
        load_cam(tmp_path / "c.npz")
    np.savez(
        tmp_path / "d.npz",
        **{**vars(_cam_file()), "meta": "{}", "keys": np.array([{}], dtype=object)},
    )
    with pytest.raises(InputError, match=r"d\.npz is damaged \(ValueError\)"):
        load_cam(tmp_path / "d.npz")


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="unknown CAM format 'npy'; choose one of npz, released, irn"
    ):
        save_cam(tmp_path, _cam_file(), "npy")


def test_random_damage_is_an_input_error_or_a_valid_file(tmp_path):
    generator = np.random.default_rng(0)
    specimens = [save_cam(tmp_path, _cam_file(1, 3, 3), format).read_bytes() for format in FORMATS]
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **{**vars(_cam_file(1, 9, 9)), "meta": "{}"})
    specimens.append(compressed.getvalue())
    path = tmp_path / "damaged.npz"
    refused = 0
    for trial in range(1200):
        data = bytearray(specimens[trial % len(specimens)])
        place = int(generator.integers(len(data)))
        if trial % 3 == 0:
            del data[place:]
        else:
            data[place] = generator.integers(256)
        path.write_bytes(data)
        try:
            loaded = load_cam(path)
            assert loaded.cam.shape == (len(loaded.keys), *loaded.size)
        except InputError:
            refused += 1
    assert 400 < refused < 1200


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = save_cam(
        tmp_path, CamFile("a", np.array([1]), np.zeros((1, 3, 4), np.float32), (3, 4), {})
    )
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"keys.npy": b"no array"}).items():
            archive.writestr(name, content)
    with pytest.raises(InputError) as error:
        load_cam(path)
    assert str(error.value) == f"{path}: keys must be (n,) int64, got () |S8"


def test_a_member_that_claims_too_much_is_refused(tmp_path):
    """A header of 2**50 floats over 12 bytes of data."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1, 2**25, 2**25)}
    )
    path = save_cam(tmp_path, _cam_file())
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bomb.npz", "w") as target:
        for name in source.namelist():
            target.writestr(
                name, header.getvalue() + bytes(12) if name == "cam.npy" else source.read(name)
            )
    with pytest.raises(InputError, match=r"bomb\.npz is damaged"):
        load_cam(tmp_path / "bomb.npz")


# ============ packed files ============
def _packed_members(path: Path) -> tuple[dict, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["header.json", "maps"]
        return json.loads(archive.read("header.json")), archive.read("maps")


def test_a_packed_file_says_what_it_is(tmp_path):
    path = save_cam(tmp_path, _cam_file(), PACKED)
    header, maps = _packed_members(path)
    assert (header["version"], header["id"], header["keys"], header["size"], header["meta"]) == (
        2,
        "2007_000032",
        [14, 3],
        [5, 7],
        META,
    )
    assert sum(recipe["bytes"] for recipe in header["maps"]) == len(maps)
    assert is_packed(path)
    assert load_cam_header(path) == ((5, 7), META)
    assert not is_packed(save_cam(tmp_path / "float", _cam_file()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "damaged"),
        ({"keys": [14]}, "cam must be"),
        ({"keys": [14, 3.5]}, "damaged"),
        ({"keys": [14, -3]}, "damaged"),
        ({"keys": [14, 14]}, "a class occurs twice"),
        ({"size": [5, 8]}, "damaged"),
        ({"size": [5]}, "damaged"),
        ({"size": [2**40, 2**40]}, "damaged"),
        ({"maps": []}, "damaged"),
        ({"maps": None}, "damaged"),
        ({"meta": []}, "meta must be a dict"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, changes, message):
    header, maps = _packed_members(save_cam(tmp_path, _cam_file(), PACKED))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("header.json", json.dumps(header | changes))
        archive.writestr("maps", maps)
    with pytest.raises(InputError, match=rf"a\.npz.* ?{message}"):
        load_cam(tmp_path / "a.npz")


@pytest.mark.parametrize("format", FORMATS)
def test_the_content_of_a_cam_file_is_its_maps_whatever_it_says_of_itself(tmp_path, format):
    def content(**changes):
        return cam_content(save_cam(tmp_path, _cam_file(**changes), format))

    one = content()
    assert content(meta={"stage": "cam"}) == one
    keys = np.array([14, 4], dtype=np.int64)
    maps = _cam_file().cam.copy()
    maps[1, 2, 3] = 0.25
    assert len({one, content(keys=keys), content(cam=maps), content(n=1)}) == 4
    path = save_cam(tmp_path, _cam_file(), format)
    whole = path.read_bytes()
    found = {one}
    for damaged in (b"", b"no maps", whole[:-30], whole[:200]):
        path.write_bytes(damaged)
        found.add(cam_content(path))
    assert len(found) == 5
