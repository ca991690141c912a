"""Random walks of CAM scores over affinities, and the pseudo labels read from them.

The released code builds the N x N transition matrix and squares it; 500 x 375 pixels at stride 4
take 527 MiB for each copy. Here the scores take the same steps one by one over the at most 68
neighbours of a cell (radius 5): the result agrees, memory and work grow with the pixels. Sizes: C
maps, P offsets of the half disc, h x w cells.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.expand.affinity import Offset, irn_offsets, pair_maps, pair_offsets, path_affinity


@torch.no_grad()
def random_walk(scores: Tensor, weights: Tensor, offsets: list[Offset], steps: int) -> Tensor:
    """scores after `steps` steps of the walk, (C, h, w).

    scores:  (C, h, w)
    weights: (P, h, w), weight of the pair (cell, cell + offset) at the cell; 0 where cell + offset
             is outside the map. Pairs count both ways and every cell has weight 1 with itself.
    A step sends scores x to x T, T the weights with every column divided by its sum: each new score
    is a weighted mean of its neighbourhood's. Rows are padded so that every neighbour is one fixed
    distance away in memory and a pair offset takes two contiguous multiply-adds, one for each
    direction (as fast as a sparse matrix product, which not every torch build has). Computed
    in float64: late in a walk every step rounds the same way, which adds up to 1e-4 in float32.
    """
    maps, height, width = scores.shape
    row = width + max((abs(dx) for _, dx in offsets), default=0)
    cells = height * row
    shifts = [dy * row + dx for dy, dx in offsets]
    weights = F.pad(weights.double(), (0, row - width)).flatten(1).unbind()  # P times (cells,)

    # Two buffers take turns as a step's input and output; the views into them are made once.
    buffers = scores.new_zeros(2, maps, cells + max(shifts, default=0), dtype=torch.float64)
    centres = list(buffers[:, :, :cells])
    neighbours = [[buffer[:, shift : shift + cells] for shift in shifts] for buffer in buffers]

    def spread(now: int, after: int) -> None:
        """Weighted sums over the neighbourhoods of buffer `now`, into buffer `after`. Padding has
        weight 0 both ways.
        """
        scores_in, scores_out = centres[now], centres[after]
        scores_out.copy_(scores_in)
        for weight, ahead, behind in zip(weights, neighbours[now], neighbours[after], strict=True):
            scores_out.addcmul_(weight, ahead)
            behind.addcmul_(weight, scores_in)

    centres[0].fill_(1)
    spread(0, 1)
    share = 1 / centres[1]
    buffers.zero_()
    centres[0].view(maps, height, row)[:, :, :width] = scores
    for step in range(steps):
        spread(step % 2, 1 - step % 2)
        centres[1 - step % 2].mul_(share)
    return centres[steps % 2].view(maps, height, row)[:, :, :width].to(scores.dtype, copy=True)


def edge_weights(edge: Tensor, radius: int = 5) -> Tensor:
    """Path affinity of every pair of cells within the radius, (P, h, w) in IRN's order, 0 where the
    pair leaves the map.

    edge: (h, w), boundary probability. The map is padded by ones, so that border cells are sources
    too: no path inside reaches the padding, and pairs that leave the map get affinity 0.
    """
    height, width = edge.shape
    padded = F.pad(edge[None], (radius, radius, 0, radius), value=1.0)
    maps = pair_maps(path_affinity(padded, radius)[0], radius, padded.shape[1:])
    return maps[:, :height, radius : radius + width]


def edge_walk(
    cam: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, exp_times: int = 8
) -> Tensor:
    """IRN's walk: (n, h, w) scores after 2 ** exp_times steps.

    cam: (n, h, w), edge: (h, w) boundary probability, both at stride 4. Scores start as cam * (1 -
    edge), affinities are raised to beta. Source: IRN section 5; released code.
    """
    return random_walk(
        cam * (1 - edge), edge_weights(edge, radius) ** beta, irn_offsets(radius), 2**exp_times
    )


def fill_gaps(walked: Tensor, cells: int) -> Tensor:
    """Scores (n, h, w) whose dark gaps, up to 2 * cells wide, have the score around them: a grey
    closing with a square of 2 * cells + 1.

    A cell on the boundary itself has no affinity to any other (no path leaves it), so it keeps the
    score that it starts with, near 0, however long the walk: such cells are specks and lines of
    background within an object. Not in the released code; 0 cells change nothing.
    """
    side = 2 * cells + 1
    spread = F.max_pool2d(walked[None], side, stride=1, padding=cells)
    return -F.max_pool2d(-spread, side, stride=1, padding=cells)[0]


def affinity_walk(
    scores: Tensor, affinity: Tensor, radius: int, beta: float = 8, exp_times: int = 6
) -> Tensor:
    """AffinityNet's walk: (K, h, w) scores after 2 ** exp_times steps (SEAM 6, PSA 8).

    scores:   (K, h, w) with background first
    affinity: (P, S) of AffinityNet at the radius it used
    As released, the map is not padded: pairs whose source lies in the outer columns or last rows do
    not exist, and cells at the border have fewer neighbours.
    """
    maps = pair_maps(affinity, radius, scores.shape[1:])
    return random_walk(scores, maps**beta, pair_offsets(radius), 2**exp_times)


def pool_scores(scores: Tensor, stride: int = 8) -> Tensor:
    """Scores (K, H, W) padded with 0 at the right and bottom to a multiple of stride and averaged
    over stride x stride pixels.
    """
    height, width = scores.shape[1:]
    return F.avg_pool2d(F.pad(scores, (0, -width % stride, 0, -height % stride)), stride)


def upsample_scores(scores: Tensor, scale: int) -> Tensor:
    """Scores (K, h, w) made `scale` times larger, bilinear without aligned corners."""
    return F.interpolate(scores[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]


def unit_scores(walked: Tensor, size: tuple[int, int], stride: int = 4) -> Tensor:
    """IRN's walked scores (n, h, w) at image size (n, H, W), divided by their common maximum.

    Scores that are 0 everywhere stay 0 (the released code divides 0 by 0 there and labels the image
    by chance).
    """
    scores = upsample_scores(walked, stride)[:, : size[0], : size[1]]
    high = scores.max()
    return scores / high if high > 0 else scores


def scores_to_label(scores: Tensor, keys: Tensor) -> Tensor:
    """The label map (H, W), uint8, of scores (1 + n, H, W) with background first; keys: (n,) class
    numbers from 0.

    The first of equal scores wins, so background does.
    """
    values = torch.cat([keys.new_zeros(1), keys + 1]).to(device=scores.device, dtype=torch.uint8)
    return values[scores.argmax(dim=0)]


def unit_scores_to_label(scores: Tensor, keys: Tensor, bg_threshold: float = 0.25) -> Tensor:
    """The label map (H, W), uint8, of scores (n, H, W) in 0..1 against a constant background
    score.
    """
    background = scores.new_full((1, *scores.shape[1:]), bg_threshold)
    return scores_to_label(torch.cat([background, scores]), keys)
