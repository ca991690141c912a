"""Photographs with label masks, pseudo or real, as batches for training a segmentation network."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from tool.errors import InputError
from tool.file.cam_file import has_cam, require_made_for
from tool.file.images import APPLY_EXIF, read_image, read_mask, read_mask_meta
from tool.file.makers import Makers
from tool.file.require import require_dir
from tool.mask_values import IGNORE_LABEL
from tool.run.notes import note
from tool.run.progress import progress
from tool.transforms import PairTransform, to_tensor
from voc12.dataset import naming_sample
from voc12.labels import class_counts
from voc12.lists import image_path
from voc12.masks import count_pixels, mask_doubts

MASK_HELP = (
    "give the folder of a mask <id>.png for each image, of infer_irn.py, infer_aff.py, "
    "make_masks.py, make_crf.py --out_mask or the data set"
)


Read = Callable[[Path], np.ndarray]  # a mask, (H, W) uint8


def find_masks(
    mask_dir: str | Path, ids: Sequence[str], classes: Sequence[str], flag: str = "--mask_dir"
) -> tuple[list[Path], list[str]]:
    """(the mask of each id, the sorted stages that made them, by what they say of themselves);
    notes where two networks made them, which teach as well as one.

    Raises InputError counting and naming the ids that have none, and for masks made for other
    classes.
    """
    folder = require_dir(mask_dir, flag, MASK_HELP)
    paths = [folder / f"{name}.png" for name in ids]
    missing = [path.stem for path in paths if not path.is_file()]
    if missing:
        cams = any(has_cam(folder, name) for name in missing)
        raise InputError(
            f"{len(missing)} of {len(ids)} images have no mask in {flag} {folder}, first "
            f"{missing[0]}; "
            + (
                "it holds CAM files: make masks of them, make_masks.py or make_crf.py --out_mask"
                if cams
                else MASK_HELP
            )
        )
    stages, makers = set(), Makers()
    for path in progress(paths, desc="masks", unit="img", leave=False):
        meta = read_mask_meta(path)
        require_made_for(meta, classes, str(path))
        stages.add(str(meta.get("stage", "unnamed")))
        makers.add(path.name, meta)
    if mixed := makers.mixed():
        note(f"note: {flag} {folder} mixes {mixed}")
    return paths, sorted(stages)


def note_doubts(
    voc12_root: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
    masks: Sequence[Path],
    read: Read,
) -> None:
    """Say where masks show too little: a class of the labels in none, nearly all pixels 255."""
    named = class_counts(voc12_root, ids, classes)
    for line in mask_doubts(classes, named, count_pixels(masks, read, named)):
        note(f"note: {line}")


def read_of_size(path: Path, read: Read, size: tuple[int, ...]) -> np.ndarray:
    """The mask of an image of this size (height, width). Raises InputError naming one that is of
    another.
    """
    label = read(path)
    if label.shape != size:
        raise InputError(
            f"{path} is of size {label.shape}, its image {size} (height, width); is it another "
            "image's?"
        )
    return label


class SegTrainSet(Dataset):
    """Samples {id, image (3, S, S) normalised, label (S, S) uint8: 0..K-1, 255 where there is no
    class to learn}.

    Indexed by the (epoch, index) keys of EpochSampler.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        masks: Sequence[Path],
        num_labels: int,
        transform: PairTransform,
        seed: int,
        exif: str = APPLY_EXIF,
        read: Read = read_mask,
        others: tuple[Sequence[Path], Read] | None = None,
    ) -> None:
        """exif: how photographs are read; read: of a mask, voc12.masks.mask_reader for those of
        other tools; others: (second masks of the same images, how they are read), where these
        differ from the first there is no class to learn.
        """
        self.exif, self.read, self.others = exif, read, others
        self.voc12_root, self.ids, self.masks = Path(voc12_root), list(ids), list(masks)
        self.num_labels, self.transform, self.seed = num_labels, transform, seed

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        path = self.masks[index]
        image = read_image(image_path(self.voc12_root, self.ids[index]), self.exif)
        label = read_of_size(path, self.read, image.shape[:2])
        if self.others is not None:
            masks, read = self.others
            other = read_of_size(masks[index], read, image.shape[:2])
            label = np.where(label == other, label, np.uint8(IGNORE_LABEL))
        unknown = label[(label >= self.num_labels) & (label != IGNORE_LABEL)]
        if unknown.size:
            raise InputError(
                f"{path} has the value {unknown[0]}; the class list has values up to "
                f"{self.num_labels - 1}, and {IGNORE_LABEL} is ignored; check --mask_dir and "
                "--voc12_root"
            )
        image, label = self.transform(image, label, rng)
        return {"id": self.ids[index], "image": to_tensor(image), "label": torch.from_numpy(label)}
