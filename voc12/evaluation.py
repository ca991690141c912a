"""Counting CAM files and label maps of a list against its masks: a confusion matrix a threshold,
and of each image alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from pathlib import Path

import numpy as np

from tool.bootstrap import interval, mean_iou, resampled_miou
from tool.errors import InputError, naming_file
from tool.expand.crf import SeedCrf
from tool.expand.seed import crf_meta, crf_seed, load_seed
from tool.file.cam_file import CAM_SUFFIXES, CamFile, find_cam, load_cam, require_made_for
from tool.file.images import APPLY_EXIF, read_image, read_mask_meta
from tool.file.makers import Makers
from tool.file.mask_reader import MaskReader
from tool.file.require import require_dir
from tool.image_counts import ImageCounts, ImageSweep, size_groups
from tool.mask_values import BACKGROUND, IGNORE_LABEL
from tool.metrics import Scores, ThresholdSweep, confusion_matrix, iou_table
from tool.run.pool import WorkerPool
from tool.run.progress import progress
from voc12.constants import VOC12_ROOT
from voc12.lists import image_path
from voc12.masks import mask_doubts, mask_reader, other_suffix

THRESHOLDS = tuple(i / 100 for i in range(101))
IMAGES_PER_TASK = 32
CRF_IMAGES_PER_TASK = 2  # about a second each
NAMED_PROBLEMS = 10
MASK_SUFFIX = ".png"


def _sum(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """one + other, None being nothing."""
    return other if one is None else one if other is None else one + other


@dataclass(eq=False)
class _Part:
    """What a task counted: a sweep or a confusion matrix, the cells of each image and their pixels
    (tool/image_counts.py), (256,) pixels of each value of the masks, (C,) images whose CAM file
    names a class, the stages and the weights named in the files, a line for every failed image.
    """

    counts: ThresholdSweep | np.ndarray
    images: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=partial(np.zeros, 256, np.int64))
    named: np.ndarray | None = None
    stages: set[str] = field(default_factory=set)
    makers: Makers = field(default_factory=Makers)
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: "_Part") -> "_Part":
        return _Part(
            self.counts + other.counts,
            self.images + other.images,
            self.pixels + other.pixels,
            _sum(self.named, other.named),
            self.stages | other.stages,
            self.makers + other.makers,
            self.problems + other.problems,
        )


Interval = tuple[float, float]  # low and high, percent (tool/bootstrap.py)


@dataclass(frozen=True)
class SizeScore:
    """mIoU in percent over the classes that occur in the photographs whose objects are of one size;
    NaN and None where there are too few.
    """

    size: str
    images: int
    classes: int
    miou: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Confusion matrices of a list of images.

    confusion:  (T, K, K) int64, rows ground truth; T = 1 for label maps
    classes:    the K names, background first
    thresholds: (T,) unit scale; empty for label maps
    stages:     what made the predictions, by their files
    crf:        what the CAMs went through before they were counted
    ids:        of the images
    sweep:      the same images one by one, in the order of ids
    doubts:     lines about what the masks show too little of (voc12.masks.mask_doubts)
    """

    confusion: np.ndarray
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    ids: tuple[str, ...]
    stages: tuple[str, ...]
    sweep: ImageSweep
    crf: SeedCrf | None = None
    doubts: tuple[str, ...] = ()
    _intervals: dict[int, Interval | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.ids)

    @cached_property
    def scores(self) -> Scores:
        """The scores at every threshold."""
        return iou_table(self.confusion)

    def best(self, absent: str = "zero") -> int:
        """The index of the threshold with the highest mIoU, the lowest of equals."""
        return int(self.scores.miou(absent).argmax())

    def at(self, threshold: float) -> "Evaluation":
        """The same at one of its thresholds alone."""
        return replace(
            self,
            confusion=self.confusion[[self.thresholds.index(threshold)]],
            thresholds=(threshold,),
            sweep=self.sweep.only(self.thresholds.index(threshold)),
        )

    def image_counts(self, place: int) -> ImageCounts:
        """The confusion matrix of each image at the threshold of that place (label maps: 0)."""
        return self.sweep.at(place)

    def interval(self, place: int, absent: str = "zero") -> Interval | None:
        """Where the mIoU of the threshold of that place lies with other photographs of the kind
        (tool/bootstrap.py), percent; None for fewer than two photographs.

        A class that the whole list lacks counts as absent says; one that only a draw lacks, with
        its IoU on the whole list.
        """
        if place not in self._intervals:
            self._intervals[place] = _interval(*self.image_counts(place).hits_and_unions())
        found = self._intervals[place]
        return found and tuple(limit * self._share_that_counts(place, absent) for limit in found)

    def _share_that_counts(self, place: int, absent: str) -> float:
        """What the mean over the classes that occur is multiplied by for the mean of absent."""
        occurs = ~np.isnan(self.scores.iou[place])
        return 1.0 if absent == "skip" else occurs.mean().item()

    def by_size(self, place: int) -> tuple[SizeScore, ...]:
        """The scores by the objects' share of the photograph, at the threshold of that place."""
        counts = self.image_counts(place)
        scores = []
        for size, chosen in size_groups(counts.object_shares()).items():
            hits, unions = (values[chosen] for values in counts.hits_and_unions())
            miou = mean_iou(hits.sum(axis=0), unions.sum(axis=0)).item()
            classes = int(unions.any(axis=0).sum())
            scores.append(SizeScore(size, len(hits), classes, miou, _interval(hits, unions)))
        return tuple(scores)


def _interval(hits: np.ndarray, unions: np.ndarray) -> Interval | None:
    """Of the mIoU over the classes that occur; None for fewer than two photographs with any."""
    counted = unions.any(axis=1)
    return interval(resampled_miou(hits, unions)) if counted.sum() > 1 else None


def evaluate_cams(
    ids: Sequence[str],
    predict_dir: str | Path,
    gt_dir: str | Path,
    classes: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    num_workers: int = 1,
    crf: SeedCrf | None = None,
    voc12_root: str | Path = VOC12_ROOT,
    load: Callable[[Path], CamFile] = load_cam,
    exif: str = APPLY_EXIF,
    truth: MaskReader | None = None,
) -> Evaluation:
    """Compare the CAM files of ids with their masks at all thresholds (unit scale, ascending),
    reading each file once.

    classes: foreground names. The result does not depend on num_workers (0 and 1: no further
             process).
    crf:     if not None, the CAMs are seeds that go through this CRF first, with the photographs of
             voc12_root; what comes out says at threshold 0.5 what the CRF says.
    load:    reads a CAM file; to be sent to worker processes
    exif:    how photographs are read
    truth:   reads a mask (voc12.masks.mask_reader); None: what the masks of the list say themselves
    Raises InputError counting all images that fail, for whatever reason, and naming the first ten,
    and for predictions of two networks.
    """
    predict_dir, gt_dir = Path(predict_dir), Path(gt_dir)
    hint = "run infer_cam.py for them, or check --predict_dir (label maps need --type png)"
    _require_files(ids, "CAM files", predict_dir, CAM_SUFFIXES, hint)
    require_masks(ids, gt_dir)
    empty = _Part(ThresholdSweep(thresholds, len(classes) + 1))
    count = partial(
        _count_cams,
        predict_dir=predict_dir,
        gt_dir=gt_dir,
        classes=tuple(classes),
        thresholds=tuple(thresholds),
        crf=crf,
        voc12_root=Path(voc12_root),
        load=load,
        exif=exif,
        truth=truth or label_map_reader(None, gt_dir, ids, classes),
    )
    part = _count_all(
        count, empty, ids, num_workers, IMAGES_PER_TASK if crf is None else CRF_IMAGES_PER_TASK
    )
    found = _evaluation(part, part.counts.confusion(), classes, part.counts.thresholds, ids)
    part.makers.require_one(predict_dir)
    return replace(found, crf=crf)


def evaluate_masks(
    ids: Sequence[str],
    predict_dir: str | Path,
    gt_dir: str | Path,
    classes: Sequence[str],
    num_workers: int = 1,
    truth: MaskReader | None = None,
    named: np.ndarray | None = None,
    predicted: MaskReader | None = None,
) -> Evaluation:
    """Compare label maps <predict_dir>/<id>.png, in any form that masks have, with the masks;
    otherwise as evaluate_cams.

    named:     (C,) images whose labels name a class, where labels are known
    predicted: reads a label map (label_map_reader); None: what those of the list say themselves

    255 in a prediction is an error: an unsure pixel has no class that could be counted.
    """
    predict_dir, gt_dir = Path(predict_dir), Path(gt_dir)
    require_label_maps(ids, predict_dir, "check --predict_dir (CAM files need --type npy)")
    require_masks(ids, gt_dir)
    empty = _Part(np.zeros((len(classes) + 1,) * 2, dtype=np.int64), named=named)
    count = partial(
        _count_masks,
        predict_dir=predict_dir,
        gt_dir=gt_dir,
        classes=tuple(classes),
        truth=truth or label_map_reader(None, gt_dir, ids, classes),
        predicted=predicted or label_map_reader(None, predict_dir, ids, classes),
    )
    part = _count_all(count, empty, ids, num_workers, IMAGES_PER_TASK)
    found = _evaluation(part, part.counts[None], classes, (), ids)
    part.makers.require_one(predict_dir)
    return found


def _count_cams(
    ids: Sequence[str],
    predict_dir: Path,
    gt_dir: Path,
    classes: tuple[str, ...],
    thresholds: tuple[float, ...],
    crf: SeedCrf | None,
    voc12_root: Path,
    load: Callable[[Path], CamFile],
    exif: str,
    truth: MaskReader,
) -> _Part:
    part = _Part(
        ThresholdSweep(thresholds, len(classes) + 1), named=np.zeros(len(classes), dtype=np.int64)
    )
    for name in ids:
        try:
            path, mask_path = find_cam(predict_dir, name), gt_dir / f"{name}.png"
            mask = truth(mask_path)
            cam_file = (
                load(path)
                if crf is None
                else _through_crf(path, crf, image_path(voc12_root, name), classes, load, exif)
            )
            with naming_file(f"{path} against {mask_path}"):
                require_made_for(cam_file.meta, classes)
                part.images.append(part.counts.update(cam_file.cam, cam_file.keys, mask))
            part.pixels += np.bincount(mask.ravel(), minlength=256)
            part.named[cam_file.keys] += 1
            part.makers.add(path.name, cam_file.meta)
            part.stages.add(
                str(
                    cam_file.meta.get(
                        "stage", f"unnamed ({cam_file.meta.get('format', 'npz')} files)"
                    )
                )
            )
        except InputError as error:
            part.problems.append(str(error))
    return part


def _through_crf(
    path: Path,
    crf: SeedCrf,
    photograph: Path,
    classes: tuple[str, ...],
    load: Callable[[Path], CamFile],
    exif: str,
) -> CamFile:
    image = read_image(photograph, exif)
    seed = load_seed(path, image.shape[:2], classes, load=load)
    return crf_seed(image, seed, crf, crf_meta(crf, classes))


def _count_masks(
    ids: Sequence[str],
    predict_dir: Path,
    gt_dir: Path,
    classes: tuple[str, ...],
    truth: MaskReader,
    predicted: MaskReader,
) -> _Part:
    part = _Part(np.zeros((len(classes) + 1,) * 2, dtype=np.int64))
    for name in ids:
        try:
            path, mask_path = predict_dir / f"{name}.png", gt_dir / f"{name}.png"
            prediction, mask, meta = predicted(path), truth(mask_path), read_mask_meta(path)
            with naming_file(f"{path} against {mask_path}"):
                require_made_for(meta, classes, "the label map")
                confusion = confusion_matrix(prediction, mask, len(classes) + 1)
            part.counts += confusion
            part.pixels += np.bincount(mask.ravel(), minlength=256)
            cells = np.flatnonzero(confusion)
            # as a sweep of one threshold that all pixels exceed
            part.images.append((confusion.size + cells, confusion.ravel()[cells]))
            part.makers.add(path.name, meta)
            if "stage" in meta:
                part.stages.add(str(meta["stage"]))
        except InputError as error:
            part.problems.append(str(error))
    return part


def _count_all(
    count: Callable[[Sequence[str]], _Part],
    empty: _Part,
    ids: Sequence[str],
    num_workers: int,
    group_size: int,
) -> _Part:
    """The sum of count(ids) over groups of ids, in the order of ids."""
    groups = [ids[start : start + group_size] for start in range(0, len(ids), group_size)]
    with progress(total=len(ids), unit="img", desc="evaluate") as bar:

        def add(total: _Part, part_of_group: tuple[_Part, Sequence[str]]) -> _Part:
            part, group = part_of_group
            bar.update(len(group))
            return total + part

        if num_workers <= 1 or len(groups) == 1:
            return reduce(add, zip(map(count, groups), groups, strict=True), empty)
        with WorkerPool(min(num_workers, len(groups))) as pool:
            return reduce(add, zip(pool.map(count, groups), groups, strict=True), empty)


def _evaluation(
    part: _Part,
    confusion: np.ndarray,
    classes: Sequence[str],
    thresholds: tuple[float, ...],
    ids: Sequence[str],
) -> Evaluation:
    if part.problems:
        raise InputError(
            f"{len(part.problems)} of {len(ids)} images cannot be evaluated: "
            f"{_some(part.problems, '; ')}"
        )
    if not confusion.any():
        raise InputError(
            f"nothing to evaluate: no pixel of the {len(ids)} masks has a class, all are 255"
        )
    if not confusion[0, 1:].any():
        white = (
            "; where 255 is the class, --mask_values binary says so"
            if len(classes) == 1 and part.pixels[IGNORE_LABEL]
            else ""
        )
        raise InputError(
            f"nothing to evaluate: no pixel of the {len(ids)} masks is of a class, "
            f"{100 * part.pixels[IGNORE_LABEL] / part.pixels.sum():.0f} % are 255 and the others "
            f"background; check --gt_dir and the class list{white}"
        )
    return Evaluation(
        confusion,
        (BACKGROUND, *classes),
        thresholds,
        tuple(ids),
        tuple(sorted(part.stages)),
        ImageSweep.of(part.images, len(classes) + 1),
        doubts=tuple(mask_doubts(classes, part.named, part.pixels)),
    )


def require_masks(ids: Sequence[str], gt_dir: str | Path) -> None:
    """Raise InputError counting the ids that have no mask in gt_dir."""
    _require_files(ids, "masks", Path(gt_dir), (MASK_SUFFIX,), "check --gt_dir and --list")


def require_label_maps(ids: Sequence[str], folder: str | Path, hint: str) -> None:
    """Raise InputError counting the ids that have no label map, before any is read."""
    _require_files(ids, "label maps", Path(folder), (MASK_SUFFIX,), hint)


def label_map_reader(
    class_list: str | Path | None,
    folder: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
    others: Sequence[str | Path] = (),
) -> MaskReader:
    """The reader of the label maps <folder>/<id>.png, of which --mask_values says nothing.

    class_list, others: a file or a data set that may name their colours, None: there is none; and
    other folders (see mask_reader)
    """
    paths = [Path(folder) / f"{name}.png" for name in ids]
    return mask_reader(class_list, paths, classes, None, others=others)


def _require_files(
    ids: Sequence[str], what: str, folder: Path, suffixes: tuple[str, ...], hint: str
) -> None:
    """Raise InputError counting the ids that have no file <folder>/<id><suffix>, before any is
    read.
    """
    require_dir(folder, f"folder of {what}", hint)
    missing = [
        name
        for name in ids
        if not any((folder / f"{name}{suffix}").is_file() for suffix in suffixes)
    ]
    if missing:
        seen = other_suffix(folder, missing) if suffixes == (MASK_SUFFIX,) else ""
        raise InputError(
            f"{len(missing)} of {len(ids)} {what} are not in {folder}: {_some(missing, ', ')}"
            f"{seen}; {hint}"
        )


def _some(items: Sequence[str], separator: str) -> str:
    rest = len(items) - NAMED_PROBLEMS
    return separator.join(items[:NAMED_PROBLEMS]) + (
        f"{separator}and {rest} more" if rest > 0 else ""
    )
