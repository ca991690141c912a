"""CAM files of other codes: each layout in every number type gives the same maps, and what can be
read in two ways is refused.
"""

import io
import re
import zipfile

import numpy as np
import pytest
import torch

from tool.cam import merge_passes
from tool.errors import InputError
from tool.file.cam_file import CamFile, load_cam, save_cam
from tool.file.foreign_cam import CAM_FORMATS, CamReading, choose_reading

CLASSES = 3
LABELS = np.eye(CLASSES, dtype=np.float32)  # image i shows class i
IDS = ["a", "b", "c"]
CAM = np.full((4, 6), 0.1, dtype=np.float32)
CAM[1:3, 2:5] = 0.9
CAM[2, 3] = 1


def _pickled(path, value):
    outer = np.empty((), dtype=object)
    outer[()] = value
    np.save(path, outer)


def _layout(name: str, key: int, cam: np.ndarray) -> object:
    """A file's content in a layout; the image shows class key alone."""
    maps = cam[None]
    every = np.zeros((CLASSES, *cam.shape), dtype=cam.dtype)
    every[key] = cam
    return {
        "released": {key: cam / 2},
        "unit": {key: cam},
        "scores": {0: 1 - cam, key + 1: cam},
        "irn": {"keys": np.array([key]), "cam": maps[:, ::4, ::4], "high_res": maps},
        "hr_cam": {"keys": np.array([0, key + 1]), "hr_cam": maps},
        "attn_highres": {"keys": np.array([key]), "attn_highres": maps},
        "array": every,
        "array_bg": np.concatenate([1 - cam[None], every]),
    }[name]


def _write(folder, name, kind, dtype=np.float32):
    folder.mkdir(exist_ok=True)
    for key, image in enumerate(IDS):
        content = _layout(name, key, CAM)
        cast = _cast(content, dtype)
        if kind == "npy" and isinstance(cast, np.ndarray):
            np.save(folder / f"{image}.npy", cast)
        elif kind == "npy":
            _pickled(folder / f"{image}.npy", cast)
        elif isinstance(cast, np.ndarray):
            np.savez(folder / f"{image}.npz", cast)
        else:
            np.savez(folder / f"{image}.npz", **{str(key): value for key, value in cast.items()})
    return folder


def _cast(content, dtype):
    def cast(name, value):
        if name == "keys" or not isinstance(value, np.ndarray):
            return value
        return np.round(value * 255).astype(np.uint8) if dtype == np.uint8 else value.astype(dtype)

    if isinstance(content, np.ndarray):
        return cast("", content)
    return {name: cast(name, value) for name, value in content.items()}


FOREIGN = [name for name in CAM_FORMATS if name not in ("auto", "npz")]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("name", FOREIGN)
def test_every_layout_gives_the_same_map(tmp_path, name, kind, dtype):
    said = []
    folder = _write(tmp_path / "cam", name, kind, dtype)
    reading = choose_reading(folder, IDS, "auto", CLASSES, LABELS, say=said.append)
    assert reading == CamReading(name, CLASSES)
    assert len(said) == 1
    assert said[0].startswith(f"CAM files of {folder}: read as --cam_format {name}, since ")
    for key, image in enumerate(IDS):
        cam_file = reading.load(folder / f"{image}.{kind}", LABELS[key])
        assert cam_file.keys.tolist() == [key]
        assert cam_file.size == CAM.shape
        np.testing.assert_allclose(cam_file.cam[0], CAM, atol=5e-3)
        assert cam_file.meta == {"format": name}


@pytest.mark.parametrize("name", FOREIGN)
def test_labels_are_not_needed_where_the_content_tells(tmp_path, name):
    folder = _write(tmp_path / "cam", name, "npy")
    assert choose_reading(folder, IDS, "auto", CLASSES, say=str).format == name


def test_keys_may_be_a_list_and_other_entries_tensors(tmp_path):
    maps = CAM[None].astype(np.float64)
    content = {"keys": [1], "cam": torch.zeros(1, 1, 2), "high_res": maps}
    _pickled(tmp_path / "a.npy", content)
    cam_file = CamReading("irn", CLASSES).load(tmp_path / "a.npy", LABELS[1])
    assert cam_file.keys.tolist() == [1]
    np.testing.assert_allclose(cam_file.cam[0], CAM)


def test_scores_say_at_one_half_what_their_argmax_says(tmp_path):
    scores = np.random.default_rng(0).dirichlet(np.ones(3), (5, 7)).transpose(2, 0, 1)
    _pickled(tmp_path / "a.npy", dict(zip((0, 2, 3), scores.astype(np.float32), strict=True)))
    cam_file = CamReading("scores", CLASSES).load(tmp_path / "a.npy")
    assert cam_file.keys.tolist() == [1, 2]
    said = np.concatenate([np.full((1, 5, 7), 0.5), cam_file.cam]).argmax(axis=0)
    assert (said == scores.argmax(axis=0)).all()


def test_images_without_a_class_have_no_maps(tmp_path):
    empty = {
        "released": {},
        "scores": {0: np.ones((4, 6), dtype=np.float32)},
        "irn": {"keys": np.zeros(0, np.int64), "high_res": np.zeros((0, 4, 6), np.float32)},
        "hr_cam": {"keys": np.zeros(1, np.int64), "hr_cam": np.zeros((0, 4, 6), np.float32)},
    }
    for name, content in empty.items():
        _pickled(tmp_path / f"{name}.npy", content)
        cam_file = CamReading(name, CLASSES).load(tmp_path / f"{name}.npy", np.zeros(CLASSES))
        assert len(cam_file.keys) == len(cam_file.cam) == 0, name
    np.save(tmp_path / "array.npy", np.zeros((CLASSES, 4, 6), np.float32))
    array = CamReading("array", CLASSES)
    assert array.load(tmp_path / "array.npy", np.zeros(CLASSES)).cam.shape == (0, 4, 6)
    assert array.load(tmp_path / "array.npy").keys.tolist() == []
    assert array.load(tmp_path / "array.npy", LABELS[1]).keys.tolist() == [1]  # labelled, silent


def test_our_own_files_need_no_word(tmp_path):
    for image in IDS:
        save_cam(tmp_path, CamFile(image, np.array([0]), CAM[None], CAM.shape, {"stage": "cam"}))
    said = []
    reading = choose_reading(tmp_path, IDS, "auto", CLASSES, say=said.append)
    assert (reading.format, said) == ("npz", [])
    assert reading.load(tmp_path / "a.npz", LABELS[1]).meta == {"stage": "cam"}


# ============ two meanings ============
@pytest.mark.parametrize(
    ("contents", "labels", "message"),
    [
        (
            [{0: CAM, 1: CAM}, {0: CAM}],
            None,
            "every CAM file has class 0, which may be the first class (--cam_format unit) or the "
            "background (--cam_format scores, class c as c + 1); say which",
        ),
        (
            [{0: CAM, 1: CAM}, {0: CAM, 1: CAM}],
            np.array([[1, 1, 0], [1, 1, 0]]),  # by these labels both are possible
            "every CAM file has class 0",
        ),
        (
            [{1: CAM * 0.2}, {2: CAM * 0.2}],
            None,
            "no map of the CAM files reaches more than 0.200, so they may be halves of unit maps "
            "(--cam_format released) or unit maps that are low (--cam_format unit); say which",
        ),
        (
            [{"keys": [0, 1], "high_res": np.stack([CAM, CAM])}] * 2,
            None,
            "every CAM file has key 0, which may be the first class or the background",
        ),
        (
            [{1: CAM}, {"keys": [1], "high_res": CAM[None]}],
            None,
            "mixes CAM files: a.npy holds a dict of maps by class, b.npy keys and high_res; keep "
            "them in folders of their own",
        ),
        (
            [np.zeros((5, 4, 6), np.float32)] * 2,
            None,
            "is an array of 5 maps; 3 classes want 3, or 4 with the background first",
        ),
    ],
)
def test_two_readings_are_refused_and_named(tmp_path, contents, labels, message):
    for image, content in zip(IDS, contents, strict=False):
        _pickled(tmp_path / f"{image}.npy", content) if isinstance(content, dict) else np.save(
            tmp_path / f"{image}.npy", content
        )
    with pytest.raises(InputError, match=re.escape(message)):
        choose_reading(tmp_path, IDS[: len(contents)], "auto", CLASSES, labels)


def _write_arrays(folder, arrays):
    for image, content in zip(IDS, arrays, strict=True):
        np.save(folder / f"{image}.npy", content)


def _scores(key, masked):
    """Softmax of a CAM, background first: of the label's class alone, or of all classes."""
    every = _layout("array", key, CAM) * 4 + np.random.default_rng(key).random((CLASSES, 4, 6))
    if masked:
        return _layout("array_bg", key, CAM)
    scores = np.exp(np.concatenate([np.full((1, 4, 6), 3.0), every]))
    return scores / scores.sum(axis=0)


@pytest.mark.parametrize("labels", [LABELS, None])
@pytest.mark.parametrize("masked", [True, False])
def test_a_background_at_the_end_is_refused(tmp_path, masked, labels):
    arrays = [_scores(key, masked) for key in range(CLASSES)]
    _write_arrays(tmp_path, arrays)
    assert choose_reading(tmp_path, IDS, "auto", CLASSES, labels, say=str).format == "array_bg"
    _write_arrays(tmp_path, [np.roll(scores, -1, axis=0) for scores in arrays])
    with pytest.raises(
        InputError,
        match=r"looked at the last map, not the first, looks like the background; write them with "
        r"the background first, as np\.roll\(maps, 1, axis=0\) does, or say that it is by "
        r"--cam_format array_bg$",
    ):
        choose_reading(tmp_path, IDS, "auto", CLASSES, labels)
    assert choose_reading(tmp_path, IDS, "array_bg", CLASSES, labels).format == "array_bg"


@pytest.mark.parametrize("name", ["array", "array_bg"])
def test_classes_in_another_order_are_refused(tmp_path, name):
    _write_arrays(tmp_path, [_layout(name, key, CAM) for key in range(CLASSES)])
    with pytest.raises(InputError, match="in 3 of 3 CAM files looked at the maps of the image"):
        choose_reading(tmp_path, IDS, "auto", CLASSES, np.roll(LABELS, 1, axis=1))


def test_a_network_that_finds_nothing_on_a_photograph_is_read(tmp_path):
    arrays = [_layout("array_bg", key, CAM * (key != 1)) for key in range(CLASSES)]
    _write_arrays(tmp_path, arrays)
    assert choose_reading(tmp_path, IDS, "auto", CLASSES, LABELS, say=str).format == "array_bg"


def test_classes_as_text_are_numbers(tmp_path):
    _pickled(tmp_path / "a.npy", {"1": CAM / 2})
    assert choose_reading(tmp_path, ["a"], "auto", CLASSES, say=str).format == "released"
    for cam_file in (
        CamReading("released", CLASSES).load(tmp_path / "a.npy"),
        load_cam(tmp_path / "a.npy"),
    ):
        assert cam_file.keys.tolist() == [1]
        np.testing.assert_array_equal(cam_file.cam[0], CAM)


def test_a_class_beyond_the_list_is_refused(tmp_path):
    _pickled(tmp_path / "a.npy", {CLASSES: CAM})
    with pytest.raises(
        InputError, match=r"has a map of class 3 \(counted from 0\), and there are 3"
    ):
        CamReading("unit", CLASSES).load(tmp_path / "a.npy")


def test_labels_decide_where_the_content_does_not(tmp_path):
    for image in IDS[:2]:
        _pickled(tmp_path / f"{image}.npy", {0: CAM, 1: CAM})
    first_two, first = np.array([[1, 1, 0]] * 2), np.array([[1, 0, 0]] * 2)
    with pytest.raises(InputError, match="every CAM file has class 0"):
        choose_reading(tmp_path, IDS[:2], "auto", CLASSES, first_two)
    assert choose_reading(tmp_path, IDS[:2], "auto", CLASSES, first, say=str).format == "scores"
    assert choose_reading(tmp_path, IDS[:2], "unit", CLASSES).format == "unit"


@pytest.mark.parametrize("name", [name for name in FOREIGN if not name.startswith("array")])
def test_classes_that_the_label_lacks_are_never_counted(tmp_path, name):
    folder = _write(tmp_path / "cam", name, "npy")
    with pytest.raises(
        InputError,
        match=r"a\.npy has a map of class 0 \(counted from 0\), which is not among the image's "
        r"labels \(1\); is it read with the right --cam_format, and of this image\?",
    ):
        CamReading(name, CLASSES).load(folder / "a.npy", LABELS[1])


# ============ logarithms, and maps that show nothing ============
LOGS = np.log(np.random.default_rng(0).dirichlet(np.ones(CLASSES + 1), (4, 6)) + 1e-3).transpose(
    2, 0, 1
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("unit", {1: LOGS[0]}),
        ("released", {1: LOGS[0]}),
        ("released", {1: LOGS[0] / -LOGS.min() * 0.9}),  # to be doubled
        ("scores", {0: LOGS[0], 2: LOGS[1]}),
        ("scores", {0: LOGS[0] / -LOGS.min(), 2: LOGS[1] / -LOGS.min()}),
        ("scores", {0: np.log(CAM > 0.5, where=CAM > 0.5, out=CAM * 0 - 16), 2: CAM * 0 - 16}),
        ("irn", {"keys": [1], "high_res": LOGS[:1]}),
        ("hr_cam", {"keys": [0, 2], "hr_cam": LOGS[:1]}),
        ("array", LOGS[1:]),
        ("array_bg", LOGS),
        ("array_bg", LOGS / -LOGS.min()),
        ("npz", {1: LOGS[0].astype(np.float32)}),
    ],
)
def test_logarithms_are_refused(tmp_path, name, content):
    _pickled(tmp_path / "a.npy", content) if isinstance(content, dict) else np.save(
        tmp_path / "a.npy", content
    )
    with pytest.raises(
        InputError,
        match=r"a\.npy: a map goes down to -[\d.]+, where (unit maps do not go below -1|scores are "
        r"not negative); log-probabilities or logits\? Save probabilities, by exp or softmax",
    ):
        CamReading(name, CLASSES).load(tmp_path / "a.npy")


@pytest.mark.parametrize("name", FOREIGN)
def test_what_the_released_normalisation_leaves_below_0_is_read(tmp_path, name):
    # a map whose minimum is over half of its maximum: its lowest pixels, all alike, go below -1
    raw = np.full((1, 4, 6), 5.0) + CAM
    raw[:, 0] = 5
    deep = merge_passes([(torch.from_numpy(raw), False)]).numpy()[0].astype(np.float32)
    assert deep.min() < -4
    assert len(np.unique(deep[deep < 0])) == 1
    for cam in (deep, np.full_like(CAM, -1)):
        content = _layout(name, 1, cam)
        if name in ("scores", "array_bg"):
            background = np.full_like(cam, 0.25)
            if name == "scores":
                content = {0: background, 2: cam}
            else:
                content = np.concatenate([background[None], content[1:]])
        _pickled(tmp_path / "a.npy", content) if isinstance(content, dict) else np.save(
            tmp_path / "a.npy", content
        )
        read = CamReading(name, CLASSES).load(tmp_path / "a.npy", LABELS[1])
        assert read.keys.tolist() == [1]
        if name not in ("scores", "array_bg"):
            np.testing.assert_allclose(read.cam[0], cam, rtol=1e-5)


@pytest.mark.parametrize("asked", ["auto", "named"])
@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in ("scores", "array_bg")])
def test_uint8_masks_of_0_and_1_are_refused(tmp_path, name, asked):
    for key, image in enumerate(IDS):
        bits = _bits(_layout(name, key, CAM))
        _pickled(tmp_path / f"{image}.npy", bits) if isinstance(bits, dict) else np.save(
            tmp_path / f"{image}.npy", bits
        )
    with pytest.raises(InputError, match="uint8 and none exceeds 1 of 255, so they may be masks"):
        choose_reading(tmp_path, IDS, name if asked == "named" else "auto", CLASSES, LABELS)


def _bits(content):
    if isinstance(content, np.ndarray):
        return (content > 0.25).astype(np.uint8)
    return {key: value if key == "keys" else _bits(value) for key, value in content.items()}


def test_uint8_scores_of_0_and_1_are_compared(tmp_path):
    shown = (CAM > 0.5).astype(np.uint8)
    every = np.stack([1 - shown, shown, *np.zeros((CLASSES - 1, 4, 6), np.uint8)])
    np.save(tmp_path / "a.npy", every)
    reading = choose_reading(tmp_path, ["a"], "auto", CLASSES, LABELS[:1], say=str)
    np.testing.assert_array_equal(reading.load(tmp_path / "a.npy", LABELS[0]).cam[0], shown)


@pytest.mark.parametrize("asked", ["auto", "unit"])
def test_maps_that_show_nothing_are_noted(tmp_path, asked):
    # logarithms of what is nearly certain are not below -1
    for key, image in enumerate(IDS):
        _pickled(tmp_path / f"{image}.npy", {key: np.log(0.9 + CAM / 10)})
    said = []
    choose_reading(tmp_path, IDS, asked, CLASSES, LABELS, say=said.append)
    assert said[-1] == (
        f"CAM files of {tmp_path}: no map of the 3 looked at exceeds 1 / 255, so that all is "
        "background; unit maps have a maximum of 1"
    )


# ============ bad files ============
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unit", {1: CAM * 8}, "a map reaches 8, where unit maps reach 1; divide each map"),
        ("released", {1: CAM}, "a map reaches 1.000, but a released CPN file holds half"),
        ("unit", {1: CAM * np.nan}, "its maps have values that are not finite"),
        ("unit", {1: CAM.astype(np.int32)}, "maps are floating or uint8, not int32"),
        ("unit", {1: CAM, 2: CAM.T}, "its maps have different sizes"),
        ("unit", {1: 0.5}, "every class must have one (H, W) map"),
        ("unit", {-1: CAM}, "negative class number"),
        ("unit", {"cat": CAM}, "its entries are cat, where class numbers are known, or keys with"),
        ("unit", [CAM], "it holds a list"),
        ("unit", {10**12: CAM}, "its entries are 1000000000000"),
        (
            "hr_cam",
            {"keys": [0, 0, 2], "hr_cam": np.stack([CAM] * 3)},
            "has two backgrounds: key 0",
        ),
        ("scores", {1: CAM, 2: CAM}, "has no background: key 0 is not among its keys [1, 2]"),
        ("irn", {"keys": [0, 1, 2], "high_res": CAM[None]}, "has 3 keys and 1 maps in high_res"),
        ("irn", {"keys": [0.5], "high_res": CAM[None]}, "keys must be a list of whole class"),
        ("irn", {"keys": [1], "high_res": CAM}, "its maps must be one array (classes, H, W)"),
        ("irn", {"keys": [1], "cam": CAM[None]}, "its entries are keys, cam, where class numbers"),
        ("irn", {1: CAM}, "holds a dict of maps by class, which --cam_format irn does not read"),
    ],
)
def test_bad_contents(tmp_path, name, content, message):
    _pickled(tmp_path / "a.npy", content)
    with pytest.raises(InputError, match=rf"a\.npy.*{re.escape(message)}"):
        CamReading(name, CLASSES).load(tmp_path / "a.npy")


def test_members_of_one_class_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", **{"1": CAM, "01": CAM / 2})
    with pytest.raises(
        InputError, match=r"a\.npz has two maps of class 1, members 1 and 01; leave one of them"
    ):
        CamReading("unit", CLASSES).load(tmp_path / "a.npz", LABELS[1])
    maps = io.BytesIO()
    np.save(maps, CAM)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name in ("1.npy", "1"):
            archive.writestr(name, maps.getvalue())
    with pytest.raises(InputError, match=r"b\.npz has two members 1; leave one of them"):
        CamReading("unit", CLASSES).load(tmp_path / "b.npz", LABELS[1])


def test_a_header_of_a_thousand_million_values_costs_nothing(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 1000, 1000), }"
    padded = header + b" " * (118 - len(header) - 1) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([118, 0]) + padded + b"\0" * 64)
    with pytest.raises(InputError, match=r"a\.npy: damaged, it ends before its array does"):
        CamReading("array", CLASSES).load(tmp_path / "a.npy")
