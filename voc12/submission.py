"""The folder that the PASCAL VOC evaluation server takes:
results/VOC2012/Segmentation/comp6_test_cls/<id>.png, a palette PNG an image.
"""

from collections.abc import Sequence
from pathlib import Path

from tool.errors import InputError
from tool.file.images import read_mask, write_mask
from voc12.constants import CLASSES

# Challenge 6: segmentation, trained on other data too (ImageNet weights).
SUBMISSION_DIR = Path("results") / "VOC2012" / "Segmentation" / "comp6_test_cls"


def submission_folder(submission: str | Path, ids: Sequence[str], classes: Sequence[str]) -> Path:
    """Where the masks of a submission go. Raises InputError for other classes than VOC's, and when
    the folder has masks of other ids.
    """
    if tuple(classes) != CLASSES:
        raise InputError(
            "--submission: the server knows VOC's 20 classes, this network was trained for "
            f"{', '.join(classes)}"
        )
    folder = Path(submission) / SUBMISSION_DIR
    others = sorted({path.stem for path in folder.glob("[!.]*")} - set(ids))
    if others:
        raise InputError(
            f"--submission: {folder} has {len(others)} files of other images, first {others[0]}; "
            "give another folder"
        )
    return folder


def write_submission(folder: Path, masks: Sequence[Path]) -> None:
    """Write the masks into folder, in VOC's palette and without the text that our own files
    carry.
    """
    for path in masks:
        write_mask(folder / path.name, read_mask(path))
