"""A training step of each method, cpn, seam and cam: from a batch to the named losses."""

import torch
from torch import Tensor

from network.cpn import CPNHead
from tool.choices import SEAM_SCALE
from tool.errors import InputError
from tool.losses import (
    cam_losses,
    cpn_losses_low_resolution,
    seam_losses_low_resolution,
    seam_scale,
)
from tool.patches import cp_pair


def train_cpn_step(net: CPNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """CPN's losses. The three branches go through the network as one batch, which changes nothing
    but the dropout masks drawn, since batch norm is frozen.
    """
    image = batch["image"]
    patch, complement = cp_pair(image, batch["mask"])
    cam, refined = net.forward_low_resolution(torch.cat([image, patch, complement]))
    return cpn_losses_low_resolution(
        cam.chunk(3), refined.chunk(3), batch["label"], batch["visible"], image.shape[2:]
    )


def train_seam_step(
    net: CPNHead, batch: dict[str, Tensor], scale: float = SEAM_SCALE
) -> dict[str, Tensor]:
    """SEAM's losses: the image, and the image at scale of its size, 0.3 as released."""
    branches = (batch["image"], seam_scale(batch["image"], scale))
    cams, refined = zip(*(net.forward_low_resolution(image) for image in branches), strict=True)
    return seam_losses_low_resolution(
        cams, refined, batch["label"], [image.shape[2:] for image in branches]
    )


def train_cam_step(net: CPNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The plain baseline's loss."""
    image = batch["image"]
    return cam_losses(net.cam_and_features(image)[0], batch["label"], image.shape[2:])


STEPS = {"cpn": train_cpn_step, "seam": train_seam_step, "cam": train_cam_step}


def weigh_losses(losses: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """losses with the total "loss" taken with weights (1 where none is given). Raises InputError
    for an unknown name.
    """
    if unknown := set(weights) - (set(losses) - {"loss"}):
        raise InputError(
            f"--loss_weights names {sorted(unknown)[0]}, this method has "
            f"{', '.join(sorted(set(losses) - {'loss'}))}"
        )
    if not weights:
        return losses
    parts = {name: value for name, value in losses.items() if name != "loss"}
    return losses | {"loss": sum(weights.get(name, 1.0) * value for name, value in parts.items())}


def compile_training(net: CPNHead) -> None:
    """Have net's backbone compiled in training mode; validation, whose images all differ in size,
    stays as it is.
    """
    plain, compiled = net.forward_features, torch.compile(net.forward_features)
    net.forward_features = lambda x: compiled(x) if net.training else plain(x)
