"""The CAM of one image from a trained network, and the classes that its classifier sees."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from network.cpn import CPNHead
from tool.cam import merge_passes, require_finite
from tool.losses import global_average
from tool.run.device import autocast
from tool.run.trainer import to_device

# From here up a class counts as seen in a photograph without labels.
SEEN_PROBABILITY = 0.5


@torch.inference_mode()
def image_cam(
    net: CPNHead,
    scaled: list[Tensor],
    size: tuple[int, int],
    keys: Tensor,
    refined: bool,
    flip: bool,
    precision: str,
) -> np.ndarray:
    """The merged CAM of one image: (n, H, W) float32, unit scale.

    scaled: normalised images (3, h, w), one a scale; size: the original (H, W); keys: (n,)
    foreground classes to make. Each pass resizes the maps to the pass's image and then to the
    original, as released.
    Raises InputError for maps that are not finite.
    """
    if not len(keys):
        return np.zeros((0, *size), dtype=np.float32)
    device = keys.device
    passes, flipped = [], []
    for image in scaled:
        pair = torch.stack([image, image.flip(-1)]) if flip else image[None]
        pair = to_device({"image": pair}, device)["image"]
        # A CPU gains nothing from pairs, and needs half the memory without.
        for part in pair.split(1 if device.type == "cpu" else 2):
            with autocast(device, precision):
                cam = (
                    net.forward_low_resolution(part)[1]
                    if refined
                    else net.cam_and_features(part)[0]
                )
            cam = cam[:, keys + 1].float()
            cam = F.interpolate(cam, part.shape[2:], mode="bilinear", align_corners=True)
            passes.append(F.interpolate(cam, size, mode="bilinear", align_corners=False))
        flipped += [False, True][: len(pair)]
    for cam in passes:
        require_finite(cam, "the network's CAM")
    return merge_passes(torch.cat(passes), torch.tensor(flipped, device=device)).cpu().numpy()


@torch.inference_mode()
def class_probabilities(net: CPNHead, image: Tensor) -> Tensor:
    """(C,) probabilities of the foreground classes in image (3, H, W), normalised, from the global
    average of the plain CAM.
    """
    probability = global_average(net.cam_and_features(image[None])[0], image.shape[1:])[0].sigmoid()
    require_finite(probability, "the network's classification")
    return probability


@torch.inference_mode()
def predict_classes(net: CPNHead, image: Tensor) -> tuple[Tensor, Tensor]:
    """(keys, scores): seen_classes of class_probabilities.

    image: (3, H, W), normalised; keys: (n,) int64; scores: (n,), probabilities.
    """
    probability = class_probabilities(net, image)
    keys = seen_classes(probability)
    return keys, probability[keys]


def seen_classes(probability: Tensor, cut_offs: Tensor | None = None) -> Tensor:
    """(n,) int64: the classes whose probability (C,) is at least their cut-off (C,), which may be
    none; without cut-offs those over 0.5, or the likeliest one if none is.
    """
    if cut_offs is not None:
        return torch.nonzero(probability >= cut_offs).flatten()
    keys = torch.nonzero(probability > SEEN_PROBABILITY).flatten()
    return keys if len(keys) else probability.argmax()[None]
