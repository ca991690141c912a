"""Make the VOC 2012 data set with SBD's masks: images, masks, lists and image labels in one folder.

    python -m voc12.prepare --voc12_root data/VOCdevkit/VOC2012

Downloads PASCAL VOC 2012 (2.0 GB, extracted as much again) and SBD (1.4 GB, read without
extracting) and writes into --voc12_root

    JPEGImages, Annotations, ImageSets, SegmentationClass, ...    as in VOC's archive
    SegmentationClassAug/<id>.png                                 VOC's own masks (255 on borders),
                                                                  SBD's for the other ids
    ImageSets/Segmentation/train_aug.txt                          the ids in SegmentationClassAug
                                                                  that are not in val.txt: 10,582
    cls_labels.npy                                                image labels of all ids with a
                                                                  mask, from Annotations

What is there already is kept, so a run that was cut off goes on where it stopped.
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("voc12.prepare_flags", __doc__)  # before the imports, which take seconds

import argparse
import contextlib
import http.client
import io
import re
import shutil
import socket
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat
from torchvision.datasets import SBDataset
from torchvision.datasets.utils import download_url
from torchvision.datasets.voc import DATASET_YEAR_DICT

from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.images import write_mask
from tool.file.require import require_file
from tool.run.progress import progress
from voc12.constants import (
    ANNOTATION_DIR,
    CLASS_LIST_FILE,
    CLASSES,
    IMAGE_DIR,
    LABEL_FILE,
    LIST_DIR,
    MASK_DIR,
    VOC_MASK_DIR,
)
from voc12.labels import load_labels, save_labels
from voc12.lists import TRAIN_AUG, derive_train_aug, image_path, load_ids, read_list
from voc12.prepare_flags import SBD_TAR, VOC_TAR, parse_args

VOC_ID = re.compile(r"\d{4}_\d{6}\.jpg", re.ASCII)
EXTRACTING = ".extracting"  # stands in --voc12_root while the archive is only partly extracted
AUG_BYTES = 100_000_000  # 12,031 masks in blocks of 4 KiB
NETWORK_TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Archive:
    """A file to download: flag is how a user hands over a copy, size its bytes."""

    name: str
    flag: str
    url: str
    filename: str
    md5: str
    size: int


VOC = Archive(
    name="VOC 2012",
    flag="--voc_tar",
    url=DATASET_YEAR_DICT["2012"]["url"],
    filename=VOC_TAR,
    md5=DATASET_YEAR_DICT["2012"]["md5"],
    size=1_999_639_040,
)
SBD = Archive(
    name="SBD",
    flag="--sbd_tar",
    url=SBDataset.url,
    filename=SBD_TAR,
    md5=SBDataset.md5,
    size=1_419_539_633,
)


# ============ what is there, what is needed ============
def has_voc(root: Path) -> bool:
    """Whether VOC's archive lies extracted in root."""
    folders = (IMAGE_DIR, ANNOTATION_DIR, VOC_MASK_DIR, LIST_DIR)
    return all((root / folder).is_dir() for folder in folders) and not (root / EXTRACTING).exists()


def has_masks(root: Path, expect: int) -> bool:
    """Whether SegmentationClassAug holds the expected train_aug already."""
    try:
        return expect > 0 and has_voc(root) and len(derive_train_aug(root)) == expect
    except InputError:
        return False


def require_disk(root: Path, need_voc: bool, need_sbd: bool, args: argparse.Namespace) -> None:
    """Raise InputError when the disk of root has less space than the steps to come take at their
    peak.
    """
    folder = root.absolute().parent
    voc_archive = 0 if args.voc_tar or (folder / VOC.filename).exists() else VOC.size
    sbd_archive = 0 if args.sbd_tar or (folder / SBD.filename).exists() else SBD.size
    voc_files = args.voc_tar.stat().st_size if args.voc_tar else VOC.size
    first = need_voc * (voc_archive + voc_files)
    kept = need_voc * (voc_files + (voc_archive if args.keep_archives else 0))
    need = max(first, kept + need_sbd * sbd_archive) + AUG_BYTES
    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    print(f"needs about {need / 1e9:.1f} GB in {root}; {free / 1e9:.1f} GB are free")
    if free < need:
        raise InputError(
            f"{existing} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB are needed; choose "
            "another --voc12_root"
        )


# ============ archives ============
@contextlib.contextmanager
def fetched(archive: Archive, given: Path | None, folder: Path, keep: bool) -> Iterator[Path]:
    """The path of an archive, downloaded to folder unless given or there with the right md5;
    deleted after use if downloaded.
    """
    if given:
        yield given
        return
    path = folder / archive.filename
    was_there = path.exists()
    size = f"{archive.size / 1e9:.1f} GB"
    doing = "checking" if was_there else f"downloading {archive.url} ({size}) to"
    print(f"{archive.name}: {doing} {path}")
    # torchvision sets none: a dead connection would hang for ever
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    try:
        download_url(archive.url, folder, archive.filename, archive.md5)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"cannot download {archive.url} ({error}); get it some other way and put it at {path} "
            f"or pass {archive.flag} FILE"
        ) from error
    yield path
    if not (was_there or keep):
        path.unlink()


@contextlib.contextmanager
def opened_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar file open for reading; damage in it, and members that would leave the folder, become
    InputError.
    """
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        # a full disk, not a damaged archive
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"cannot extract {path}: {error}; download it again") from error


def extract_voc(tar_path: Path, root: Path) -> None:
    """Extract what lies under VOC2012/ in the archive into root, skipping files that are there in
    full size.
    """
    print(f"VOC 2012: extracting {tar_path} into {root}")
    root.mkdir(parents=True, exist_ok=True)
    (root / EXTRACTING).touch()
    with opened_tar(tar_path) as tar:
        for member in progress(tar, desc="VOC 2012", unit=" files"):
            relative = f"/{member.name}".partition("/VOC2012/")[2]
            target = root / relative
            if (
                not relative
                or not member.isfile()
                or (target.is_file() and target.stat().st_size == member.size)
            ):
                continue
            tar.extract(member.replace(name=relative, deep=False), root, filter="data")
    (root / EXTRACTING).unlink()
    if not has_voc(root):
        raise InputError(
            f"{tar_path} is not {VOC_TAR}: it has no VOC2012/{IMAGE_DIR} with annotations, "
            "masks and lists"
        )


# ============ masks, list, labels ============
def merge_voc_masks(root: Path) -> int:
    """Copy VOC's own masks into SegmentationClassAug where it has none; returns how many."""
    missing = [
        path
        for path in sorted((root / VOC_MASK_DIR).glob("[!.]*.png"))
        if not (root / MASK_DIR / path.name).exists()
    ]
    for path in progress(missing, desc="VOC masks", unit=" masks"):
        with atomic_write(root / MASK_DIR / path.name) as file:
            file.write(path.read_bytes())
    return len(missing)


def merge_sbd_masks(tar_path: Path, root: Path) -> int:
    """Write SBD's masks, of its archive or the folder it was extracted to, into
    SegmentationClassAug for ids that have none there; returns how many.

    VOC's own masks are there first, so they take precedence: SBD drew the same images again,
    without borders.
    """
    print(f"SBD: writing masks of {tar_path} into {root / MASK_DIR}")
    found = written = 0
    for name, read in sbd_files(tar_path):
        found += 1
        target = root / MASK_DIR / f"{name.stem}.png"
        if not target.exists():
            write_mask(target, sbd_mask(read(), f"{tar_path}: {name}"))
            written += 1
    if not found:
        raise InputError(
            f"{tar_path} is not SBD's {SBD.filename}: it has no masks dataset/cls/*.mat"
        )
    return written


def sbd_files(source: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """(path, reader of its bytes) of each cls/*.mat in SBD's archive or in a folder."""
    if source.is_dir():
        paths = sorted(source.rglob("cls/[!.]*.mat")) or sorted(
            source.glob("[!.]*.mat") if source.name == "cls" else ()
        )
        for path in progress(paths, desc="SBD masks", unit=" files"):
            yield PurePosixPath(path.relative_to(source)), path.read_bytes
        return
    with opened_tar(source) as tar:
        for member in progress(tar, desc="SBD masks", unit=" files"):
            name = PurePosixPath(member.name)
            wanted = name.parent.name == "cls" and name.suffix == ".mat" and name.name[0] != "."
            if member.isfile() and wanted:
                yield name, tar.extractfile(member).read


def require_voc_or_nothing(root: Path) -> None:
    """Raise InputError for a folder that holds something else than VOC, whatever part of it."""
    if not root.exists():
        return
    known = {
        *(IMAGE_DIR, ANNOTATION_DIR, LABEL_FILE, MASK_DIR, VOC_MASK_DIR, VOC.filename),
        *(SBD.filename, EXTRACTING, "SegmentationObject", "ImageSets"),
    }
    inside = sorted(path.name for path in root.iterdir() if path.name[0] != ".")
    own_classes = (root / CLASS_LIST_FILE).exists()
    if own_classes or (inside and known.isdisjoint(inside)):
        what = CLASS_LIST_FILE if own_classes else inside[0]
        raise InputError(
            f"{root} holds other data than VOC ({what}); this command downloads VOC 2012 into "
            "--voc12_root: give a new folder for it. Photographs of your own need no preparing, "
            "see docs/data.md"
        )
    images = root / IMAGE_DIR
    named = next((p.name for p in images.glob("[!.]*") if not VOC_ID.match(p.name)), None)
    if named is not None:
        raise InputError(
            f"{root} holds other photographs than VOC's ({IMAGE_DIR}/{named}); give a new folder "
            "for VOC 2012"
        )


def sbd_mask(mat: bytes, where: str) -> np.ndarray:
    """The class mask in one of SBD's .mat files: (H, W) uint8, 0 background, c + 1 class c, no
    ignored pixels.
    """
    try:
        mask = np.asarray(
            loadmat(io.BytesIO(mat), variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0]
        )
    except Exception as error:  # scipy raises nearly every type on damaged files
        raise InputError(
            f"{where} is no mask of SBD: {type(error).__name__}: {error}; download the archive "
            "again"
        ) from error
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.max(initial=0) > len(CLASSES):
        raise InputError(
            f"{where} is no mask of SBD: {mask.dtype} of shape {mask.shape}; download the archive "
            "again"
        )
    return mask


def write_train_aug(root: Path, expect: int) -> list[str]:
    """The ids of train_aug, each with an image; writes train_aug.txt, or checks the one that is
    there against the masks.
    """
    ids = derive_train_aug(root)
    if expect and len(ids) != expect:
        raise InputError(
            f"{root / MASK_DIR} without val.txt has {len(ids)} masks, {expect} expected: masks are "
            "missing or from elsewhere; complete them, or pass --expect 0 to take what is there"
        )
    for name in ids:
        image_path(root, name)
    path = root / LIST_DIR / f"{TRAIN_AUG}.txt"
    if not path.exists():
        with atomic_write(path, "w") as file:
            file.writelines(f"{name}\n" for name in ids)
    elif set(read_list(path)) != set(ids):
        raise InputError(
            f"{path} lists other ids than {MASK_DIR} without val.txt has; delete it to have it "
            "written again"
        )
    return ids


def write_labels(root: Path, ids: list[str]) -> None:
    """Write cls_labels.npy from the annotations, or check that the one that is there has all
    ids.
    """
    path = root / LABEL_FILE
    if not path.exists():
        save_labels(path, ids, load_labels(root, ids, CLASSES, "xml"))
        return
    try:
        load_labels(root, ids, CLASSES, "npy")
    except InputError as error:
        raise InputError(
            f"{path} does not fit the masks; delete it to have it written again ({error})"
        ) from error


def main(args: argparse.Namespace) -> None:
    root = args.voc12_root
    require_voc_or_nothing(root)
    for archive, given in ((VOC, args.voc_tar), (SBD, args.sbd_tar)):
        if given and not (archive is SBD and given.is_dir()):
            require_file(
                given, f"archive of {archive.flag}", f"leave the flag out to download {archive.url}"
            )

    # ============ what is left to do ============
    need_voc, need_sbd = not has_voc(root), not has_masks(root, args.expect)
    require_disk(root, need_voc, need_sbd, args)

    # ============ VOC 2012 ============
    if need_voc:
        with fetched(VOC, args.voc_tar, root.absolute().parent, args.keep_archives) as tar:
            extract_voc(tar, root)
    print(f"VOC 2012: {merge_voc_masks(root)} masks copied into {root / MASK_DIR}")

    # ============ SBD ============
    if need_sbd:
        with fetched(SBD, args.sbd_tar, root.absolute().parent, args.keep_archives) as tar:
            print(f"SBD: {merge_sbd_masks(tar, root)} masks written")

    # ============ list and labels ============
    train_aug = write_train_aug(root, args.expect)
    val = load_ids(root, "val")
    write_labels(root, sorted({*train_aug, *val}))
    print(
        f"{root}: {len(train_aug)} images in {TRAIN_AUG}, {len(val)} in val; image labels in "
        f"{LABEL_FILE}"
    )


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
