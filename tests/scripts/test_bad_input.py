"""What users' files and machines get wrong, one test each with the whole message, or with what is
read where that is right.

The places where a reader meets it have more tests of their own: tests/tool/file/test_images.py,
test_lists.py, test_labels.py, test_weights.py, ...
"""

import errno
import os
import re
import resource
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from network.weights import load_network, save_network
from tests.conftest import PETS
from tests.ranks import run_ranks
from tests.tool.run.test_trainer import _losses, _run, _train
from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.cam_file import CamFile, load_cam, save_cam
from tool.file.checkpoint import load_torch, save_torch
from tool.file.images import read_image, read_mask, write_mask
from tool.run.pool import pool_map
from tool.run.trainer import CHECKPOINT, LOCK
from voc12.constants import DATA_HELP, IMAGE_DIR, LABEL_FILE, MASK_DIR
from voc12.evaluation import evaluate_cams
from voc12.labels import load_labels, save_labels
from voc12.lists import read_list

REPLACE = "; replace the file or take it off the list"
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _message(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


# ============ images ============
def test_truncated_image(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:700])
    assert re.fullmatch(
        rf"cannot read image {path}: image file is truncated \(\d+ bytes not processed\){REPLACE}",
        _message(read_image, path),
    )


def test_empty_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    assert (
        _message(read_image, path)
        == f"cannot read image {path}: cannot identify image file '{path}'{REPLACE}"
    )


def test_huge_image(tmp_path):
    """A PNG of a few bytes that claims 40,000 x 40,000 pixels: refused by its header, before any
    memory is taken.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    assert _message(read_image, path) == (
        f"cannot read image {path}: Image size (1600000000 pixels) exceeds limit of "
        f"{2 * Image.MAX_IMAGE_PIXELS} pixels, could be decompression bomb DOS attack.{REPLACE}"
    )


def test_images_of_other_modes_are_read_as_rgb(tmp_path):
    grey = PIXELS[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, axis=2)
    )
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "deep.png"), np.repeat(grey[:, :, None], 3, axis=2)
    )
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.abs(read_image(tmp_path / "cmyk.tif").astype(int) - PIXELS).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(PIXELS, -1))


# ============ masks ============
def test_rgb_mask(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert _message(read_mask, tmp_path / "a.png") == (
        f"mask {tmp_path / 'a.png'} has mode RGB; expected a palette or 8-bit grey PNG of class "
        "numbers"
    )


@pytest.fixture
def evaluated(tmp_path):
    """(folder of masks, folder of CAM files, a function that evaluates image "a" of 2 classes and
    returns the message).
    """
    masks, cams = tmp_path / "mask", tmp_path / "cam"
    write_mask(masks / "a.png", np.array([[0, 1, 2], [255, 0, 1]]))
    save_cam(cams, CamFile("a", np.array([1]), np.full((1, 2, 3), 0.5, np.float32), (2, 3), {}))

    def message() -> str:
        text = _message(evaluate_cams, ["a"], cams, masks, ("cat", "dog"), [0.5])
        return text.replace(str(tmp_path), "ROOT")

    return masks, cams, message


def test_mask_with_a_class_beyond_the_list(evaluated):
    masks, _, message = evaluated
    write_mask(masks / "a.png", np.array([[0, 1, 3], [255, 0, 1]]))
    assert message() == (
        "1 of 1 images cannot be evaluated: ROOT/cam/a.npz against ROOT/mask/a.png: the ground "
        "truth has class value 3; 2 classes use values 1..2"
    )


def test_mask_and_cam_of_different_sizes(evaluated):
    masks, _, message = evaluated
    write_mask(masks / "a.png", np.zeros((3, 2)))
    assert message() == (
        "1 of 1 images cannot be evaluated: ROOT/cam/a.npz against ROOT/mask/a.png: the "
        "prediction's size (2, 3) differs from the ground truth's (3, 2) (height, width)"
    )


# ============ lists ============
def _list(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    return path


def test_empty_list(tmp_path):
    path = _list(tmp_path, b"\n")
    assert _message(read_list, path) == f"{path} is an empty image list; give one id per line"


def test_id_given_twice(tmp_path):
    path = _list(tmp_path, b"a\nb\na\n")
    assert (
        _message(read_list, path) == f"{path} line 3: id a is already on line 1; remove one of them"
    )


def test_id_that_leaves_the_folder(tmp_path):
    path = _list(tmp_path, b"../a\n")
    assert _message(read_list, path) == (
        f"{path} line 1: '../a' is not an image id; an id is the name of a file in {IMAGE_DIR} "
        "without its suffix, and it has a slash"
    )


def test_windows_line_ends_and_byte_order_mark_are_read(tmp_path):
    assert read_list(_list(tmp_path, b"\xef\xbb\xbfa\r\nb\r\n")) == ["a", "b"]


# ============ image labels ============
def test_labels_that_miss_an_id(tmp_path):
    save_labels(tmp_path / LABEL_FILE, ["a"], np.array([[1.0, 0]]))
    assert _message(load_labels, tmp_path, ["a", "b"], ("cat", "dog")) == (
        f"{tmp_path / LABEL_FILE} has no image label for 1 of 2 images: b; {DATA_HELP}"
    )


# ============ weights and checkpoints ============
CONFIG = {
    "backbone": "resnet10t",
    "num_classes": 3,
    "output_stride": None,
    "refinement": "pcm+prcm",
    "prcm": "released",
}
CONFIG["method"] = "cpn"


@pytest.fixture
def saved(small_net, tmp_path):
    """(path of a network's file, a function that rewrites it with other entries and returns
    load_network's message).
    """
    path = tmp_path / "net.pth"
    save_network(path, small_net, CONFIG, PETS, {})

    def message(**entries) -> str:
        save_torch(path, torch.load(path, weights_only=True) | entries)
        return _message(load_network, path)

    return path, message


def test_weights_of_another_architecture(saved):
    path, message = saved
    names = "lack 73 tensors of this network, first model.conv_stem.weight"
    text = message(config=CONFIG | {"backbone": "efficientnet_lite0"})
    assert (
        re.sub(r"lack \d+", "lack 73", text) == f"weights {path} {names}; is it another backbone?"
    )


def test_weights_of_another_class_list(saved):
    path, message = saved
    assert (
        message(classes=["cat", "dog"])
        == f"trained weights {path} name 2 classes for a network of 3"
    )


def test_truncated_weights(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:1000])
    assert re.fullmatch(
        rf"cannot read trained weights {path}: .+; the file is damaged or no plain torch "
        r"checkpoint",
        _message(load_network, path),
    )


def test_weights_with_nan(saved):
    path, message = saved
    state = torch.load(path, weights_only=True)["state_dict"]
    state["fc8.weight"][0] = torch.nan
    assert message(state_dict=state) == (
        f"weights {path}: fc8.weight has values that are not finite; the file is damaged or its "
        "training diverged"
    )


def test_checkpoint_of_another_architecture_or_class_list(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=1, settings={"backbone": "resnet38", "voc12_root": "a"}))
    for changed, name, value in (
        ({"backbone": "vit"}, "backbone resnet38", "vit"),
        ({"voc12_root": "b"}, "voc12_root a", "b"),
    ):
        run = _run(tmp_path, settings={"backbone": "resnet38", "voc12_root": "a"} | changed)
        assert _message(run.resume, "auto") == (
            f"session {tmp_path} was started with --{name}, now it is {value}; use the same flags, "
            "another --session_name, or --resume never to start over"
        )


def test_checkpoint_that_does_not_fit_the_network(tmp_path):
    """The same flags, but the data set's class list has changed since."""
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=1))
    run = _run(tmp_path)
    run.net = torch.nn.Sequential(torch.nn.Linear(4, 5))
    assert _message(run.resume, "auto") == (
        f"checkpoint {tmp_path / CHECKPOINT} does not fit the network: has the class list changed? "
        "use another --session_name, or --resume never to start over"
    )


def test_truncated_checkpoint(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=1))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    assert re.fullmatch(
        rf"cannot read checkpoint {path}: .+; the file is damaged or no plain torch checkpoint",
        _message(_run(tmp_path).resume, "auto"),
    )


def test_loss_that_is_not_finite(tmp_path):
    run = _run(tmp_path)

    def losses_of(batch: dict) -> dict:
        losses = _losses(run)(batch)
        return losses if run.step < 4 else losses | {"loss_fit": losses["loss_fit"] * torch.nan}

    assert _message(_train, run, "auto", losses_of) == (
        "loss_fit is not finite at iteration 4 (images 1_1_0, 1_1_1, 1_1_2, 1_1_3); the last "
        f"checkpoint is kept in {tmp_path}; lower --lr or look at these images"
    )
    assert load_torch(tmp_path / CHECKPOINT)["step"] == 3


def test_weights_that_become_nan_where_the_loss_does_not(tmp_path):
    run = _run(tmp_path)

    def losses_of(batch: dict) -> dict:
        losses = _losses(run)(batch)
        flat = (run.net[2].bias * 0).sum().sqrt()  # 0, with a gradient of NaN
        return losses if run.step < 5 else {name: value + flat for name, value in losses.items()}

    assert _message(_train, run, "auto", losses_of) == (
        "2.bias has values that are not finite after iteration 6 (last images 1_2_0, 1_2_1, 1_2_2, "
        f"1_2_3); the last checkpoint is kept in {tmp_path}; lower --lr or look at these images"
    )
    assert load_torch(tmp_path / CHECKPOINT)["step"] == 3


# ============ files that carry code ============
class _WritesMarker:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_file_does_not_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "a.npy"
    payload = _WritesMarker(marker)
    np.save(path, {"a": payload, 0: payload}, allow_pickle=True)
    torch.save({"net": payload, "state_dict": payload}, tmp_path / CHECKPOINT)
    refused = "not a .npy of plain arrays as np.save writes it, so it is not read"
    for read in (lambda: load_cam(path), lambda: load_labels(tmp_path, ["a"], PETS, path)):
        assert re.fullmatch(rf"{path}: .*touch.*; {refused}", _message(read))
    for read in (
        lambda: _run(tmp_path).resume("auto"),
        lambda: load_network(tmp_path / CHECKPOINT),
    ):
        assert re.search(r"holds a Python object, \w+, which could run code", _message(read))
    assert not marker.exists()
    np.load(path, allow_pickle=True)
    assert marker.exists()  # the payload was a real one


# ============ disk, workers, device ============
def _exit(capsys, main) -> str:
    with pytest.raises(SystemExit) as exit:
        run_script(main, lambda: None)
    assert exit.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_unwritable_output(tmp_path, capsys):
    (tmp_path / "results").touch()  # a file where a folder should be

    def main(_args) -> None:
        with atomic_write(tmp_path / "results" / "cam" / "a.npz"):
            pass

    assert _exit(capsys, main) == (
        f"error: cannot write {tmp_path / 'results' / 'cam'}: Not a directory; free space or "
        "choose another folder"
    )


def test_full_disk_keeps_the_last_checkpoint_and_names_the_file(tmp_path):
    """A limit on the size of files stands for the full disk: the writer's error comes out of the
    same calls.
    """

    def train(_rank: int) -> None:
        run = _run(tmp_path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def losses_of(batch: dict) -> dict:
            if run.step == 4:  # after the first epoch's checkpoint
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            return _losses(run)(batch)

        _train(run, losses_of=losses_of)

    (result,) = run_ranks(train, ranks=1)
    assert result == f"OSError: [Errno {errno.EFBIG}] File too large: '{tmp_path / CHECKPOINT}'"
    assert load_torch(tmp_path / CHECKPOINT)["step"] == 3
    assert [path.name for path in tmp_path.glob(".*")] == [LOCK]  # no half-written file


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_full_disk_is_one_line(tmp_path, capsys, number):
    def main(_args) -> None:
        with atomic_write(tmp_path / "a.pth"):
            try:
                raise OSError(number, os.strerror(number))
            except OSError:
                raise RuntimeError(  # noqa: B904
                    "[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598"
                )

    assert _exit(capsys, main) == (
        f"error: cannot write {tmp_path / 'a.pth'}: {os.strerror(number)}; free space or choose "
        "another folder"
    )


class _Kills(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, _index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)


KILLED = (
    "error: a worker process was killed, most often because memory ran out; lower --num_workers"
)


def test_loader_worker_killed(capsys):
    assert _exit(capsys, lambda _args: list(DataLoader(_Kills(), num_workers=1))) == KILLED


def test_pool_worker_killed(capsys):
    assert _exit(capsys, lambda _args: pool_map(os._exit, [1, 2, 3], 2, "exit")) == KILLED


def test_device_memory_full_in_training(tmp_path):
    def losses_of(_batch: dict) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    assert _message(_train, _run(tmp_path), "auto", losses_of) == (
        "the device ran out of memory; lower --batch_size or --crop_size, raise --accum, or set "
        "--precision bf16"
    )


def test_device_memory_full_in_inference(capsys):
    def main(_args) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    assert _exit(capsys, main) == "error: the device ran out of memory; give smaller files"


# ============ anything at all ============
@given(data=st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_list_gives_plain_names_or_a_message(tmp_path, data):
    path = _list(tmp_path, data)
    try:
        ids = read_list(path)
    except InputError:
        return
    assert ids
    assert len(set(ids)) == len(ids)
    for name in ids:
        assert (tmp_path / f"{name}.jpg").resolve().parent == tmp_path.resolve()


@given(
    names=st.lists(
        st.from_regex(r"[\w.-]{0,6}\w", fullmatch=True), min_size=1, max_size=8, unique=True
    ),
    crlf=st.booleans(),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_plain_names_are_read_back(tmp_path, names, crlf):
    names = [
        name for name in names if name.split(".")[-1].lower() not in ("jpg", "jpeg", "png")
    ] or ["a"]
    assert read_list(_list(tmp_path, ("\r\n" if crlf else "\n").join(names).encode())) == names


@given(
    labels=npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 5)),
        elements=st.sampled_from([0, 1]),
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_labels_are_read_back(tmp_path, labels):
    ids = [f"i{row}" for row in range(len(labels))]
    classes = [f"c{column}" for column in range(labels.shape[1])]
    save_labels(tmp_path / LABEL_FILE, ids, labels)
    np.testing.assert_array_equal(load_labels(tmp_path, ids[::-1], classes, "npy"), labels[::-1])


@given(
    mask=npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    meta=st.dictionaries(
        st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=4), st.none()), max_size=3
    ),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_mask_is_read_back_and_gives_labels_or_a_message(tmp_path, mask, meta):
    path = tmp_path / MASK_DIR / "a.png"
    write_mask(path, mask, meta)
    np.testing.assert_array_equal(read_mask(path), mask)
    present = set(np.unique(mask).tolist()) - {0, 255}
    if max(present, default=0) <= 5:
        assert (
            set((np.flatnonzero(load_labels(tmp_path, ["a"], "abcde", "mask")[0]) + 1).tolist())
            == present
        )
    else:
        assert _message(load_labels, tmp_path, ["a"], "abcde", "mask") == (
            f"{path} has value {max(present)}; 5 classes use 0..5, and 255 is ignored"
        )


@given(
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 300),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_to_a_cam_file_gives_unit_maps_or_a_message(tmp_path, damage, cut):
    path = save_cam(
        tmp_path,
        CamFile(
            "a", np.array([0, 2]), np.full((2, 3, 4), 0.25, np.float32), (3, 4), {"stage": "cam"}
        ),
    )
    data = bytearray(path.read_bytes())
    for place, value in damage:
        data[place % len(data)] = value
    path.write_bytes(data[: len(data) - cut])
    try:
        found = load_cam(path)
    except InputError:
        return
    assert found.cam.shape == (len(found.keys), *found.size)
    assert np.isfinite(found.cam).all()
