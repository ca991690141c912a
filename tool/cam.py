"""CAM arithmetic: the one home of normalisation, background and the merging of scales.

Maps are (B, K, H, W) with K = classes + 1 and background at channel 0, unless a docstring says
otherwise.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.errors import InputError

EPS = 1e-5


def require_finite(values: Tensor, what: str) -> None:
    """Raise InputError, starting with what, for NaN or infinity: finite weights can give them too,
    and a comparison would take them for a score.
    """
    if not values.isfinite().all():
        raise InputError(
            f"{what} has values that are not finite; its weights are too large: train with lower "
            "learning rates"
        )


def normalise_cam(cam: Tensor) -> Tensor:
    """Each map of a raw CAM scaled to [0, 1): relu, then relu(cam - min - eps) / (max - min + eps)
    over its pixels.

    cam: (B, K, H, W), any range; gradients flow through the minimum and the maximum.
    Source: the released `max_norm` of SEAM and CPN.
    """
    cam = F.relu(cam)
    low = cam.amin(dim=(2, 3), keepdim=True)
    high = cam.amax(dim=(2, 3), keepdim=True)
    return F.relu(cam - low - EPS) / (high - low + EPS)


def set_background(cam: Tensor) -> Tensor:
    """A copy of cam whose channel 0 is 1 - max over the foreground channels; cam: (B, K, H, W),
    normalised.
    """
    foreground = cam[:, 1:]
    return torch.cat([1 - foreground.amax(dim=1, keepdim=True), foreground], dim=1)


def keep_max(cam: Tensor, dim: int = 1) -> Tensor:
    """cam with all but the largest value along dim set to 0; the largest keeps its value, ties all
    stay.
    """
    return torch.where(cam == cam.amax(dim=dim, keepdim=True), cam, torch.zeros_like(cam))


def widened(values: Tensor) -> Tensor:
    """values of half precision in float32; of other types as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def cam_prior(cam: Tensor) -> Tensor:
    """The prior p that PCM and PRCM spread, from a raw CAM; (B, K, h, w) in [0, 1], without
    gradient.

    Each map is relu(a - eps) / (max + eps) with a = relu(cam); background is 1 - max of the
    foreground; then the foreground keeps only each pixel's largest value (ties kept). The order of
    operations is the released one: margins go down to 5e-7. Maps of half precision are widened to
    float32, in which EPS is more than nothing.
    """
    activation = F.relu(widened(cam.detach()))
    high = activation.amax(dim=(2, 3), keepdim=True) + EPS
    prior = set_background(F.relu(activation - EPS) / high)
    return torch.cat([prior[:, :1], keep_max(prior[:, 1:])], dim=1)


def merge_passes(passes: Iterable[tuple[Tensor, bool]]) -> Tensor:
    """The inference score of one image: the sum over scales and flips, scaled to [0, 1] per class.

    passes:  of each pass, at least one, (cam, mirrored): (n, H, W), raw CAMs of the n labelled
             classes at the original size, and whether they were made from the mirrored image and
             not yet mirrored back; a generator's are held one at a time
    returns: (n, H, W), at most 1; the lowest value may be negative (-1 everywhere for a class
             without any activation), since the released code subtracts the minimum after it set
             values under min + 1e-5 to 0 (infer_cam.py of CPN)
    """
    score = None
    for cam, mirrored in passes:
        upright = cam.flip(-1) if mirrored else cam
        score = upright.clone() if score is None else score.add_(upright)
        del cam, upright  # before the next pass is made
    score.relu_()
    high = score.amax(dim=(1, 2), keepdim=True)
    low = score.amin(dim=(1, 2), keepdim=True)
    score.masked_fill_(score < low + EPS, 0)
    return score.sub_(low).sub_(EPS).div_(high - low + EPS)
