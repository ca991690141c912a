"""What the values of a mask mean, whatever the data set: background, ignore label, and the colours
of all values.

Class numbers: foreground class c (0-based, as in image labels and CAM files) has mask value c + 1;
mask value 0 is background, and 255 is ignored: it belongs to no class, and no loss and no metric
counts it.
"""

import numpy as np

BACKGROUND = "background"
IGNORE_LABEL = 255


def voc_palette(entries: int = 256) -> np.ndarray:
    """The VOC colour map: (entries, 3) uint8 RGB, entry i the colour of mask value i.

    Bit k of the value goes, three bits at a time, to the high bits of red, green and blue (VOC
    development kit, VOClabelcolormap).
    """
    values = np.arange(entries)
    palette = np.zeros((entries, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((values >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette
