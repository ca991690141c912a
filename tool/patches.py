"""Complementary patch (CP) pairs: a mask and its complement hide two halves of an image.

A mask is (H, W) bool, True where the pixel is kept in the patch image. Hidden pixels are 0 after
normalisation, the mean colour. Randomness comes from the numpy generator passed in, so a seed
replays a pair in any worker. Source: CPN section 3.1 and released code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tool.choices import DRAWS, SLIC_INPUTS, STRATEGIES


def cp_pair(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The patch image (mask kept) and the complement (the rest), which add up to image exactly.

    image: (B, 3, H, W) normalised; mask: (B, H, W) bool.
    """
    mask = mask.unsqueeze(1)
    return image * mask, image * ~mask


def superpixels(
    image: np.ndarray, segments: int = 300, compactness: float = 10.0, slic_input: str = "rescaled"
) -> np.ndarray:
    """SLIC regions of a normalised crop: (H, W) int labels 1..S, S near `segments`.

    image:      (H, W, 3) float, normalised RGB
    slic_input: "rescaled" scales the crop to [0, 1] before the conversion to Lab, as scikit-image
                does since 0.19; "raw" converts the normalised values as they are, as 0.17.2 did,
                for which the released code was written. Colour weighs more there.
    """
    # slow to import, and nothing to inference and to trainings on grids or cached regions
    from skimage.color import rgb2lab
    from skimage.segmentation import slic

    if slic_input == "rescaled":
        return slic(image, n_segments=segments, compactness=compactness, start_label=1)
    lab = rgb2lab(image)
    # slic min-max scales whatever it gets; dividing the compactness by the same span undoes that
    # exactly.
    span = float(lab.max() - lab.min()) or 1.0
    return slic(
        lab, n_segments=segments, compactness=compactness / span, start_label=1, convert2lab=False
    )


def region_mask(
    regions: np.ndarray, hide_ratio: float, rng: np.random.Generator, draw: str = "released"
) -> np.ndarray:
    """The kept pixels (H, W) bool when random regions are hidden; a region is kept or hidden whole.

    regions: (H, W) labels 1..S
    draw:    "released" draws floor(hide_ratio * (S + 1)) times from {0..S} with replacement, which
             hides about 39 % of the regions at 0.5; "exact" hides round(hide_ratio * S) different
             ones
    """
    count = int(regions.max())
    if draw == "released":
        drawn = rng.integers(0, count + 1, size=int(hide_ratio * (count + 1)))
    else:
        drawn = rng.permutation(count)[: round(hide_ratio * count)] + 1
    kept = np.ones(count + 1, dtype=bool)
    kept[drawn] = False
    return kept[regions]


def grid_mask(
    height: int, width: int, cell: int, hide_ratio: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The kept pixels (H, W) bool and the kept fraction of cells, each cell of side `cell` pixels
    hidden with hide_ratio.

    Cells at the right and bottom border may be cut; they count as one cell in the fraction, as
    released.
    """
    rows, columns = -(-height // cell), -(-width // cell)
    kept = rng.random((rows, columns)) >= hide_ratio
    mask = kept.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return mask, float(kept.mean())


@dataclass(frozen=True)
class PatchMask:
    """Draws the mask of a CP pair for a normalised crop.

    strategy:    one of STRATEGIES
    segments:    superpixels asked of SLIC
    grid_sizes:  cell sides in pixels, one drawn per image
    hide_ratio:  share of regions, cells or pixels to hide, in (0, 1)
    draw:        one of DRAWS, how superpixels are drawn
    slic_input:  one of SLIC_INPUTS
    compactness: SLIC's weight of position against colour
    """

    strategy: str = "superpixel"
    segments: int = 300
    grid_sizes: Sequence[int] = (224, 448)
    hide_ratio: float = 0.5
    draw: str = "released"
    slic_input: str = "rescaled"
    compactness: float = 10.0

    def __post_init__(self) -> None:
        choices = ((self.strategy, STRATEGIES), (self.draw, DRAWS), (self.slic_input, SLIC_INPUTS))
        for value, allowed in choices:
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        if (
            not 0 < self.hide_ratio < 1
            or self.segments < 2
            or not self.grid_sizes
            or min(self.grid_sizes) < 1
        ):
            raise ValueError(
                "hide_ratio must lie in (0, 1), segments be at least 2 and grid sizes at least 1 "
                "pixel"
            )

    def __call__(
        self, image: np.ndarray, rng: np.random.Generator, regions: np.ndarray | None = None
    ) -> tuple[np.ndarray, float]:
        """(mask, visible): the kept pixels (H, W) bool and the visible fraction c1 in [0, 1] that
        weighs the patch branch.

        image:   (H, W, 3) float32, normalised
        regions: (H, W) its superpixels, labels 1..S without gaps, if they are known
                 (tool/file/region_cache.py)
        c1 is the kept fraction of pixels (superpixel), of cells (grid), or the expected
        fraction 1 - hide_ratio (pixel), as released.
        """
        height, width = image.shape[:2]
        if self.strategy == "grid":
            cell = int(rng.choice(np.asarray(self.grid_sizes)))
            return grid_mask(height, width, cell, self.hide_ratio, rng)
        if self.strategy == "pixel":
            return rng.random((height, width)) >= self.hide_ratio, 1 - self.hide_ratio
        if regions is None:
            regions = superpixels(image, self.segments, self.compactness, self.slic_input)
        mask = region_mask(regions, self.hide_ratio, rng, self.draw)
        return mask, float(mask.mean())
