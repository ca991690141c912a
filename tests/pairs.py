"""Cell numbers of AffinityNet's and IRN's pairs, as the released code holds them, to index arrays
with.
"""

import torch
from torch import Tensor

from tool.expand.affinity import Offset, pair_values, shifted


def pair_indices(
    offsets: list[Offset], radius: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Cell numbers of the sources (S,) and of the destinations (P, S) on a map of size (H, W)."""
    cells = torch.arange(size[0] * size[1]).view(size)
    return shifted(cells, (0, 0), radius).flatten(), pair_values(cells, offsets, radius)
