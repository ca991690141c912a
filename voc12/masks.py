"""Where a data set's masks lie, how they are to be read, and whether they can be what they seem."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tool.file.mask_reader import AUTO, Colour, MaskReader, choose_mask_reader
from tool.mask_values import IGNORE_LABEL
from tool.run.notes import note
from voc12.class_list import mask_colours
from voc12.constants import MASK_DIR, VOC_MASK_DIR

COUNTED = 400  # masks that tell enough of a list
MOSTLY_IGNORED = 0.9  # share of pixels from which on 255 is more than borders


def mask_reader(
    root: str | Path | None,
    paths: Sequence[Path],
    classes: Sequence[str],
    values: str | None = AUTO,
    colours: Mapping[Colour, int] | None = None,
    others: Sequence[str | Path] = (),
) -> MaskReader:
    """The reader of the masks at paths, of the data set in root; says in a line what is not as in
    VOC's.

    root: where a class list may name the masks' colours, else a labelmap.txt in one of others, or
    in or beside the folder of the masks; values: as --mask_values has it, None where no such flag
    is about these masks; colours: RGB -> mask value, instead of all these
    """
    if colours is None:
        folders = (Path(path).absolute().parent for path in paths[:1])
        places = [place for folder in folders for place in (folder, folder.parent)]
        colours = mask_colours(root, classes, [*others, *places])
    reader, said = choose_mask_reader(paths, classes, colours, values)
    for line in said:
        note(f"{Path(paths[0]).parent}: {line}")
    return reader


def ground_truth_dir(root: str | Path) -> Path:
    """SegmentationClassAug, or VOC's own SegmentationClass where a data set has only that."""
    augmented, own = Path(root) / MASK_DIR, Path(root) / VOC_MASK_DIR
    if augmented.is_dir() or not own.is_dir():
        return augmented
    note(f"masks of {own}, there is no {MASK_DIR}")
    return own


def masks_missing(folder: str | Path, ids: Sequence[str]) -> list[str]:
    """The ids that have no mask in folder."""
    return [name for name in ids if not (Path(folder) / f"{name}.png").is_file()]


def other_suffix(folder: str | Path, ids: Sequence[str]) -> str:
    """What to say of ids without a mask in folder where files of theirs with another suffix are
    there, to follow the line that counts them; "" for none.
    """
    wanted = set(ids)
    found = (path for path in Path(folder).glob("*") if path.stem in wanted and path.is_file())
    others = sorted(path.name for path in found)
    if not others:
        return ""
    return f"; masks are read as <id>.png, in small letters, and {others[0]} is there"


def count_pixels(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], named: np.ndarray | None
) -> np.ndarray:
    """(256,) pixels of each mask value in COUNTED masks, evenly spread, and in further ones until
    every class that named (C,) counts is seen.
    """
    pixels = np.zeros(256, dtype=np.int64)
    step = -(-len(paths) // COUNTED)
    order = sorted(range(len(paths)), key=lambda index: (index % step, index))
    for place, index in enumerate(order):
        if place >= COUNTED and (named is None or pixels[1 : len(named) + 1][named > 0].all()):
            break
        pixels += np.bincount(read(paths[index]).ravel(), minlength=256)
    return pixels


def mask_doubts(
    classes: Sequence[str],
    named: np.ndarray | None,
    pixels: np.ndarray,
) -> list[str]:
    """Lines that say what masks show too little of.

    named:  (C,) images whose labels name a class; None for unknown
    pixels: (256,) pixels of each mask value
    """
    lines = []
    ignored = pixels[IGNORE_LABEL] / max(pixels.sum(), 1)
    if ignored > MOSTLY_IGNORED:
        lines.append(
            f"{100 * ignored:.0f} % of the masks' pixels are 255 and count for nothing"
            + ("; is it the class? --mask_values binary says so" if len(classes) == 1 else "")
        )
    for c, name in enumerate(classes):
        if named is not None and named[c] and not pixels[c + 1]:
            lines.append(
                f"{name}: in the labels of {named[c]} images, in no mask; do the masks use the "
                "class list's numbers?"
            )
    return lines
