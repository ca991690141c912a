"""The facts of the PASCAL VOC 2012 data: class names and layout of the folders.

Every other module imports them from here; what mask values mean is in tool/mask_values.py.
"""

from pathlib import Path

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

# A data set of one's own names its foreground classes here, one a line, in the order of the mask
# values 1, 2, ...
CLASS_LIST_FILE = "classes.txt"

IMAGE_DIR = "JPEGImages"
MASK_DIR = "SegmentationClassAug"
VOC_MASK_DIR = "SegmentationClass"  # in the archive of VOC, without SBD
ANNOTATION_DIR = "Annotations"
LIST_DIR = Path("ImageSets") / "Segmentation"
LABEL_FILE = "cls_labels.npy"

# Where a user gets the data; printed when it is missing.
DATA_HELP = "run `python -m voc12.prepare --voc12_root DIR`, or see docs/data.md"

# Where scripts look for the data if no flag says.
VOC12_ROOT = "data/VOCdevkit/VOC2012"
