"""Photographs, image labels and CP masks as named batch fields, and the order in which training
visits them.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from tool.errors import InputError, naming_memory
from tool.file.images import APPLY_EXIF, read_image
from tool.file.region_cache import RegionCache
from tool.patches import PatchMask
from tool.run.loader import Loader
from tool.run.shards import batch_share, rank
from tool.transforms import TrainTransform, scaled_images, to_tensor
from voc12.lists import image_path


def require_every(
    find: Callable[[Path, str], Path], voc12_root: Path, ids: Sequence[str], what: str
) -> list[Path]:
    """The files of ids that find, image_path or mask_path, finds; InputError counting those it does
    not, with what it says of the first.

    what: the images, for the message
    """
    paths, missing = [], []
    for name in ids:
        try:
            paths.append(find(voc12_root, name))
        except InputError as error:
            missing.append(error)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(ids)} {what} lack a file; the first: {missing[0]}"
        )
    return paths


# In a key, what is between the epochs of an image's visits in one epoch. Visits draw random numbers
# of their own, but for those of image 0: its visit v, from 0, draws what the first of image v does,
# as numpy takes (seed, epoch + v * VISIT, 0) and (seed, epoch, v) for the same words. Another key
# would change trainings with --sampling class.
VISIT = 2**32


class EpochSampler(Sampler):
    """Keys (epoch, index) of one epoch in a random order that (seed, epoch) fixes; `skip` leaves
    out the batches already seen.

    weights: (length,) how often each sample comes, relative to the others; None: each once. A
    sample comes as often as its share says, rounded down or up by chance (systematic resampling).
    The epoch travels with the index so that a worker can draw a sample's random numbers from (seed,
    epoch, index) alone, whatever worker and order it is loaded in. The last len % batch_size
    samples are left out, as the released loader's drop_last does. batch_size counts the samples of
    all ranks: the batches are the same however many there are, and each rank gets its part of every
    one.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        epoch: int,
        skip: int = 0,
        weights: np.ndarray | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, epoch
        self.weights = weights
        self.batches = range(skip, length // batch_size)
        self.part = batch_share(batch_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        keys = self._keys()
        for batch in self.batches:
            first = batch * self.batch_size + rank() * self.part
            yield from keys[first : first + self.part]

    def _keys(self) -> list[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.weights is None:
            return [(self.epoch, int(index)) for index in rng.permutation(self.length)]
        ends = np.cumsum(self.weights / self.weights.sum()) * self.length
        points = np.arange(self.length) + rng.random()
        chosen = np.searchsorted(ends, points, side="right").clip(max=self.length - 1)
        visits = np.arange(self.length) - np.searchsorted(chosen, chosen)  # chosen ascends
        keys = [
            (self.epoch + int(visit) * VISIT, int(index))
            for visit, index in zip(visits, chosen, strict=True)
        ]
        return [keys[place] for place in rng.permutation(self.length)]

    def __len__(self) -> int:
        return len(self.batches) * self.part


class IterationSampler(Sampler):
    """Keys (epoch, index) of the iterations start..stop - 1 of a training: batches of
    EpochSampler's epochs, one epoch after the other.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        weights: np.ndarray | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed, self.weights = length, batch_size, seed, weights
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[tuple[int, int]]:
        per_epoch = self.length // self.batch_size
        position = self.start
        while position < self.stop:
            epoch, skip = divmod(position, per_epoch)
            count = min(per_epoch - skip, self.stop - position)
            sampler = EpochSampler(
                self.length, self.batch_size, self.seed, epoch, skip, self.weights
            )
            yield from islice(sampler, count * sampler.part)
            position += count

    def __len__(self) -> int:
        return (self.stop - self.start) * batch_share(self.batch_size)


def epoch_loader(
    data: Dataset,
    batch_size: int,
    seed: int,
    num_workers: int,
    pin_memory: bool,
    weights: np.ndarray | None = None,
) -> Callable[[int, int], Loader]:
    """(epoch, iterations to skip) -> the remaining batches of that epoch, for TrainingRun.train;
    data: indexed by EpochSampler's keys; weights: of its samples, see there.

    batch_size: of all ranks; each loads its part. The loader has a generator of its own: with
    torch's it would draw a number at the start of each epoch and after each resume, and a resumed
    run would draw other dropout masks.
    """

    def loader(epoch: int, skip: int) -> Loader:
        sampler = EpochSampler(len(data), batch_size, seed, epoch, skip, weights)
        return _training_loader(data, batch_size, sampler, num_workers, pin_memory)

    return loader


def round_loader(
    data: Dataset,
    batch_size: int,
    seed: int,
    num_workers: int,
    pin_memory: bool,
    iterations: int,
    weights: np.ndarray | None = None,
) -> Callable[[int, int], Loader]:
    """As epoch_loader, for a training in rounds of this many iterations, however many epochs over
    the data a round is.
    """

    def loader(round_: int, skip: int) -> Loader:
        start, stop = round_ * iterations + skip, (round_ + 1) * iterations
        sampler = IterationSampler(len(data), batch_size, seed, start, stop, weights)
        return _training_loader(data, batch_size, sampler, num_workers, pin_memory)

    return loader


def class_weights(labels: np.ndarray) -> np.ndarray | None:
    """How often each image comes where every class is to come as often as another: one over the
    number of images of its rarest class; (images,) from labels (images, C) multi-hot. Images
    without a class are a class of their own. None where all come as often: the order is then the
    one without weights.
    """
    own = np.concatenate([labels > 0, ~labels.any(axis=1, keepdims=True)], axis=1)
    rare = 1 / np.maximum(own.sum(axis=0), 1)
    weights = (own * rare).max(axis=1)
    return weights if np.ptp(weights) else None


def _training_loader(
    data: Dataset, batch_size: int, sampler: Sampler, num_workers: int, pin_memory: bool
) -> Loader:
    return Loader(
        data,
        batch_size=batch_share(batch_size),
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )


def naming_sample(getitem: Callable[[Any, Any], dict]) -> Callable[[Any, Any], dict]:
    """__getitem__ of a data set with ids, index or (epoch, index) -> sample, that names the image
    for which the memory is too small.
    """

    @functools.wraps(getitem)
    def named(self: Any, key: int | tuple[int, int]) -> dict:
        with naming_memory(f"image {self.ids[key[1] if isinstance(key, tuple) else key]}"):
            return getitem(self, key)

    return named


class TrainSet(Dataset):
    """Training samples {id, image (3, H, W) normalised, label (C,), mask (H, W) bool, visible};
    mask and visible with a patch mask.

    regions: where superpixels come from; None makes them anew for every crop; exif: how photographs
    are read, as read_image says
    Indexed by the (epoch, index) keys of EpochSampler.
    """

    def __init__(
        self,
        voc12_root: str | Path,
        ids: Sequence[str],
        labels: np.ndarray,
        transform: TrainTransform,
        patch_mask: PatchMask | None,
        seed: int,
        regions: RegionCache | None = None,
        exif: str = APPLY_EXIF,
    ) -> None:
        self.exif = exif
        self.voc12_root, self.ids, self.labels = (
            Path(voc12_root),
            list(ids),
            torch.from_numpy(labels),
        )
        self.transform, self.patch_mask, self.seed, self.regions = (
            transform,
            patch_mask,
            seed,
            regions,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        photograph = read_image(image_path(self.voc12_root, self.ids[index]), self.exif)
        image, view = self.transform.with_view(photograph, rng)
        sample = {"id": self.ids[index], "image": to_tensor(image), "label": self.labels[index]}
        if self.patch_mask is not None:
            regions = None if self.regions is None else self.regions.crop(photograph, view)
            mask, visible = self.patch_mask(image, rng, regions)
            sample |= {
                "mask": torch.from_numpy(mask),
                "visible": torch.tensor(visible, dtype=torch.float32),
            }
        return sample


class InferenceSet(Dataset):
    """Inference samples {id, size (H, W), scaled: normalised images (3, h, w) one a scale, label
    (C,) if labels are given}.

    long_side: size and scales are those of photographs reduced to it, where they are larger
    """

    def __init__(
        self,
        ids: Sequence[str],
        paths: Sequence[Path],
        labels: np.ndarray | None,
        scales: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        exif: str = APPLY_EXIF,
        long_side: int | None = None,
    ) -> None:
        self.ids, self.paths, self.labels = list(ids), list(paths), labels
        self.exif, self.long_side = exif, long_side
        self.scales, self.mean, self.std = tuple(scales), mean, std

    def __len__(self) -> int:
        return len(self.ids)

    @naming_sample
    def __getitem__(self, index: int) -> dict:
        image = read_image(self.paths[index], self.exif)
        size, scaled = scaled_images(image, self.scales, self.mean, self.std, self.long_side)
        sample = {"id": self.ids[index], "size": size, "scaled": scaled}
        return (
            sample
            if self.labels is None
            else sample | {"label": torch.from_numpy(self.labels[index])}
        )
