"""A tiny data set in VOC layout, drawn with numpy: coloured boxes on noise."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tool.file.images import write_image, write_mask
from tool.mask_values import IGNORE_LABEL
from voc12.constants import CLASS_LIST_FILE, IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.labels import save_labels

SIZES = ((60, 80), (72, 56), (50, 66), (64, 64), (61, 83), (80, 60))


def write_voc_tree(
    root: Path, lists: dict[str, int], class_count: int, classes: Sequence[str] | None = None
) -> Path:
    """Write photographs, masks, image labels and lists of a data set, and return root.

    lists: name -> number of images; ids run on, so lists share none. Image i shows class i mod
    class_count, every second one the next class too. classes: names for classes.txt, which is left
    out without them.
    """
    rng = np.random.default_rng(0)
    (root / LIST_DIR).mkdir(parents=True)
    if classes:
        (root / CLASS_LIST_FILE).write_text("\n".join(classes) + "\n")
    labels: dict[str, np.ndarray] = {}
    for list_name, count in lists.items():
        names = [f"2007_{len(labels) + i:06d}" for i in range(count)]
        (root / LIST_DIR / f"{list_name}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            labels[name] = _write_sample(root, name, len(labels), class_count, rng)
    save_labels(root / LABEL_FILE, list(labels), np.stack(list(labels.values())))
    return root


def _write_sample(
    root: Path, name: str, index: int, class_count: int, rng: np.random.Generator
) -> np.ndarray:
    height, width = SIZES[index % len(SIZES)]
    image = rng.integers(0, 90, size=(height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    label = np.zeros(class_count, dtype=np.float32)
    shown = [(index + offset) % class_count for offset in range(1 + index % 2)]
    for place, key in enumerate(dict.fromkeys(shown)):
        rows, columns = (
            slice(8 + 20 * place, 24 + 20 * place),
            slice(10 + 18 * place, 34 + 18 * place),
        )
        image[rows, columns] = 255 - 37 * np.array([key, key + 2, key + 4]) % 160
        mask[rows, columns] = key + 1
        label[key] = 1
    mask[:2] = IGNORE_LABEL
    write_image(root / IMAGE_DIR / f"{name}.jpg", image)
    write_mask(root / MASK_DIR / f"{name}.png", mask)
    return label
