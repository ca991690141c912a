"""What IRN and AffinityNet make of one image: boundary or affinity, and the walk of its seeds."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from network.aff import AffinityNet, AffinityNetTimm
from network.irn import IRN, STRIDE, infer_edge
from tool.cam import require_finite
from tool.expand.affinity import AFFINITY_STRIDE, fitting_radius
from tool.expand.crf import prepend_background
from tool.expand.walk import (
    affinity_walk,
    edge_walk,
    fill_gaps,
    pool_scores,
    scores_to_label,
    unit_scores,
    upsample_scores,
)
from tool.run.device import autocast


# ============ IRN ============
@torch.inference_mode()
def image_boundary(
    net: IRN, image: Tensor, crop_size: int, precision: str
) -> tuple[Tensor, Tensor]:
    """Boundary probability (h, w) and displacement (2, h, w) at stride 4 of a normalised image (3,
    H, W).
    """
    with autocast(image.device, precision):
        edge, displacement = infer_edge(net, image, crop_size)
    require_finite(edge, "the network's boundary map")
    return edge[0], displacement


@torch.inference_mode()
def walked_cam(
    cam: Tensor,
    keys: Tensor,
    edge: Tensor,
    radius: int,
    beta: float,
    exp_times: int,
    fill: int = 0,
) -> Tensor:
    """Unit CAMs (n, H, W) of classes keys (n,) after the walk on a boundary map (h, w), divided by
    their common maximum; fill: cells, of tool.expand.walk.fill_gaps.
    """
    if len(keys) == 0:
        return cam
    strided = F.interpolate(cam[None], edge.shape, mode="bilinear", align_corners=False)[0]
    walked = fill_gaps(edge_walk(strided, edge, radius, beta, exp_times), fill)
    return unit_scores(walked, cam.shape[1:], STRIDE)


# ============ AffinityNet ============
@dataclass(frozen=True)
class Walk:
    """Background (1 - max CAM) ** alpha, affinity ** beta, 2 ** logt steps."""

    alpha: float
    beta: float
    logt: int


WALKS = {"psa": Walk(alpha=16, beta=8, logt=8), "seam": Walk(alpha=6, beta=8, logt=6)}


@torch.inference_mode()
def image_affinity(net: AffinityNet | AffinityNetTimm, image: Tensor, precision: str) -> Tensor:
    """Affinity of every pair, (P, S), of a normalised image (3, H, W), padded with 0 at the right
    and bottom to whole cells.
    """
    height, width = image.shape[1:]
    padded = F.pad(image, (0, -width % AFFINITY_STRIDE, 0, -height % AFFINITY_STRIDE))
    with autocast(image.device, precision):
        affinity = net(padded[None])[0]
    require_finite(affinity, "the network's affinity")
    return affinity


@torch.inference_mode()
def image_mask(cam: Tensor, keys: Tensor, affinity: Tensor, walk: Walk) -> Tensor:
    """The pseudo mask (H, W), uint8, of unit CAMs (n, H, W) of classes keys (n,) and affinities (P,
    S).
    """
    scores = pool_scores(
        torch.from_numpy(prepend_background(cam.numpy(), walk.alpha)), AFFINITY_STRIDE
    ).to(affinity.device)
    walked = affinity_walk(scores, affinity, fitting_radius(scores.shape[1:]), walk.beta, walk.logt)
    label = scores_to_label(upsample_scores(walked, AFFINITY_STRIDE), keys.to(affinity.device))
    return label[: cam.shape[1], : cam.shape[2]]
