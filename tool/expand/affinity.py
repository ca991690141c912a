"""Pairs of nearby cells, the paths between them, their affinity and their labels.

IRN and AffinityNet look at the same pairs: every cell of a window (rows 0..H-r, columns r-1..W-r,
so that all destinations are in the map) with every cell of a half disc of radius r below and right
of it. They list the offsets of the half disc in different
orders: `pair_offsets` is AffinityNet's, `irn_offsets` is IRN's. Offsets are (dy, dx), cells are
numbered row * W + column.
Sizes: B maps, P offsets, S = (H - r + 1) * (W - 2r + 2) sources.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tool.mask_values import IGNORE_LABEL

# Side of an AffinityNet cell in pixels; its labels are made at this size.
AFFINITY_STRIDE = 8
# A cell whose scores all stay below this lies outside the crop (released code of AffinityNet).
NO_SCORE = 1e-5

Offset = tuple[int, int]


def pair_offsets(radius: int) -> list[Offset]:
    """The offsets (dy, dx) of a half disc, dy * dy + dx * dx < radius * radius: row 0 to the right,
    then all rows below.
    """
    steps = range(1 - radius, radius)
    return [
        (dy, dx)
        for dy in range(radius)
        for dx in steps
        if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius
    ]


def path_cells(offset: Offset) -> list[Offset]:
    """The cells on the path from `offset` (first) to (0, 0) (last): every cell of their rectangle
    less than 1 from the line.

    Distances are compared in integers (squared cross product < squared length), so no rounding
    decides. Source: IRN's PathIndex.
    """
    dy, dx = offset
    rectangle = (
        (y, x) for y in range(min(0, dy), max(0, dy) + 1) for x in range(min(0, dx), max(0, dx) + 1)
    )
    cells = [(y, x) for y, x in rectangle if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
    return sorted(cells, key=lambda cell: -abs(cell[0]) - abs(cell[1]))


def pair_paths(radius: int) -> list[list[Offset]]:
    """The path of every pair in IRN's order: short paths first, within a length in the order of
    pair_offsets.
    """
    return sorted((path_cells(offset) for offset in pair_offsets(radius)), key=len)


def irn_offsets(radius: int) -> list[Offset]:
    """The offsets of a half disc in IRN's order, that of pair_paths."""
    return [path[0] for path in pair_paths(radius)]


def fitting_radius(size: tuple[int, int], radius: int = 5) -> int:
    """`radius` while the shorter side has 2 * radius + 1 cells, else the largest radius with room
    for sources on both sides.

    At least 1, which has no pairs (the released AffinityNet stops with an error on maps of one or
    two cells).
    """
    side = min(size)
    return radius if side >= 2 * radius + 1 else max(1, (side - 1) // 2)


def shifted(maps: Tensor, offset: Offset, radius: int) -> Tensor:
    """The view of maps (..., H, W) at source + offset for every source of the window, (..., H - r +
    1, W - 2r + 2).

    offset (0, 0) gives the sources themselves. Raises ValueError when the map has no source.
    """
    height, width = maps.shape[-2:]
    rows, columns = height - radius + 1, width - 2 * radius + 2
    if rows < 1 or columns < 1:
        raise ValueError(
            f"a map of {height} x {width} cells has no pairs at radius {radius}; use fitting_radius"
        )
    top, left = offset[0], radius - 1 + offset[1]
    return maps[..., top : top + rows, left : left + columns]


def pair_values(maps: Tensor, offsets: list[Offset], radius: int) -> Tensor:
    """maps (..., H, W) at the destination of every pair, (..., P, S)."""
    sources = shifted(maps, (0, 0), radius).flatten(-2).unsqueeze(-2)
    return torch.cat(
        [
            sources[..., :0, :],
            *(shifted(maps, o, radius).flatten(-2).unsqueeze(-2) for o in offsets),
        ],
        dim=-2,
    )


def path_affinity(edge: Tensor, radius: int) -> Tensor:
    """Affinity of every pair, 1 - the strongest boundary on its path; (B, P, S) in IRN's order.

    edge: (B, H, W), boundary probability. The gradient goes to the strongest cell of a path, the
    one nearest to the destination among equals. Only its number is kept for the backward pass, not
    the values along the path. Source: IRN section 4.2.
    """
    width = edge.shape[-1]
    sources = shifted(
        torch.arange(edge[0].numel(), device=edge.device).view(edge.shape[1:]), (0, 0), radius
    ).flatten()
    strongest = []
    with torch.no_grad():
        for path in pair_paths(radius):
            # (B, cells, S)
            along = torch.stack([shifted(edge, cell, radius).flatten(1) for cell in path], dim=1)
            steps = torch.tensor([dy * width + dx for dy, dx in path], device=edge.device)
            strongest.append(sources + steps[along.max(dim=1).indices])
    index = torch.stack(strongest, dim=1)  # (B, P, S)
    return 1 - edge.flatten(1).gather(1, index.flatten(1)).view(index.shape)


def pair_maps(affinity: Tensor, radius: int, size: tuple[int, int]) -> Tensor:
    """Affinities (P, S) laid out on the map: (P, H, W), the value at the pair's source, 0 where
    there is no pair.
    """
    maps = affinity.new_zeros(affinity.shape[0], *size)
    window = shifted(maps, (0, 0), radius)
    window.copy_(affinity.view_as(window))
    return maps


class PairLabels(NamedTuple):
    """Three exclusive masks over pairs, bool (..., P, S); pairs with an ignored cell are in
    none.
    """

    bg_pos: Tensor  # both cells are background
    fg_pos: Tensor  # both cells are of one foreground class
    neg: Tensor  # cells of two labels


def pair_labels(
    label: Tensor, offsets: list[Offset], radius: int, num_labels: int = IGNORE_LABEL
) -> PairLabels:
    """What the label map says of every pair.

    label:      (..., H, W), integer; 0 is background
    num_labels: values from here up are ignored (IRN passes classes + 1; 255 always is)
    """
    source = shifted(label, (0, 0), radius).flatten(-2).unsqueeze(-2)
    destination = pair_values(label, offsets, radius)
    valid = (source < num_labels) & (destination < num_labels)
    equal = valid & (source == destination)
    return PairLabels(
        bg_pos=equal & (source == 0),
        fg_pos=equal & (source != 0),
        neg=valid & (source != destination),
    )


def reduce_label(label: np.ndarray, scale: float = 0.25) -> np.ndarray:
    """IRN's label map at the size of its outputs: label (H, W) uint8 by PIL's nearest rule,
    (round(H * scale), round(W * scale)).

    At a quarter of a side that 4 divides this takes pixels 2, 6, 10, ...
    """
    height, width = label.shape
    return np.array(
        Image.fromarray(label).resize(
            (round(width * scale), round(height * scale)), Image.Resampling.NEAREST
        )
    )


def affinity_labels(low: Tensor, high: Tensor, stride: int = 8) -> Tensor:
    """AffinityNet's label map at feature size, (h, w) uint8: 0 background, k the k-th class of the
    image, 255 unsure.

    low, high: (K, H, W), CRF scores with background first at a low and a high alpha, 0 outside the
               crop
    Scores are averaged over stride x stride pixels. A class where the low alpha says so,
    background where the high alpha says so, 255 elsewhere and where no score reaches 1e-5. Source:
    released AffinityNet, ExtractAffinityLabelInRadius's data set.
    """
    scores = F.avg_pool2d(torch.cat([low, high]), stride, ceil_mode=True)
    low, high = scores.chunk(2)
    label = low.argmax(dim=0)
    label[label == 0] = IGNORE_LABEL
    label[high.argmax(dim=0) == 0] = 0
    label[scores.amax(dim=0) < NO_SCORE] = IGNORE_LABEL
    return label.to(torch.uint8)
