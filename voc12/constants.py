"""The facts of the PASCAL VOC 2012 data: class names, ignore label, palette, layout of the folders.

Every other module imports them from here. Class numbers: foreground class c (0-based, as in image labels and CAM files)
has mask value c + 1; mask value 0 is background and 255 is ignored.
"""

from pathlib import Path

import numpy as np

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
BACKGROUND = "background"
IGNORE_LABEL = 255

# A data set of one's own names its foreground classes here, one a line, in the order of the mask values 1, 2, ...
CLASS_LIST_FILE = "classes.txt"

IMAGE_DIR = "JPEGImages"
MASK_DIR = "SegmentationClassAug"
ANNOTATION_DIR = "Annotations"
LIST_DIR = Path("ImageSets") / "Segmentation"
LABEL_FILE = "cls_labels.npy"

# Where a user gets the data; printed when it is missing.
DATA_HELP = "run `python -m voc12.prepare --voc12_root DIR`, or see 'VOC 2012 and weights' in README.md"


def voc_palette(entries: int = 256) -> np.ndarray:
    """The VOC colour map: (entries, 3) uint8 RGB, entry i the colour of mask value i.

    Bit k of the value goes, three bits at a time, to the high bits of red, green and blue (VOC development kit, VOClabelcolormap).
    """
    values = np.arange(entries)
    palette = np.zeros((entries, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((values >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
