"""The CAM of one image from a trained network, and the classes that its classifier sees."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from network.cpn import CPNHead
from tool.cam import merge_passes, require_finite
from tool.losses import global_average
from tool.run.device import autocast, give_back_free_memory, is_large
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
    mirrored = [False, True] if flip else [False]
    # A CPU gains nothing from pairs, and needs half the memory without.
    batches = [mirrored] if keys.device.type != "cpu" else [[each] for each in mirrored]

    def passes() -> Iterator[tuple[Tensor, bool]]:
        """The maps (n, H, W) of each pass, made when they are asked for."""
        for image in scaled:
            for batch in batches:
                maps = list(_raw_maps(net, image, batch, size, keys, refined, precision))
                for each in batch:
                    yield maps.pop(0), each

    return merge_passes(passes()).cpu().numpy()


def _raw_maps(
    net: CPNHead,
    image: Tensor,
    mirrored: Sequence[bool],
    size: tuple[int, int],
    keys: Tensor,
    refined: bool,
    precision: str,
) -> Tensor:
    """(B, n, H, W): the network's maps of the classes keys at size (H, W), from image (3, h, w) as
    it is or mirrored, B times.
    """
    # Taking memory anew costs a quarter of the time on 500 x 375 (benchmarks/RESULTS.md).
    if is_large([image]):
        give_back_free_memory()
    shown = [image.flip(-1) if each else image for each in mirrored]
    shown = shown[0][None] if len(shown) == 1 else torch.stack(shown)  # no copy of one
    shown = to_device({"image": shown}, keys.device)["image"]
    with autocast(keys.device, precision):
        cam = net.forward_low_resolution(shown)[1] if refined else net.cam_and_features(shown)[0]
    cam = cam[:, keys + 1].float()
    require_finite(cam, "the network's CAM")
    cam = F.interpolate(cam, shown.shape[2:], mode="bilinear", align_corners=True)
    return F.interpolate(cam, size, mode="bilinear", align_corners=False)


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
