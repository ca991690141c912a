"""Every reader of bytes with valid files for it, for tests/fuzz_readers.py to damage."""

import contextlib
import functools
import io
import json
import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from network.expansion_weights import load_affinity_net, load_irn
from network.mxnet_params import read_mxnet_params
from network.seg_weights import load_seg
from network.weights import load_network
from report import training_curves, training_log
from tests.network.test_mxnet_params import array_bytes, file_bytes
from tests.tool.run.test_trainer import _run
from tool.errors import InputError
from tool.file.cam_file import FORMATS, ZIP_MAGIC, CamFile, load_cam, save_cam
from tool.file.checkpoint import load_torch, save_torch
from tool.file.coco_json import read_coco
from tool.file.foreign_cam import FOREIGN_FORMATS, choose_reading
from tool.file.images import read_image, read_mask, read_mask_meta, write_mask
from tool.file.mask_reader import choose_mask_reader
from tool.file.per_image import AUTO, BEST, PerImage, load_per_image, save_per_image
from tool.file.region_cache import RegionCache
from tool.file.safe_pickle import load_pickled_npy
from tool.file.segmentation import encode, run_lengths
from tool.file.state_dict import find_state, read_training, read_weights, save_weights
from tool.image_counts import ImageCounts
from tool.run.run_log import RunLog
from tool.run.trainer import CHECKPOINT
from voc12.class_list import load_class_list
from voc12.coco import Item, Painter, choose_classes, name_images
from voc12.expansion_labels import load_scores, write_scores
from voc12.label_file.tag_names import tag_names
from voc12.labels import load_labels, save_labels
from voc12.lists import read_list

NAMES = ("cat", "dog", "owl")
TABLES = (
    b"image,labels\na.jpg,cat\nb.jpg,dog;owl\n",
    b'image,labels\na.jpg,"cat, dog"\nb.jpg,\n',
    "file;cat;dog;owl\na;1;0;0\nb;0;1;1\n".encode("utf-16"),
    b"a 0 2\nb 1\n",
    b"\xef\xbb\xbfa\tcat\r\nb\tdog|owl\r\n",
    b"sep=;\r\nid;photo;tag1;tag2;split\r\n1;a.jpg;cat;nan;train\r\n2;b.jpg;owl;dog;val\r\n",
    b'image,choice\na.jpg,"{""choices"": [""cat""]}"\nb.jpg,"[\'dog\', \'owl\']"\n',
    b"image,cat,dog,owl\na,x,,x\nb,,x,\n",
)
JSON_LABELS = (
    b'{"a": ["cat"], "b.jpg": ["dog", "owl"]}',
    b'{"a": [1, 0, 0], "b": [0, 1, 1]}',
    b'[{"id": 1, "photo": "a.jpg", "tag1": "cat", "tag2": {"choices": ["dog"]}},'
    b' {"photo": "b", "tag1": "dog"}]',
    b'[{"image": "a", "labels": "cat"}, {"image": "x/b.jpg", "labels": []}]',
)
# what Pillow allows of a photograph, 179 million pixels, is twice 537 MB
IMAGE_MEGABYTES = 1200
_BLACK = np.zeros((12, 15, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Reader:
    """A function of a path, the valid files to damage, and how many parts of the inputs are its
    own.

    values, write: what the seeds hold, to be damaged as values, and how it is written;
    megabytes: that one input may take
    """

    read: Callable[[Path], object]
    suffix: str
    seeds: tuple[bytes, ...]
    share: int
    values: tuple[Any, ...] = ()
    write: Callable[[Path, Any], object] | None = None
    megabytes: int = 400

    def written(self, value: Any) -> bytes:
        """The bytes of a file that holds value."""
        return _written(lambda path: self.write(path, value), f"a{self.suffix}")


def _written(write: Callable[[Path], object], name: str) -> bytes:
    """The bytes of the file that write(path) makes, path ending in name."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return next(path for path in Path(folder).rglob("*") if path.is_file()).read_bytes()


def _cam_seeds() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for n in (0, 2):
        cam_file = CamFile(
            "a", np.arange(n), rng.random((n, 5, 6)).astype(np.float32), (5, 6), {"stage": "cam"}
        )
        for format in FORMATS:
            yield _written(lambda path, c=cam_file, f=format: save_cam(path.parent, c, f), "a.npz")


def _pickle_seeds() -> Iterator[bytes]:
    values = {
        "a": np.arange(3),
        "b": [1.5, None, (True, "text")],
        3: {"deep": np.float64(2), "words": ["x", "y"]},
    }
    for protocol in range(2, 6):  # np.save writes 3 to 5; 0 and 1 are refused by their opcodes
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        yield buffer.getvalue() + pickle.dumps(np.array(values, dtype=object), protocol=protocol)
    buffer = io.BytesIO()
    np.save(buffer, {"keys": torch.arange(2), "high_res": torch.ones(2, 3, 3)}, allow_pickle=True)
    yield buffer.getvalue()


def _image_seeds() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    for mode, format in (
        ("RGB", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("P", "PNG"),
        ("L", "TIFF"),
        ("RGB", "WEBP"),
    ):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, format=format)
        yield buffer.getvalue()
    sixteen = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    page = Image.fromarray(pixels)
    page.encoderinfo = {"tiffinfo": {254: 1}}  # a smaller copy
    for image, format, more in (
        (sixteen, "PNG", {}),
        (sixteen, "TIFF", {"save_all": True, "append_images": [page]}),
        (Image.fromarray(pixels).convert("RGBA"), "PNG", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, format=format, **more)
        yield buffer.getvalue()


def _read_labels(path: Path) -> np.ndarray:
    return load_labels(path.parent, ["a"], NAMES, path)


def _read_labels_in_text(path: Path) -> np.ndarray:
    """With a class list, and by the names in the file itself."""
    with contextlib.suppress(InputError):
        tag_names(path, ["a", "b"])
    return load_labels(path.parent, ["a", "b"], NAMES, path)


def _read_foreign_mask(path: Path) -> None:
    """As one of several classes, where some are refused, and as the mask of one."""
    with contextlib.suppress(InputError):
        choose_mask_reader([path], NAMES)[0](path)
    choose_mask_reader([path], NAMES[:1])[0](path)


def _mask_seeds() -> Iterator[bytes]:
    """Masks of other tools: RGB, grey, 1 and 16 bits, palettes in another order."""
    values = np.eye(9, dtype=np.uint8)
    reordered = Image.fromarray(values)
    reordered.putpalette([128, 0, 0, 0, 0, 0])
    pictures = [
        Image.fromarray(np.stack([values * 128, values * 0, values * 0], axis=2)),
        Image.fromarray(values * 255),
        Image.fromarray(values.astype(bool)),
        Image.fromarray(values.astype(np.uint16)),
        reordered,
    ]
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        yield buffer.getvalue()


def _read_annotation(path: Path) -> np.ndarray:
    (path.parent / "Annotations").mkdir(exist_ok=True)
    path.replace(path.parent / "Annotations" / "a.xml")
    return load_labels(path.parent, ["a"], NAMES, "xml")


def _read_mask_and_meta(path: Path) -> None:
    read_mask(path)
    read_mask_meta(path)


def _region_cache(folder: Path) -> RegionCache:
    return RegionCache(
        folder, mean=(0.5,) * 3, std=(0.5,) * 3, segments=4, crop_size=12, resize_long=(12, 16)
    )


@functools.cache
def _region_file(folder: Path) -> Path:
    """Where the superpixels of _BLACK are kept."""
    _region_cache(folder).photograph(_BLACK)
    (place,) = folder.rglob("*.npz")
    return place


def _read_regions(path: Path) -> None:
    """A damaged file of superpixels is made again."""
    folder = path.parent / "regions"
    path.replace(_region_file(folder))
    assert _region_cache(folder).photograph(_BLACK).shape == _BLACK.shape[:2]


def _coco_seeds() -> Iterator[bytes]:
    """Two small instances JSONs: numbers and texts for ids, polygons, both kinds of run-lengths."""
    mask = np.random.default_rng(0).random((12, 15)) < 0.4
    packed = encode(mask)
    counts = run_lengths(packed, (12, 15)).tolist()
    segmentations = ([[1, 2, 9.5, 2, 9, 11]], {"size": [12, 15], "counts": counts}, packed, [])
    for kind in (int, str):
        value = {
            "info": {"year": 2014},
            "images": [{"id": kind(1), "file_name": "a.jpg", "height": 12, "width": 15}],
            "annotations": [
                {
                    "id": number,
                    "image_id": kind(1),
                    "category_id": kind(7),
                    "segmentation": segmentation,
                    "bbox": [1, 2, 3.5, 4],
                    "iscrowd": number % 2,
                }
                for number, segmentation in enumerate(segmentations)
            ],
            "categories": [{"id": kind(7), "name": "cat", "supercategory": "animal"}],
        }
        yield json.dumps(value).encode()


def _read_coco_and_draw(path: Path) -> None:
    """Read the JSON, and draw every image's annotations as python -m voc12.coco does."""
    coco = read_coco(path)
    classes = choose_classes(coco, merge_names=True)
    name_images(coco, {})
    for clip in (False, True):
        painter = Painter(
            path, path.parent, classes.value, crowd="class", clip=clip, exif="apply", masks=True
        )
        for place, image in enumerate(coco.images):
            first, last = np.searchsorted(coco.image, (place, place + 1))
            item = Item("a", image, path, coco.annotations(first, last))
            painter.paint(item, (12, 15))  # a photograph's size: the JSON's must agree with it


# ============ CAM files of other codes ============
def _foreign_values() -> Iterator[Any]:
    """Every layout of tool/file/foreign_cam.py for the first class of three, in every number
    type.
    """
    cam = np.random.default_rng(0).random((1, 4, 5), dtype=np.float32)
    cam /= cam.max()
    every = np.concatenate([cam, cam[:, ::-1], cam * 0])
    yield {0: cam[0] / 2}
    yield {0: cam[0].astype(np.float64), 2: every[1].astype(np.float64)}
    yield {0: 1 - cam[0], 1: cam[0]}
    yield {"keys": np.array([0]), "cam": cam[:, ::4, ::4], "high_res": cam.astype(np.float16)}
    yield {"keys": [0, 1], "hr_cam": (cam * 255).astype(np.uint8)}
    yield {"keys": np.array([0]), "attn_highres": cam}
    yield every
    yield np.concatenate([1 - cam, every])


def _write_foreign(path: Path, value: Any, kind: str = "npy") -> None:
    if kind == "npz":
        members = value if isinstance(value, dict) else {"arr_0": value}
        np.savez(path, **{str(name): member for name, member in members.items()})
        return
    if not isinstance(value, np.ndarray):
        outer = np.empty((), dtype=object)
        outer[()] = value
        value = outer
    np.save(path, value, allow_pickle=True)


def _read_foreign_cam(path: Path) -> None:
    """As auto finds it, with image labels and without, and as one of the formats, by turns: one
    must read it.
    """
    data = path.read_bytes()
    folder = path.parent / "foreign"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    path = path.replace(folder / f"a{'.npz' if data[:4] == ZIP_MAGIC else '.npy'}")
    labels = np.array([[1, 0, 1]], dtype=np.float32)
    wanted = FOREIGN_FORMATS[zlib.crc32(data) % len(FOREIGN_FORMATS)]
    is_read, refusal = False, None
    for cam_format, known in (("auto", labels), ("auto", None), (wanted, labels)):
        try:
            reading = choose_reading(folder, ["a"], cam_format, 3, known, say=str)
            reading.load(path, None if known is None else known[0])
            is_read = True
        except InputError as error:
            refusal = error
    if not is_read:
        raise refusal


# ============ weights ============
_OWN = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.bias": torch.ones(2)}


def _weight_values() -> Iterator[dict]:
    """State dicts in the wrappings in which people have them."""
    yield dict(_OWN)
    yield {f"module.backbone.{name}": tensor for name, tensor in _OWN.items()}
    yield {"state_dict": dict(_OWN), "epoch": 3, "lr": 0.1}
    yield {"model": dict(_OWN), "model_ema": dict(_OWN), "optimizer": {"state": {0: _OWN}}}
    yield {"a": {"b": {"teacher": {f"backbone.{name}": one for name, one in _OWN.items()}}}}
    yield {
        "state_dict": dict(_OWN),
        "config": {"method": "cpn"},
        "classes": list(NAMES),
        "training": {"settings": {"seed": 0}},
    }


def _read_state(path: Path) -> None:
    value = read_weights(path)
    read_training(path)
    with contextlib.suppress(InputError):
        find_state(value, path, key="model")
    find_state(value, path, _OWN)


def _write_safetensors(path: Path, value: dict) -> None:
    tensors = {name: one for name, one in value.items() if isinstance(one, torch.Tensor)}
    if "state_dict" in value:
        save_weights(path, value)
    else:
        safetensors.torch.save_file(tensors, path)


def _trained_values() -> Iterator[dict]:
    """What the trainers write, without the tensors: what describes the network."""
    small = {"backbone": "resnet10t", "output_stride": None}
    cpn = {"method": "cpn", "num_classes": 3, "refinement": "pcm", "prcm": "released", **small}
    seg = {"method": "seg", "arch": "deeplabv3", "num_classes": 3, "head_channels": 8, **small}
    irn = {"method": "irn", "backbone": "resnet10t", "crop_size": 64}
    aff = {"method": "aff", "backbone": "resnet10t", "preset": "psa"}
    for config in (cpn, seg, irn, aff):
        yield {
            "state_dict": {"fc8.weight": torch.ones(4, 2, 1, 1), "fc_edge6.bias": torch.ones(1)},
            "config": config,
            "classes": list(NAMES),
            "training": {"settings": {"seed": 0, "resize_long": [60, 90]}, "iterations": 3},
        }


def _read_trained(path: Path) -> None:
    """By all who load a trained network: the tensors are never those of one, so all refuse."""
    refusals = []
    for load in (load_network, load_seg, load_irn, load_affinity_net):
        try:
            load(path)
        except InputError as error:
            refusals.append(error)
    raise refusals[0]


# ============ what a run leaves ============
class _NoBoard(RunLog):
    """A log without TensorBoard, which takes long to open."""

    def __init__(self, folder: Path) -> None:
        self._path, self._board = folder / "log.jsonl", None


def _resume(path: Path) -> None:
    """Continue a training of a tiny network from its checkpoint."""
    path.replace(path.parent / CHECKPOINT)
    log = _NoBoard(path.parent)
    run = _run(path.parent, log=log)
    try:
        run.resume("auto")
    finally:
        run.leave_folder()


@functools.cache
def _checkpoint() -> dict:
    """A checkpoint of that training, begun."""
    with tempfile.TemporaryDirectory() as folder:
        run = _run(Path(folder), log=_NoBoard(Path(folder)))
        run.save()
        return load_torch(Path(folder) / CHECKPOINT)


def _read_curves(path: Path) -> dict:
    path.replace(path.parent / "log.jsonl")
    return training_curves(training_log(path.parent))


LOG = b"""{"kind": "start", "time": "2026-01-01T00:00:00", "step": 0, "settings": {"seed": 0}}
{"kind": "train", "step": 1, "epoch": 0, "lr": 0.1, "loss_cls": 0.7, "loss": 1.5}
{"kind": "train", "step": 2, "epoch": 0, "lr": 0.1, "loss_cls": NaN, "loss": 1e300}
{"kind": "epoch", "epoch": 0, "step": 2, "val_miou": 0.5}
"""


def _per_image() -> PerImage:
    counts = ImageCounts(
        np.array([0, 0, 1], np.int32), np.array([0, 3, 5], np.int32), np.array([9, 4, 2]), 2, 4
    )
    return PerImage(("a", "b"), ("background", *NAMES), {BEST: counts}, {BEST: 0.5, AUTO: None})


def _read_per_image(path: Path) -> None:
    stored = load_per_image(path)
    for counts in stored.counts.values():
        counts.confusion()
        counts.object_shares()


def readers() -> dict[str, Reader]:
    """Name -> reader."""
    scores = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(2, np.int64)]
    params = [
        file_bytes([array_bytes(array, version) for array in arrays], ["arg:a", "aux:b"])
        for version in ("legacy", "v1", "v2", "v3")
    ]
    xml = (
        b"<annotation><object><name>cat</name></object>"
        b"<object><name>owl</name></object></annotation>"
    )
    lists = (
        b"2007_000032\n2007_000039\n",
        "\ufeff/JPEGImages/a.jpg /SegmentationClassAug/a.png\r\n".encode(),
    )
    return {
        "CAM file": Reader(load_cam, ".npz", tuple(_cam_seeds()), 6),
        "pickled .npy": Reader(load_pickled_npy, ".npy", tuple(_pickle_seeds()), 6),
        ".params": Reader(read_mxnet_params, ".params", tuple(params), 4),
        "image labels": Reader(
            _read_labels,
            ".npy",
            (_written(lambda path: save_labels(path, ["a"], np.eye(3)[:1]), "a.npy"),),
            2,
        ),
        "labels in a table": Reader(_read_labels_in_text, ".csv", TABLES, 2),
        "labels in JSON": Reader(_read_labels_in_text, ".json", JSON_LABELS, 1),
        "mask of another tool": Reader(
            _read_foreign_mask, ".png", tuple(_mask_seeds()), 1, megabytes=IMAGE_MEGABYTES
        ),
        "annotation": Reader(_read_annotation, ".xml", (xml, xml.decode().encode("utf-16")), 1),
        "AffinityNet scores": Reader(
            load_scores,
            ".npz",
            (_written(lambda path: write_scores(path, np.arange(2), scores, scores, {}), "a.npz"),),
            1,
        ),
        "superpixels": Reader(
            _read_regions,
            ".npz",
            (_written(lambda path: _region_cache(path).photograph(_BLACK), "a"),),
            1,
        ),
        "mask": Reader(
            _read_mask_and_meta,
            ".png",
            (_written(lambda path: write_mask(path, np.eye(9), {"stage": "x"}), "a.png"),),
            1,
            megabytes=IMAGE_MEGABYTES,
        ),
        "image": Reader(read_image, ".jpg", tuple(_image_seeds()), 1, megabytes=IMAGE_MEGABYTES),
        "instances JSON": Reader(_read_coco_and_draw, ".json", tuple(_coco_seeds()), 4),
        "image list": Reader(read_list, ".txt", lists, 1),
        "class list": Reader(
            load_class_list,
            ".txt",
            (
                b"cat\ndog\n",
                "cat\ndog\n".encode("utf-16"),
                b"0: background\n1: cat\n2: dog\n",
                b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n",
                b'{"1": "cat", "2": "dog"}',
                b"__ignore__\n_background_\ncat\n",
            ),
            2,
        ),
        "checkpoint": Reader(
            load_torch,
            ".pth",
            (
                _written(
                    lambda path: save_torch(path, {"net": {"w": torch.ones(2)}, "step": 3}), "a.pth"
                ),
            ),
            1,
        ),
        "CAM file of another code": Reader(
            _read_foreign_cam,
            ".npy",
            tuple(
                _written(lambda path, v=value, k=kind: _write_foreign(path, v, k), f"a.{kind}")
                for value in _foreign_values()
                for kind in ("npy", "npz")
            ),
            4,
            tuple(_foreign_values()),
            _write_foreign,
        ),
        "state dict": _weights(_read_state, ".pth", _weight_values(), save_torch, 2),
        "safetensors": _weights(
            _read_state,
            ".safetensors",
            (v for v in _weight_values() if "state_dict" in v or all(map(torch.is_tensor, v))),
            _write_safetensors,
            2,
        ),
        "trained weights": _weights(
            # without a backbone's name the network is the released one, ResNet38, of 500 MB
            _read_trained,
            ".pth",
            _trained_values(),
            save_torch,
            1,
            megabytes=800,
        ),
        "checkpoint to go on from": _weights(_resume, ".pth", [_checkpoint()], save_torch, 2),
        "log of a training": Reader(_read_curves, ".jsonl", (LOG,), 1),
        "counts of photographs": Reader(
            _read_per_image,
            ".npz",
            (_written(lambda path: save_per_image(path, _per_image()), "a.npz"),),
            1,
        ),
    }


def _weights(
    read: Callable[[Path], object],
    suffix: str,
    values: Iterable[dict],
    write: Callable[[Path, Any], object],
    share: int,
    megabytes: int = 400,
) -> Reader:
    """A reader whose seeds are the files of values."""
    values = tuple(values)
    seeds = tuple(_written(lambda path, v=v: write(path, v), f"a{suffix}") for v in values)
    return Reader(read, suffix, seeds, share, values, write, megabytes)
