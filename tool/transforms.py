"""Augmentation of a photograph for training, and its resizing for inference. Images are (H, W, 3)
unless said otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from tool.mask_values import IGNORE_LABEL

JITTER = (0.3, 0.3, 0.3, 0.1)  # brightness, contrast, saturation, hue


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> float32 (value / 255 - mean) / std; the backbone gives mean and
    std.
    """
    scale = 1 / (255 * np.asarray(std, dtype=np.float32))
    shift = np.asarray(mean, dtype=np.float32) / np.asarray(std, dtype=np.float32)
    return image.astype(np.float32) * scale - shift


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 image at a new size, bicubic with Pillow's antialiasing, as released."""
    if image.shape[:2] == (height, width):
        return image
    return np.array(
        Image.fromarray(image).resize((width, height), resample=Image.Resampling.BICUBIC)
    )


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """(H, W) of size times scale, rounded, at least a pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def reduced_size(size: Sequence[int], long_side: int | None) -> tuple[int, int]:
    """(H, W) of size, reduced to this long side where it is larger; None leaves it."""
    return scaled_size(size, 1 if long_side is None else min(1, long_side / max(size)))


def scaled_images(
    image: np.ndarray,
    scales: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    long_side: int | None = None,
) -> tuple[tuple[int, int], list[torch.Tensor]]:
    """(size (H, W), normalised images (3, h, w), one a scale) of an image (H, W, 3) uint8; size and
    scales are those of the image reduced to long_side, where it is larger.
    """
    height, width = reduced_size(image.shape[:2], long_side)
    sizes = [scaled_size((height, width), scale) for scale in scales]
    scaled = [to_tensor(normalise(resize(image, *size), mean, std)) for size in sizes]
    return (height, width), scaled


def enlarged_mask(
    probabilities: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(label mask, its probability), (H, W) uint8 and float32, of probabilities (K, h, w) enlarged
    to size, one class after the other.
    """
    mask, confidence = np.zeros(size, np.uint8), np.full(size, -1, np.float32)
    for label, map_ in enumerate(probabilities):
        large = cv2.resize(map_, size[::-1], interpolation=cv2.INTER_LINEAR)
        higher = large > confidence
        mask[higher], confidence[higher] = label, large[higher]
    return mask, confidence


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """float (H, W, 3) -> tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


# The rows and columns of an image that a crop shows, and where in the crop they come.
Window = tuple[tuple[slice, ...], tuple[slice, ...]]


def random_window(shape: Sequence[int], size: int, rng: np.random.Generator) -> Window:
    """A random size x size window of an image of this shape (H, W, ...); a shorter side is placed
    at random in it.
    """
    source, target = [], []
    for side in shape[:2]:
        length = min(side, size)
        free = int(rng.integers(0, abs(side - size) + 1))
        source.append(slice(free, free + length) if side > size else slice(0, length))
        target.append(slice(0, length) if side > size else slice(free, free + length))
    return tuple(source), tuple(target)


def cut_window(image: np.ndarray, window: Window, size: int, fill: float = 0) -> np.ndarray:
    """The window of an image (H, W, ...) as (size, size, ...), `fill` where the image does not
    reach.
    """
    source, target = window
    crop = np.full((size, size, *image.shape[2:]), fill, dtype=image.dtype)
    crop[target] = image[source]
    return crop


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random size x size window of a normalised image; a shorter side is placed at random on
    zeros (the mean colour).
    """
    return cut_window(image, random_window(image.shape, size, rng), size)


def import_jitter() -> type:
    """torchvision's ColorJitter. Importing it takes 0.2 GiB and a second, which inference need not
    spend; data sets that jitter call this when they are made, or every loader's worker would spend
    it each epoch.
    """
    from torchvision.transforms import ColorJitter

    return ColorJitter


def colour_jitter(
    image: np.ndarray, jitter: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """torchvision's ColorJitter(*jitter) of a uint8 image, at random by a torch seed that rng
    draws.
    """
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which seeds the dropout of every GPU as well
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return np.array(import_jitter()(*jitter)(Image.fromarray(image)))


@dataclass(frozen=True)
class View:
    """What a training crop shows of a photograph: the photograph resized to (height, width),
    mirrored if flip, cut to the window of side size.
    """

    height: int
    width: int
    flip: bool
    window: Window
    size: int

    def labels(self, labels: np.ndarray, outside: int) -> np.ndarray:
        """The crop (size, size) of a label map (H, W) of the photograph, nearest neighbour;
        `outside` where the photograph ends.
        """
        rows, columns = (
            ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
            for old, new in zip(labels.shape, (self.height, self.width), strict=True)
        )
        columns = columns[::-1] if self.flip else columns
        (row_slice, column_slice), target = self.window
        crop = np.full((self.size, self.size), outside, dtype=labels.dtype)
        crop[target] = labels[rows[row_slice]][:, columns[column_slice]]
        return crop


@dataclass(frozen=True)
class PairTransform:
    """Random scale, flip, crop of a photograph and its label mask, colour jitter of the photograph,
    normalisation.

    scale:  range of the random resizing; the mask is resized by nearest
    jitter: as in TrainTransform; None for none. It comes after the crop, which leaves fewer pixels
            to change.
    """

    mean: Sequence[float]
    std: Sequence[float]
    crop_size: int
    scale: tuple[float, float] = (0.5, 1.5)
    jitter: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.jitter is not None:
            import_jitter()

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (H, W, 3) and labels (H, W) -> normalised crop (S, S, 3) and its labels (S, S).

        0, the mean colour, and IGNORE_LABEL fill what lies outside the image.
        """
        factor = rng.uniform(*self.scale)
        height, width = (max(1, round(side * factor)) for side in label.shape)
        image = resize(image, height, width)
        flip = rng.random() < 0.5
        window = source, target = random_window((height, width), self.crop_size, rng)
        image = (image[:, ::-1] if flip else image)[source]
        shown = image if self.jitter is None else colour_jitter(image, self.jitter, rng)
        crop = np.zeros((self.crop_size, self.crop_size, 3), dtype=np.float32)
        crop[target] = normalise(shown, self.mean, self.std)
        return crop, View(height, width, flip, window, self.crop_size).labels(
            label, outside=IGNORE_LABEL
        )


@dataclass(frozen=True)
class TrainTransform:
    """Resize of the long side, flip, colour jitter, normalisation and crop, in the released order.

    crop_size:   side of the crop in pixels
    resize_long: range of the long side in pixels, both ends included
    jitter:      brightness, contrast, saturation, hue of torchvision's ColorJitter
    """

    mean: Sequence[float]
    std: Sequence[float]
    crop_size: int = 448
    resize_long: tuple[int, int] = (448, 768)
    jitter: tuple[float, float, float, float] = JITTER

    def __post_init__(self) -> None:
        import_jitter()

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 RGB (H, W, 3) -> normalised float32 crop (crop_size, crop_size, 3); see
        with_view.
        """
        return self.with_view(image, rng)[0]

    def with_view(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, View]:
        """The crop and what it shows of the photograph.

        All randomness comes from rng, the jitter's through a torch seed that rng draws.
        """
        long_side = int(rng.integers(self.resize_long[0], self.resize_long[1] + 1))
        image = resize(image, *scaled_size(image.shape[:2], long_side / max(image.shape[:2])))
        flip = rng.random() < 0.5
        if flip:
            image = image[:, ::-1]
        image = colour_jitter(image, self.jitter, rng)
        view = View(
            *image.shape[:2], flip, random_window(image.shape, self.crop_size, rng), self.crop_size
        )
        source, target = view.window
        crop = np.zeros((self.crop_size, self.crop_size, 3), dtype=np.float32)
        crop[target] = normalise(image[source], self.mean, self.std)
        return crop, view
