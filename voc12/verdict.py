"""Whether a CAM training has failed, judged without masks: by its classifier on training images,
and by the maps of the classes in their labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import xlogy
from torch import Tensor, nn
from torch.nn import functional as F

from tool.file.images import APPLY_EXIF, read_image
from tool.losses import global_average, loss_classification
from tool.transforms import normalise, resize, scaled_size, to_tensor
from voc12.lists import evenly, image_path

IMAGES = 64  # evenly spread over the training list
# A classifier with more than this share of the loss that the frequencies of the classes alone give
# has learnt too little; one that trained well has under a third, one that was stopped early up to
# 0.53 (docs/log/2026-11-28-failed.md).
UNLEARNT = 0.55
SILENT = 0.2  # share of labelled maps without a positive value, over which maps answer nowhere
# Share of the others that answer more at the border, over which maps go astray. Lists of several
# classes have up to 0.14, tables and plants alone 0.43.
ASTRAY = 0.45
BORDER = 16  # a frame of this part of the shorter side is the border of a map
MORE = 1.05  # by this factor: two equal means differ by rounding
FEWEST_CELLS = 5  # a side, of maps that have a middle
FEWEST_MAPS = 8  # of which a share is taken


@dataclass(frozen=True)
class Verdict:
    """What a trained network says of some training images.

    loss:   classification loss on whole images, over the classes that the training list has
    prior:  the same of a classifier that knows how often each class occurs, and no image
    silent: share of the labelled classes' plain maps that have no positive value
    astray: share of the others whose border answers more than their middle; 0 where few can say
    """

    images: int
    loss: float
    prior: float
    silent: float
    astray: float

    @property
    def failures(self) -> list[str]:
        """What speaks for a failed training, for the user to read; empty if nothing does."""
        found = []
        if not np.isfinite(self.loss):
            found.append("the network's scores are not finite")
        elif self.prior > 0 and self.loss > UNLEARNT * self.prior:
            found.append(
                f"the classifier's loss is {self.loss:.3f}, and {self.prior:.3f} is had by knowing "
                "how often each class occurs: it has learnt too little"
            )
        if self.silent > SILENT:
            found.append(f"{self.silent:.0%} of the maps of labelled classes answer nowhere")
        if self.astray > ASTRAY:
            found.append(
                f"{self.astray:.0%} of the maps of labelled classes answer more at the border of "
                "the photograph than in its middle: beside the objects, unless the classes lie "
                "there, as sky and ground do"
            )
        return found

    @property
    def worst(self) -> float:
        """The sign that is farthest over its limit, as a share of it; over 1 for a failed
        training, by which several are ordered.
        """
        if not np.isfinite(self.loss):
            return np.inf
        unlearnt = self.loss / (UNLEARNT * self.prior) if self.prior > 0 else 0.0
        return max(unlearnt, self.silent / SILENT, self.astray / ASTRAY)

    def text(self) -> str:
        """One line."""
        if not self.failures:
            return (
                f"verdict: no sign of a failed training (loss {self.loss:.3f} of {self.prior:.3f} "
                f"without learning; of the maps {self.silent:.0%} silent, {self.astray:.0%} "
                f"astray; {self.images} training images)"
            )
        return (
            f"verdict: this training has FAILED by its own signs: {'; '.join(self.failures)}. Use "
            "a smaller --lr, more iterations, another --seed, or --preset small"
        )

    def record(self) -> dict[str, Any]:
        """For the log and the weights."""
        return asdict(self) | {"failures": self.failures, "worst": self.worst}


def prior_loss(labels: np.ndarray) -> float:
    """The classification loss of a classifier that says each class's frequency for every image:
    the mean over classes of the entropy of a coin; labels (images, C) multi-hot. 0 where all images
    have the same labels: there is nothing to learn then.
    """
    share = labels.mean(axis=0, dtype=np.float64)
    return float(-(xlogy(share, share) + xlogy(1 - share, 1 - share)).mean())


def go_astray(maps: Tensor) -> Tensor:
    """(K,) whether maps (K, H, W) answer more along their border than in their middle half, means
    of the positive part, by a factor of MORE; False for a map without any.
    """
    maps = maps.clamp(min=0)
    height, width = maps.shape[1:]
    frame = max(1, min(height, width) // BORDER)
    border = torch.ones_like(maps[0], dtype=torch.bool)
    border[frame:-frame, frame:-frame] = False
    top, left = height // 4, width // 4
    middle = maps[:, top : height - top, left : width - left]
    return maps[:, border].mean(dim=1) > MORE * middle.mean(dim=(1, 2))


@torch.inference_mode()
def judge(
    net: nn.Module,
    root: Path,
    ids: Sequence[str],
    labels: np.ndarray,
    long_side: int,
    device: torch.device,
    exif: str = APPLY_EXIF,
) -> Verdict:
    """The verdict on a CAM network in eval mode, from IMAGES of the training list.

    labels: (ids, C) multi-hot; long_side: of the images as training shows them, pixels: at another
    size a good network may say less than the frequencies; exif: how photographs are read
    """
    present = labels.any(axis=0)  # a class that no image has is easily said to be absent
    chosen = evenly(range(len(ids)), IMAGES)
    losses, silent, astray = [], [], []
    for name, label in zip([ids[index] for index in chosen], labels[chosen], strict=True):
        image = read_image(image_path(root, name), exif)
        size = scaled_size(image.shape[:2], long_side / max(image.shape[:2]))
        shown = to_tensor(normalise(resize(image, *size), net.mean, net.std))
        cam = net.cam_and_features(shown[None].to(device))[0].float()
        scores = global_average(cam)[:, present]
        target = torch.from_numpy(label[None, present]).to(device)
        losses.append(float(loss_classification(scores, target)))
        maps = cam[0, 1:][torch.from_numpy(label > 0).to(device)]
        silent += (dead := maps.amax(dim=(1, 2)) <= 0).tolist()
        if len(maps := maps[~dead]) and min(maps.shape[1:]) >= FEWEST_CELLS:
            maps = F.interpolate(maps[None], size, mode="bilinear", align_corners=True)[0]
            astray += go_astray(maps).tolist()
    return Verdict(
        images=len(chosen),
        loss=float(np.mean(losses)),
        prior=prior_loss(labels[:, present]),
        silent=float(np.mean(silent)) if silent else 0.0,
        astray=float(np.mean(astray)) if len(astray) >= FEWEST_MAPS else 0.0,
    )
