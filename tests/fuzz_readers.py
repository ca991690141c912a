"""Damaged files through every reader of bytes: each is read or refused with InputError, nothing else, and none takes long.

    python -m tests.fuzz_readers --inputs 100000

Valid files are cut, and their bytes are flipped, set, inserted, left out, repeated and swapped; of archives also the members inside, with
right checksums. Prints the number of inputs of each reader and how many it read; ends with status 1 after the first other error, whose file
it keeps. The suite runs a few (tests/test_fuzz_readers.py).
"""

import argparse
import functools
import io
import pickle
import random
import signal
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from network.mxnet_params import read_mxnet_params
from tests.test_mxnet_params import array_bytes, file_bytes
from tool.cam_file import FORMATS, CamFile, load_cam, save_cam
from tool.checkpoint import load_torch, save_torch
from tool.errors import InputError
from tool.images import read_image, read_mask, read_mask_meta, write_mask
from tool.region_cache import RegionCache
from tool.safe_pickle import load_pickled_npy
from voc12.expansion_labels import load_scores, write_scores
from voc12.labels import load_labels, save_labels
from voc12.lists import load_class_list, read_list

SECONDS = 20  # that one input may take
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, *b'PK().<>{}[]/\\"\r\n')
NAMES = ("cat", "dog", "owl")
_BLACK = np.zeros((12, 15, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Reader:
    """A function of a path, the valid files to damage, and how many parts of the inputs are its own."""

    read: Callable[[Path], object]
    suffix: str
    seeds: tuple[bytes, ...]
    share: int


def _written(write: Callable[[Path], object], name: str) -> bytes:
    """The bytes of the file that write(path) makes, path ending in name."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return next(path for path in Path(folder).rglob("*") if path.is_file()).read_bytes()


def _cam_seeds() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for n in (0, 2):
        cam_file = CamFile("a", np.arange(n), rng.random((n, 5, 6)).astype(np.float32), (5, 6), {"stage": "cam"})
        for format in FORMATS:
            yield _written(lambda path, c=cam_file, f=format: save_cam(path.parent, c, f), "a.npz")


def _pickle_seeds() -> Iterator[bytes]:
    values = {"a": np.arange(3), "b": [1.5, None, (True, "text")], 3: {"deep": np.float64(2), "words": ["x", "y"]}}
    for protocol in range(2, 6):  # np.save writes 3 to 5; 0 and 1 are refused by their opcodes
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
        yield buffer.getvalue() + pickle.dumps(np.array(values, dtype=object), protocol=protocol)
    buffer = io.BytesIO()
    np.save(buffer, {"keys": torch.arange(2), "high_res": torch.ones(2, 3, 3)}, allow_pickle=True)
    yield buffer.getvalue()


def _image_seeds() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    for mode, format in (("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("L", "TIFF"), ("RGB", "WEBP")):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, format=format)
        yield buffer.getvalue()


def _read_labels(path: Path) -> np.ndarray:
    return load_labels(path.parent, ["a"], NAMES, path)


def _read_annotation(path: Path) -> np.ndarray:
    (path.parent / "Annotations").mkdir(exist_ok=True)
    path.replace(path.parent / "Annotations" / "a.xml")
    return load_labels(path.parent, ["a"], NAMES, "xml")


def _read_mask_and_meta(path: Path) -> None:
    read_mask(path)
    read_mask_meta(path)


def _region_cache(folder: Path) -> RegionCache:
    return RegionCache(folder, mean=(0.5,) * 3, std=(0.5,) * 3, segments=4, crop_size=12, resize_long=(12, 16))


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


def readers() -> dict[str, Reader]:
    """Name -> reader."""
    scores = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(2, np.int64)]
    params = [
        file_bytes([array_bytes(array, version) for array in arrays], ["arg:a", "aux:b"])
        for version in ("legacy", "v1", "v2", "v3")
    ]
    xml = b"<annotation><object><name>cat</name></object><object><name>owl</name></object></annotation>"
    lists = (b"2007_000032\n2007_000039\n", "\ufeff/JPEGImages/a.jpg /SegmentationClassAug/a.png\r\n".encode())
    return {
        "CAM file": Reader(load_cam, ".npz", tuple(_cam_seeds()), 6),
        "pickled .npy": Reader(load_pickled_npy, ".npy", tuple(_pickle_seeds()), 6),
        ".params": Reader(read_mxnet_params, ".params", tuple(params), 4),
        "image labels": Reader(
            _read_labels, ".npy", (_written(lambda path: save_labels(path, ["a"], np.eye(3)[:1]), "a.npy"),), 2
        ),
        "annotation": Reader(_read_annotation, ".xml", (xml, xml.decode().encode("utf-16")), 1),
        "AffinityNet scores": Reader(
            load_scores, ".npz", (_written(lambda path: write_scores(path, np.arange(2), scores, scores, {}), "a.npz"),), 1
        ),
        "superpixels": Reader(
            _read_regions,
            ".npz",
            (_written(lambda path: _region_cache(path).photograph(_BLACK), "a"),),
            1,
        ),
        "mask": Reader(
            _read_mask_and_meta, ".png", (_written(lambda path: write_mask(path, np.eye(9), {"stage": "x"}), "a.png"),), 1
        ),
        "image": Reader(read_image, ".jpg", tuple(_image_seeds()), 1),
        "image list": Reader(read_list, ".txt", lists, 1),
        "class list": Reader(load_class_list, ".txt", (b"cat\ndog\n", "cat\ndog\n".encode("utf-16")), 1),
        "checkpoint": Reader(
            load_torch, ".pth", (_written(lambda path: save_torch(path, {"net": {"w": torch.ones(2)}, "step": 3}), "a.pth"),), 1
        ),
    }


def damaged(seeds: tuple[bytes, ...], rng: random.Random) -> bytes:
    """One of the seeds with one to six mutations; of an archive, half of the time inside a member."""
    data = rng.choice(seeds)
    if data.startswith(b"PK") and rng.random() < 0.5:
        return _damaged_member(data, rng)
    return _mutated(data, rng, seeds)


def _mutated(data: bytes, rng: random.Random, seeds: tuple[bytes, ...] = ()) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed) + 1)
        other = rng.randrange(len(changed) + 1)
        low, high = min(place, other), max(place, other)
        match rng.randrange(9):
            case 0:
                del changed[place:]
            case 1 | 2 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 3 | 4 if place < len(changed):
                changed[place] = rng.choice(INTERESTING)
            case 5:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case 6:
                del changed[low : min(high, low + 32)]
            case 7:
                changed[place:place] = changed[low : min(high, low + 64)]
            case 8 if seeds:
                donor = rng.choice(seeds)
                cut = rng.randrange(len(donor) + 1)
                changed[place:] = donor[cut:]
    return bytes(changed)


def _damaged_member(data: bytes, rng: random.Random) -> bytes:
    """The archive with one member mutated, left out or renamed, its checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        victim = rng.choice(names)
        for name in names:
            content = old.read(name)
            if name == victim:
                if rng.random() < 0.1:
                    continue
                name = name if rng.random() < 0.95 else name + "x"
                content = _mutated(content, rng)
            new.writestr(name, content)
    return buffer.getvalue()


class _TooSlow(BaseException):
    """An input took longer than SECONDS."""


def _too_slow(*_: object) -> None:
    raise _TooSlow


def fuzz(inputs: int, seed: int, folder: Path) -> dict[str, tuple[int, int]]:
    """Reader -> (inputs, of which read). Any error but InputError leaves its file in folder and is raised."""
    rng = random.Random(seed)
    table = readers()
    total = sum(reader.share for reader in table.values())
    counts = {}
    previous = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for name, reader in table.items():
            number, read = max(1, -(-inputs * reader.share // total)), 0
            path = folder / f"input{reader.suffix}"
            for _ in range(number):
                data = damaged(reader.seeds, rng)
                path.write_bytes(data)
                signal.alarm(SECONDS)
                try:
                    with warnings.catch_warnings(action="ignore"):  # Pillow's, of damaged tags
                        reader.read(path)
                    read += 1
                except InputError:
                    pass
                except BaseException:
                    (folder / f"failed{reader.suffix}").write_bytes(data)
                    raise
                finally:
                    signal.alarm(0)
            counts[name] = (number, read)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return counts


def main() -> None:
    """Fuzz, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged files in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default %(default)s)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    start = time.monotonic()
    try:
        counts = fuzz(args.inputs, args.seed, folder)
    except BaseException:
        print(f"failed on {folder}/failed.*")
        raise
    for name, (number, read) in counts.items():
        print(f"{name}: {number} inputs, {read} read, {number - read} refused")
    print(f"{sum(number for number, _ in counts.values())} inputs, no error but InputError, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
