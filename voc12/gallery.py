"""The pictures of a page about a run: of each image of a list its stages, as cards of
tool/show/report_page.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tool.errors import InputError
from tool.expand.crf import threshold_mask
from tool.file.cam_file import CamFile, find_cam, require_made_for
from tool.file.images import APPLY_EXIF, photograph_header, read_image, read_mask_meta
from tool.file.mask_reader import MaskReader
from tool.mask_values import IGNORE_LABEL
from tool.metrics import confusion_matrix, iou_table
from tool.show.overlay import mask_overlay
from tool.show.report_page import LARGE, SMALL, Card, Layer, jpeg_uri, map_uri, mask_uri
from voc12.lists import image_path, mask_path


class Shown(NamedTuple):
    """A stage in the gallery; searched: its threshold is free; load: reads its CAM files; read: its
    masks.
    """

    name: str
    folder: Path
    threshold: float | None
    searched: bool
    load: Callable[[Path], CamFile]
    read: MaskReader | None = None


@dataclass(frozen=True)
class Gallery:
    """Labels and pictures of the images of a list, by id.

    truth: reads a mask of the ground truth; None: there is none
    """

    voc12_root: Path
    stages: tuple[Shown, ...]
    classes: tuple[str, ...]
    truth: MaskReader | None
    exif: str = APPLY_EXIF

    def mask(self, name: str) -> np.ndarray:
        """The ground truth (H, W)."""
        return self.truth(mask_path(self.voc12_root, name))

    def label(self, name: str, stage: Shown) -> np.ndarray:
        """The label map (H, W) of a stage. Raises InputError where it is not of the photograph's
        size, has a value that is no class, or was made for other classes.
        """
        size = photograph_header(image_path(self.voc12_root, name)).size(self.exif)
        if stage.threshold is None:
            path = stage.folder / f"{name}.png"
            label = stage.read(path)
            require_made_for(read_mask_meta(path), self.classes, str(path))
            self._require_fit(path, label.shape, size, np.unique(label))
            return label
        path = find_cam(stage.folder, name)
        cam = stage.load(path)
        require_made_for(cam.meta, self.classes, str(path))
        if not len(cam.keys):
            return np.zeros(size, dtype=np.uint8)
        self._require_fit(path, cam.cam.shape[1:], size, np.asarray(cam.keys) + 1)
        return threshold_mask(cam.cam, cam.keys, stage.threshold)

    def _require_fit(
        self, path: Path, found: tuple[int, ...], size: tuple[int, int], values: np.ndarray
    ) -> None:
        if tuple(found) != size:
            raise InputError(
                f"{path} is of size {tuple(found)}, its photograph of {size} (height, width); is "
                "it another image's?"
            )
        count = len(self.classes)
        strange = values[(values > count) & (values != IGNORE_LABEL)]
        if len(strange):
            raise InputError(
                f"{path} has class value {strange[0]}; {count} classes use values 0 to {count} and "
                f"{IGNORE_LABEL}"
            )

    def score(self, name: str) -> float:
        """mIoU of the last stage on the image, percent, over the classes in its mask or label map;
        NaN where the mask is all 255, and without masks.
        """
        if self.truth is None:
            return float("nan")
        confusion = confusion_matrix(
            self.label(name, self.stages[-1]),
            self.mask(name),
            len(self.classes) + 1,
        )
        return float(iou_table(confusion).miou_skip)

    def layer(self, name: str, stage: Shown, small: bool) -> Layer:
        """A stage on the image, as the viewer takes it; small: with its picture."""
        label = self.label(name, stage)
        picture = jpeg_uri(mask_overlay(self.photograph(name), label), SMALL) if small else None
        if not stage.searched:
            return Layer(mask_uri(label), picture)
        cam = stage.load(find_cam(stage.folder, name))
        return Layer(map_uri(cam.cam, cam.keys, label.shape), picture)

    def coloured(self, name: str, stage: Shown) -> Sequence[int]:
        """The mask values that a stage's picture may have, at any threshold."""
        if stage.searched:
            return [int(key) + 1 for key in stage.load(find_cam(stage.folder, name)).keys]
        return np.unique(self.label(name, stage)).tolist()

    def photograph(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(image_path(self.voc12_root, name), self.exif)

    def card(self, chosen: tuple[str, float, bool]) -> Card:
        """The card of (id, score, whether its layers have pictures)."""
        name, score, small = chosen
        image = self.photograph(name)
        truth = None if self.truth is None else self.mask(name)
        if truth is not None and image.shape[:2] != truth.shape:
            raise InputError(
                f"{image_path(self.voc12_root, name)} is of size {image.shape[:2]}, its mask "
                f"{truth.shape} (height, width); is it another image's?"
            )
        last = self.label(name, self.stages[-1])
        present = np.unique(last if truth is None else truth).tolist()
        values = {*present, *(value for one in self.stages for value in self.coloured(name, one))}
        return Card(
            name,
            score,
            classes_of(present),
            classes_of(values),
            jpeg_uri(mask_overlay(image, last)),
            jpeg_uri(image, LARGE),
            truth
            if truth is None
            else Layer(mask_uri(truth), jpeg_uri(mask_overlay(image, truth), SMALL)),
            tuple(self.layer(name, stage, small) for stage in self.stages),
        )


def classes_of(values: Iterable[int]) -> tuple[int, ...]:
    """The class numbers, from 0, of mask values in ascending order; background and 255 are none."""
    return tuple(value - 1 for value in sorted(values) if 0 < value < IGNORE_LABEL)
