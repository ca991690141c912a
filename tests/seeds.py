"""Seeds for the tiny data sets of tests/synthetic.py: CAM files as infer_cam.py would make them,
from the masks.
"""

from pathlib import Path

import cv2
import numpy as np

from tool.file.cam_file import CamFile, save_cam
from tool.file.images import read_mask
from voc12.class_list import load_class_list
from voc12.labels import load_labels
from voc12.lists import load_ids, mask_path

META = {"stage": "cam_refined", "method": "cpn", "weights": "0123456789abcdef"}


def seed_of(root: Path, name: str) -> CamFile:
    """The seed of an image: the blurred mask of each class that its label names, at most 1."""
    classes = load_class_list(root)
    keys = np.flatnonzero(load_labels(root, [name], classes)[0])
    mask = read_mask(mask_path(root, name))
    maps = [cv2.GaussianBlur((mask == key + 1).astype(np.float32), (0, 0), 4) for key in keys]
    cam = np.stack([map_ / map_.max() for map_ in maps])
    return CamFile(name, keys, cam, mask.shape, META | {"classes": list(classes)})


def write_seeds(
    root: Path, folder: Path, format: str = "npz", lists: tuple[str, ...] = ("train", "val")
) -> Path:
    """Write the seeds of all images of the lists, and return folder."""
    for list_name in lists:
        for name in load_ids(root, list_name):
            save_cam(folder, seed_of(root, name), format)
    return folder
