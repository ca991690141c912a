"""Photographs with the labels or seeds of the second expansion as named batch fields."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tool.errors import InputError
from tool.expand.affinity import AFFINITY_STRIDE, affinity_labels, reduce_label
from tool.expand.seed import cam_is_finished, find_seeds, load_seed, made_from, mask_is_finished
from tool.file.images import APPLY_EXIF, read_image, read_mask
from tool.run.progress import progress
from tool.transforms import (
    JITTER,
    PairTransform,
    colour_jitter,
    cut_window,
    import_jitter,
    normalise,
    random_crop,
    to_tensor,
)
from voc12.cam_folder import CamFolder, exif_of, loader_of, read_meta
from voc12.dataset import naming_sample
from voc12.expansion_labels import load_scores
from voc12.lists import image_path


class IrnTrainSet(Dataset):
    """Samples {id, image (3, S, S) normalised, label (S / 4, S / 4) uint8} of S x S crops, labels
    reduced as IRN reads them.

    scale: range of the random resizing. Random scale, flip and crop, in the released order
    (PairTransform). Indexed by the (epoch, index) keys of EpochSampler.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        label_path: Callable[[str], Path],
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        crop_size: int = 512,
        scale: tuple[float, float] = (0.5, 1.5),
        exif: str = APPLY_EXIF,
    ) -> None:
        self.voc12_root, self.ids, self.label_path, self.seed = (
            Path(voc12_root),
            list(ids),
            label_path,
            seed,
        )
        self.exif = exif
        self.transform = PairTransform(mean, std, crop_size, scale)

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        name = self.ids[index]
        image, label = (
            read_image(image_path(self.voc12_root, name), self.exif),
            read_mask(self.label_path(name)),
        )
        if label.shape != image.shape[:2]:
            raise InputError(
                f"{self.label_path(name)} is of size {label.shape}, its image {image.shape[:2]}; "
                "delete it"
            )
        image, label = self.transform(image, label, rng)
        return {
            "id": name,
            "image": to_tensor(image),
            "label": torch.from_numpy(reduce_label(label)),
        }


class TopLeftCrops(Dataset):
    """Samples {id, image (3, S, S) normalised}: the top left S x S pixels of each image, 0 where it
    does not reach.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        crop_size: int,
        exif: str = APPLY_EXIF,
    ) -> None:
        self.voc12_root, self.ids, self.mean, self.std, self.crop_size = (
            Path(voc12_root),
            list(ids),
            mean,
            std,
            crop_size,
        )
        self.exif = exif

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, index: int) -> dict:
        photograph = read_image(image_path(self.voc12_root, self.ids[index]), self.exif)
        image = normalise(photograph, self.mean, self.std)
        rows, columns = (slice(0, min(side, self.crop_size)) for side in image.shape[:2])
        image = cut_window(image, ((rows, columns), (rows, columns)), self.crop_size)
        return {"id": self.ids[index], "image": to_tensor(image)}


class AffTrainSet(Dataset):
    """Samples {id, image (3, S, S) normalised, label (S / 8, S / 8) uint8} of S x S crops, labels
    as tool.expand.affinity.affinity_labels.

    Colour jitter, crop and flip, without resizing, as released; the scores are 0 where the crop
    leaves the image. Indexed by the (epoch, index) keys of EpochSampler.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        score_path: Callable[[str], Path],
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        crop_size: int = 448,
        exif: str = APPLY_EXIF,
    ) -> None:
        self.voc12_root, self.ids, self.score_path = Path(voc12_root), list(ids), score_path
        self.exif = exif
        self.mean, self.std, self.seed, self.crop_size = mean, std, seed, crop_size
        import_jitter()

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        name = self.ids[index]
        image = read_image(image_path(self.voc12_root, name), self.exif)
        low, high, _ = load_scores(self.score_path(name))
        if low.shape[1:] != image.shape[:2]:
            raise InputError(
                f"{self.score_path(name)} is of size {low.shape[1:]}, its image {image.shape[:2]}; "
                "delete it"
            )
        image = normalise(colour_jitter(image, JITTER, rng), self.mean, self.std)
        # Image and scores are cropped as one array, (S, S, 3 + 2 K).
        crop = random_crop(
            np.concatenate([image, low.transpose(1, 2, 0), high.transpose(1, 2, 0)], axis=2),
            self.crop_size,
            rng,
        )
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        image, low, high = to_tensor(crop).split([3, len(low), len(low)])
        return {
            "id": name,
            "image": image.contiguous(),
            "label": affinity_labels(low, high, AFFINITY_STRIDE),
        }


class SeedSet(Dataset):
    """Inference samples {id, image (3, H, W) normalised, keys (n,), cam (n, H, W) unit, meta: what
    the mask will say of itself,
    walked_meta: the same of the walk's CAM file, if walked_meta is given}.

    meta: the same without the seed. Images whose mask in mask_dir is there already, made with these
    settings from the same seed, are left out, unless overwrite is set. The same with walked_dir and
    walked_meta, if given: a folder of CAM files beside the masks, or alone if mask_dir is None; and
    with whatever else has_rest says of an id, if given.
    cams: how the seeds are read, None by what each file holds.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        cam_dir: str | Path,
        mask_dir: str | Path | None,
        meta: dict[str, Any],
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        overwrite: bool = False,
        walked_dir: str | Path | None = None,
        walked_meta: dict[str, Any] | None = None,
        cams: CamFolder | None = None,
        has_rest: Callable[[str], bool] | None = None,
    ) -> None:
        meta = meta | read_meta(cams)
        walked_meta = None if walked_meta is None else walked_meta | read_meta(cams)
        self.load, self.exif = loader_of(cams), exif_of(cams)
        self.voc12_root, self.meta, self.classes, self.mean, self.std = (
            Path(voc12_root),
            meta,
            tuple(classes),
            mean,
            std,
        )
        self.walked_meta = walked_meta

        def finished(name: str, path: Path) -> bool:
            walked = walked_dir is None or cam_is_finished(
                Path(walked_dir) / f"{name}.npz", walked_meta, path
            )
            masked = mask_dir is None or mask_is_finished(
                Path(mask_dir) / f"{name}.png", meta, path
            )
            return walked and masked and (has_rest is None or has_rest(name))

        items = list(zip(ids, find_seeds(cam_dir, ids), strict=True))
        self.items = [
            (name, path)
            for name, path in progress(items, desc="finished masks", unit="img", leave=False)
            if overwrite or not finished(name, path)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        name, path = self.items[index]
        image = read_image(image_path(self.voc12_root, name), self.exif)
        seed = load_seed(path, image.shape[:2], self.classes, load=self.load)
        sample = {
            "id": name,
            "image": to_tensor(normalise(image, self.mean, self.std)),
            "keys": torch.from_numpy(seed.keys),
            "cam": torch.from_numpy(seed.cam),
            "meta": made_from(self.meta, path, seed),
        }
        return (
            sample
            if self.walked_meta is None
            else sample | {"walked_meta": made_from(self.walked_meta, path, seed)}
        )
