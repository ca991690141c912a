"""The training losses of IRN and of AffinityNet, over pairs of cells (see tool/expand/affinity.py
for pairs and their order).

Their terms are means over the pairs of a batch, not over its images. Where several ranks hold a
part of the batch each, `average` gives the mean over ranks of a count of pairs; then the mean over
ranks of a term, and of its gradient, is that of the whole batch. The pieces of --accum keep means
of their own, as images with few pairs weigh more in a small piece: a deviation that one rank
shares.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tool.expand.affinity import (
    Offset,
    PairLabels,
    irn_offsets,
    pair_labels,
    pair_values,
    path_affinity,
    shifted,
)
from tool.mask_values import IGNORE_LABEL

EPS = 1e-5


Average = Callable[[Tensor], Tensor]


def _mean_over(value: Tensor, mask: Tensor, average: Average, channels: int = 1) -> Tensor:
    """The mean of value over the pairs of mask in the whole batch, 0 where there are none."""
    return (value * mask).sum() / (channels * average(mask.sum()) + EPS).float()


def _alone(count: Tensor) -> Tensor:
    return count


def _same(affinity: Tensor) -> Tensor:
    return -torch.log(affinity + EPS)


def _different(affinity: Tensor) -> Tensor:
    return -torch.log(1.0 + EPS - affinity)


def pair_displacement(displacement: Tensor, offsets: list[Offset], radius: int) -> Tensor:
    """Displacement (B, 2, h, w) at the source minus that at the destination of every pair, (B, 2,
    P, S).
    """
    sources = shifted(displacement, (0, 0), radius).flatten(2).unsqueeze(2)
    return sources - pair_values(displacement, offsets, radius)


def irn_loss(
    edge_logits: Tensor,
    displacement: Tensor,
    label: Tensor,
    radius: int = 10,
    num_labels: int = IGNORE_LABEL,
    average: Average = _alone,
) -> dict[str, Tensor]:
    """IRN's loss terms and their total, scalars under the names below.

    edge_logits:  (B, 1, h, w)
    displacement: (B, 2, h, w), in cells, dy first
    label:        (B, h, w), integer; 0 background, values from num_labels up are ignored
    returns: bg_pos_aff_loss, fg_pos_aff_loss, neg_aff_loss: mean -log of the affinity (of 1 -
             affinity for neg); dp_fg_loss: mean |d_source - d_destination - offset| over equal
             foreground pairs, dp_bg_loss: without the offset over background pairs; pos_aff_loss =
             (bg + fg) / 2; total_loss = (pos + neg) / 2 + (dp_fg + dp_bg) / 2.
    Means run over the batch. Computed in float32. Source: IRN section 4.2 and 4.3; released
    step/train_irn.py.
    """
    offsets = irn_offsets(radius)
    pairs = pair_labels(label, offsets, radius, num_labels)
    affinity = path_affinity(torch.sigmoid(edge_logits.float()).squeeze(1), radius)
    difference = pair_displacement(displacement.float(), offsets, radius)
    # (2, P, 1)
    target = (
        torch.tensor(offsets, dtype=difference.dtype, device=difference.device).t().unsqueeze(2)
    )
    losses = {
        "bg_pos_aff_loss": _mean_over(_same(affinity), pairs.bg_pos, average),
        "fg_pos_aff_loss": _mean_over(_same(affinity), pairs.fg_pos, average),
        "neg_aff_loss": _mean_over(_different(affinity), pairs.neg, average),
        "dp_fg_loss": _mean_over(
            (difference - target).abs().sum(dim=1), pairs.fg_pos, average, channels=2
        ),
        "dp_bg_loss": _mean_over(difference.abs().sum(dim=1), pairs.bg_pos, average, channels=2),
    }
    losses["pos_aff_loss"] = losses["bg_pos_aff_loss"] / 2 + losses["fg_pos_aff_loss"] / 2
    losses["total_loss"] = (losses["pos_aff_loss"] + losses["neg_aff_loss"]) / 2 + (
        losses["dp_fg_loss"] + losses["dp_bg_loss"]
    ) / 2
    return losses


def affinity_net_loss(
    affinity: Tensor, pairs: PairLabels, average: Average = _alone
) -> dict[str, Tensor]:
    """AffinityNet's loss terms bg_loss, fg_loss, neg_loss and loss = bg / 4 + fg / 4 + neg / 2,
    scalars.

    affinity: (..., P, S) in 0..1, pairs: masks of the same shape. Computed in float32. Source:
    AffinityNet, section 3.2.
    """
    affinity = affinity.float()
    losses = {
        "bg_loss": _mean_over(_same(affinity), pairs.bg_pos, average),
        "fg_loss": _mean_over(_same(affinity), pairs.fg_pos, average),
        "neg_loss": _mean_over(_different(affinity), pairs.neg, average),
    }
    losses["loss"] = losses["bg_loss"] / 4 + losses["fg_loss"] / 4 + losses["neg_loss"] / 2
    return losses
