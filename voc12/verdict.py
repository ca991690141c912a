"""Whether a CAM training has failed, judged without masks: by its classifier on training images,
and by the maps of the classes in their labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tool.file.images import APPLY_EXIF, read_image
from tool.losses import global_average, loss_classification
from tool.transforms import normalise, resize, scaled_size, to_tensor
from voc12.lists import image_path

IMAGES = 32  # evenly spread over the training list
# A classifier with more than this share of the loss that the frequencies of the classes alone give
# has learnt next to nothing; one that trained well has under a half.
UNLEARNT = 0.85
SILENT = 0.2  # share of labelled maps without a positive value from which on maps answer nowhere


@dataclass(frozen=True)
class Verdict:
    """What a trained network says of some training images.

    loss:   classification loss on whole images, over the classes that the training list has
    prior:  the same of a classifier that knows how often each class occurs, and no image
    silent: share of the labelled classes' plain maps that have no positive value
    """

    images: int
    loss: float
    prior: float
    silent: float

    @property
    def failures(self) -> list[str]:
        """What speaks for a failed training, for the user to read; empty if nothing does."""
        found = []
        if self.loss > UNLEARNT * self.prior:
            found.append(
                f"the classifier's loss is {self.loss:.3f}, and {self.prior:.3f} is had by knowing "
                "how often each class occurs: it has learnt next to nothing"
            )
        if self.silent > SILENT:
            found.append(f"{self.silent:.0%} of the maps of labelled classes answer nowhere")
        return found

    def text(self) -> str:
        """One line."""
        if not self.failures:
            return (
                f"verdict: no sign of a failed training (loss {self.loss:.3f} of {self.prior:.3f} "
                f"without learning, {self.silent:.0%} of the maps silent, {self.images} training "
                "images)"
            )
        return (
            f"verdict: this training has FAILED by its own signs: {'; '.join(self.failures)}. Use "
            "a smaller --lr, more iterations, another --seed, or --preset small"
        )

    def record(self) -> dict[str, Any]:
        """For the log and the weights."""
        return asdict(self) | {"failures": self.failures}


def prior_loss(labels: np.ndarray) -> float:
    """The classification loss of a classifier that says each class's frequency for every image:
    the mean over classes of the entropy of a coin; labels (images, C) multi-hot.
    """
    share = labels.mean(axis=0).astype(np.float64).clip(1e-12, 1 - 1e-12)
    return float(-(share * np.log(share) + (1 - share) * np.log1p(-share)).mean())


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
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(IMAGES, len(ids))).round().astype(int))
    losses, silent = [], []
    for name, label in zip([ids[index] for index in chosen], labels[chosen], strict=True):
        image = read_image(image_path(root, name), exif)
        size = scaled_size(image.shape[:2], long_side / max(image.shape[:2]))
        shown = to_tensor(normalise(resize(image, *size), net.mean, net.std))
        cam = net.cam_and_features(shown[None].to(device))[0].float()
        scores = global_average(cam)[:, present]
        target = torch.from_numpy(label[None, present]).to(device)
        losses.append(float(loss_classification(scores, target)))
        maps = cam[0, 1:][torch.from_numpy(label > 0).to(device)]
        silent += (maps.amax(dim=(1, 2)) <= 0).tolist()
    return Verdict(
        images=len(chosen),
        loss=float(np.mean(losses)),
        prior=prior_loss(labels[:, present]),
        silent=float(np.mean(silent)) if silent else 0.0,
    )
