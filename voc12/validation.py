"""Quick validations while a network trains, at one scale. They are a guide; evaluation_cam.py on
the files of all scales gives the numbers to report. Several processes share the list.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tool.cam import normalise_cam, require_finite
from tool.errors import InputError, naming_file
from tool.file.images import APPLY_EXIF, read_image
from tool.file.mask_reader import AUTO
from tool.losses import global_average, label_with_background, loss_classification
from tool.metrics import ThresholdSweep, confusion_matrix, iou_table
from tool.run.device import autocast
from tool.run.distributed import gather
from tool.run.flags import Unasked
from tool.run.loader import Loader
from tool.run.notes import note
from tool.run.progress import progress
from tool.run.shards import shard
from tool.show.overlay import cam_panel, mask_overlay
from voc12.dataset import InferenceSet, require_every
from voc12.labels import load_labels
from voc12.lists import image_path, load_ids, mask_path
from voc12.masks import ground_truth_dir, mask_reader
from voc12.orientation import require_mask_orientation

NO_VALIDATION = "none"  # in place of a list
THRESHOLDS = [i / 100 for i in range(101)]
PANEL_IMAGES = 4


def unless_missing(
    build: Callable[[str], "CamValidation | SegValidation"], val_list: str
) -> "CamValidation | SegValidation | None":
    """build(val_list); None for NO_VALIDATION, and, with a line, where the default list or what it
    needs is missing, of several processes to one of them.

    Raises InputError where it is missing and the user named the list.
    """
    if val_list == NO_VALIDATION:
        return None
    if not isinstance(val_list, Unasked):
        return build(val_list)
    validation, missing = None, ""
    try:
        validation = build(val_list)
    except InputError as error:
        missing = str(error)
    for one in filter(None, gather(missing)):
        note(f"no validation, which --val_list would name: {one}")
        return None
    return validation


class _Validation:
    """The list's photographs at one scale, in this process's share."""

    def __init__(
        self,
        root: Path,
        val_list: str,
        scale: float,
        net: nn.Module,
        device: torch.device,
        num_workers: int,
        with_masks: bool,
        classes: Sequence[str],
        mask_values: str,
        labels: Callable[[list[str]], np.ndarray] | None = None,
        exif: str = APPLY_EXIF,
    ) -> None:
        self.exif = exif
        self.root, self.net, self.device, self.has_masks = root, net, device, with_masks
        every = load_ids(root, val_list)
        for find in (image_path, mask_path) if with_masks else (image_path,):
            require_every(find, root, every, "validation images")
        if with_masks:
            masks = [mask_path(root, name) for name in every]
            self.read_mask = mask_reader(root, masks, classes, mask_values)
            require_mask_orientation(root, every, masks[0].parent, exif)
        ids = shard(every)
        paths = [image_path(root, name) for name in ids]
        # of all, so that they are read and refused alike in all processes
        own_labels = None if labels is None else np.array(shard(labels(every)))
        self.loader = Loader(
            InferenceSet(ids, paths, own_labels, [scale], net.mean, net.std, exif),
            batch_size=None,
            num_workers=num_workers,
        )

    def samples(self) -> progress:
        """The samples of InferenceSet under a progress bar."""
        return progress(self.loader, desc="validation", unit="img", leave=False)

    def photograph(self, name: str) -> np.ndarray:
        """The photograph (H, W, 3) uint8."""
        return read_image(image_path(self.root, name), self.exif)


class CamValidation(_Validation):
    """Of a CAM network: classification loss, and the best mIoU over thresholds of plain and refined
    CAM where the data set has masks.
    """

    def __init__(
        self,
        root: Path,
        val_list: str,
        labels: str,
        scale: float,
        net: nn.Module,
        classes: tuple[str, ...],
        device: torch.device,
        num_workers: int,
        plain: bool,
        exif: str = APPLY_EXIF,
        mask_values: str = AUTO,
    ) -> None:
        """labels: source as --labels names it; plain: the network has no refined CAM."""
        super().__init__(
            root,
            val_list,
            scale,
            net,
            device,
            num_workers,
            with_masks=ground_truth_dir(root).is_dir(),
            classes=classes,
            mask_values=mask_values,
            labels=lambda ids: load_labels(root, ids, classes, labels, mask_values),
            exif=exif,
        )
        self.classes = classes
        self.kinds = ("cam",) if plain else ("cam", "cam_refined")

    @torch.inference_mode()
    def __call__(self) -> tuple[dict[str, float], list[np.ndarray]]:
        """(measures of the whole list, CAM panels of this process's first images)."""
        sweeps = {kind: ThresholdSweep(THRESHOLDS, len(self.classes) + 1) for kind in self.kinds}
        losses, panels = [], []
        for sample in self.samples():
            label = sample["label"][None].to(self.device)
            maps = self._finite_maps(sample["scaled"][0][None].to(self.device), sample["id"])
            loss = loss_classification(global_average(maps["cam"]), label)
            require_finite(loss, f"validation image {sample['id']}: its loss")
            losses.append(float(loss))
            size = [int(side) for side in sample["size"]]
            unit = {kind: _unit_cam(cam, label, size) for kind, cam in maps.items()}
            if self.has_masks:
                self._count(sample, unit, sweeps)
            if len(panels) < PANEL_IMAGES:
                photograph = self.photograph(sample["id"])
                panels.append(cam_panel(photograph, unit[self.kinds[-1]], self.classes))
        shares = gather((losses, sweeps))
        measures = {"val_loss_cls": float(np.mean([loss for share, _ in shares for loss in share]))}
        for kind in self.kinds if self.has_masks else ():
            sweep = functools.reduce(operator.add, (share[kind] for _, share in shares))
            miou = iou_table(sweep.confusion()).miou_skip
            best = int(np.argmax(miou))
            measures[f"val_miou_{kind}"] = float(miou[best])
            measures[f"val_threshold_{kind}"] = THRESHOLDS[best]
        return measures, panels

    def _finite_maps(self, image: Tensor, name: str) -> dict[str, Tensor]:
        """_maps of the image called name; raises InputError when they are not finite."""
        maps = self._maps(image)
        for kind, cam in maps.items():
            require_finite(cam, f"validation image {name}: the network's {kind}")
        return maps

    def _maps(self, image: Tensor) -> dict[str, Tensor]:
        """Raw maps (1, K, h, w) of an image (1, 3, h, w), by kind."""
        if len(self.kinds) == 1:
            return {self.kinds[0]: self.net.forward_cam(image)}
        return dict(zip(self.kinds, self.net(image), strict=True))

    def _count(self, sample: dict, unit: dict[str, np.ndarray], sweeps: dict) -> None:
        path = mask_path(self.root, sample["id"])
        mask, keys = self.read_mask(path), np.flatnonzero(sample["label"].numpy())
        with naming_file(path):
            for kind, cam in unit.items():
                sweeps[kind].update(cam[keys], keys, mask)


def _unit_cam(cam: Tensor, label: Tensor, size: list[int]) -> np.ndarray:
    """Unit foreground maps (C, H, W) of raw maps (1, K, h, w), 0 for classes not in the label."""
    unit = normalise_cam(cam) * label_with_background(label)
    unit = nn.functional.interpolate(unit, size, mode="bilinear", align_corners=True)
    return unit[0, 1:].cpu().numpy()


class SegValidation(_Validation):
    """Of a segmentation network: mIoU without mirror images and CRF, over the classes that occur.

    logits: (network, images (3, h, w), size (H, W)) -> logits (K, H, W)
    """

    def __init__(
        self,
        root: Path,
        val_list: str,
        scale: float,
        net: nn.Module,
        classes: Sequence[str],
        device: torch.device,
        num_workers: int,
        precision: str,
        logits: Callable[[nn.Module, list[Tensor], tuple[int, int]], Tensor],
        mask_values: str = AUTO,
        exif: str = APPLY_EXIF,
    ) -> None:
        super().__init__(
            root,
            val_list,
            scale,
            net,
            device,
            num_workers,
            with_masks=True,
            classes=classes,
            mask_values=mask_values,
            exif=exif,
        )
        self.num_labels, self.precision, self.logits = len(classes) + 1, precision, logits

    @torch.inference_mode()
    def __call__(self) -> tuple[dict[str, float], list[np.ndarray]]:
        """(measures of the whole list, overlays of this process's first images)."""
        confusion, panels = np.zeros((self.num_labels,) * 2, dtype=np.int64), []
        for sample in self.samples():
            size = tuple(int(side) for side in sample["size"])
            with autocast(self.device, self.precision):
                images = [image.to(self.device) for image in sample["scaled"]]
                logits = self.logits(self.net, images, size)
            require_finite(logits, f"validation image {sample['id']}: the network's output")
            label = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            path = mask_path(self.root, sample["id"])
            with naming_file(path):
                confusion += confusion_matrix(label, self.read_mask(path), self.num_labels)
            if len(panels) < PANEL_IMAGES:
                panels.append(mask_overlay(self.photograph(sample["id"]), label))
        return {"val_miou": float(iou_table(sum(gather(confusion))).miou_skip)}, panels
