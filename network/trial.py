"""One photograph through a classifier and a segmentation network, kept so that thresholds and
classes can be changed without running them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from network.cam_inference import class_probabilities, image_cam
from network.cpn import CPNHead
from network.seg import SegNet, merged_logits
from tool.cam import require_finite
from tool.expand.crf import CRF_SETTINGS, crf_probabilities, threshold_mask
from tool.transforms import enlarged_mask, normalise, resize, scaled_images, to_tensor

MOST_CLASSES = 30  # of which maps are kept, the likeliest
CRF = "deeplab"  # infer_seg.py's default


@dataclass(frozen=True)
class Trial:
    """What both networks make of a photograph.

    photograph: its size (H, W); its pixels are not kept, as a page has a trial for each visitor;
    probability: (C,) of the foreground classes; keys: (n,) classes of which there are maps,
    ascending; plain, refined: (n, h, w) unit CAMs; labels: (K, h, w) float16 probabilities of the
    segmentation network after the dense CRF, background first
    """

    photograph: tuple[int, int]
    probability: np.ndarray
    keys: np.ndarray
    plain: np.ndarray
    refined: np.ndarray
    labels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the maps."""
        return self.labels.shape[1:]

    def seen(self, cut_offs: np.ndarray) -> list[int]:
        """The classes whose probability reaches their cut-off (C,)."""
        return [int(key) for key in self.keys if self.probability[key] >= cut_offs[key]]

    def cam_mask(
        self, threshold: float, classes: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """The mask (h, w) uint8 of the refined CAM of these classes at a background threshold; of
        size (H, W), from enlarged maps, if given, as infer_cam.py --image makes it.
        """
        keep = np.isin(self.keys, classes)
        cam = self.refined[keep]
        if size is not None and len(cam):
            cam = np.stack([cv2.resize(one, size[::-1]) for one in cam])
        if not len(cam):
            return np.zeros(size or self.size, np.uint8)
        return threshold_mask(cam, self.keys[keep], threshold)

    def model_mask(self, classes: Sequence[int], size: tuple[int, int] | None = None) -> np.ndarray:
        """The mask (h, w) uint8 of the segmentation network, background and these classes alone; of
        size (H, W), as infer_seg.py --image enlarges it, if given.
        """
        rows = [0, *(key + 1 for key in sorted(classes))]
        kept = self.labels[rows].astype(np.float32)
        place, _ = enlarged_mask(kept, size or self.size)
        return np.array(rows, np.uint8)[place]

    def heat(self, maps: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """(h, w): the highest of maps, plain or refined, over these classes."""
        kept = maps[np.isin(self.keys, classes)]
        return kept.max(axis=0) if len(kept) else np.zeros(self.size, np.float32)


def try_photograph(
    image: np.ndarray,
    classifier: CPNHead,
    model: SegNet,
    scales: Sequence[float],
    long_side: int | None,
    device: torch.device,
    flip: bool = True,
) -> Trial:
    """Run both networks on image (H, W, 3) uint8 at scales of it reduced to long_side, as
    infer_cam.py and infer_seg.py --image do.
    """
    size, scaled = scaled_images(image, scales, classifier.mean, classifier.std, long_side)
    small = resize(image, *size)
    reduced = to_tensor(normalise(small, classifier.mean, classifier.std)).to(device)
    probability = class_probabilities(classifier, reduced)
    keys = probability.argsort(descending=True)[:MOST_CLASSES].sort().values
    plain, refined = (
        image_cam(classifier, scaled, size, keys, which, flip, "fp32") for which in (False, True)
    )
    size, scaled = scaled_images(image, scales, model.mean, model.std, long_side)
    with torch.inference_mode():
        logits = merged_logits(model, [one.to(device) for one in scaled], size, flip)
    require_finite(logits, "the network's output")
    labels = crf_probabilities(small, logits.softmax(dim=0).cpu().numpy(), CRF_SETTINGS[CRF])
    return Trial(
        image.shape[:2],
        probability.cpu().numpy(),
        keys.cpu().numpy(),
        plain,
        refined,
        labels.astype(np.float16),
    )
