"""The outlines of a mask as polygons on the corners of its pixels, exact to the pixel."""

import numpy as np

# The way round a pixel is clockwise, the inside on the right: steps (dx, dy) by direction.
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outline(mask: np.ndarray) -> np.ndarray:
    """The outline of a part as one polygon (n, 2) of corners (x, y); (0, 0) is the first pixel's.

    mask: (H, W) bool, one part connected over pixels' sides. A hole is joined to the outer ring by
    a line that is walked both ways, so that it has no width; pycocotools and others that fill by
    parity give mask again.
    """
    from scipy.spatial import cKDTree  # slow to import, and for polygons alone

    outer, *holes = sorted(_rings(mask), key=lambda ring: tuple(ring.min(axis=0)))
    for hole in holes:
        distances, nearest = cKDTree(outer).query(hole, p=1)
        there = int(distances.argmin())
        here = int(nearest[there])
        outer = np.concatenate(
            [outer[: here + 1], np.roll(hole, -there, axis=0), hole[[there]], outer[here:]]
        )
    return outer


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """The closed ways (n, 2) along the border of mask, corners alone: the outer one and the holes'.

    Where two pixels touch at a corner, the way keeps to its own pixel.
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    # of every pixel the sides at its top, right, bottom and left that are border
    borders = (
        inner & ~padded[:-2, 1:-1],
        inner & ~padded[1:-1, 2:],
        inner & ~padded[2:, 1:-1],
        inner & ~padded[1:-1, :-2],
    )
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # (dx, dy) from a pixel's first corner
    left: set[tuple[int, int, int]] = set()  # sides still to walk: x, y, direction
    for direction, (border, (dx, dy)) in enumerate(zip(borders, starts, strict=True)):
        ys, xs = np.nonzero(border)
        left.update(zip((xs + dx).tolist(), (ys + dy).tolist(), [direction] * len(xs), strict=True))
    rings = []
    while left:
        side = start = min(left)
        corners = []
        before = None
        while side in left:
            left.remove(side)
            x, y, direction = side
            if direction != before:
                corners.append((x, y))
            before = direction
            x, y = x + STEPS[direction][0], y + STEPS[direction][1]
            # right first, then straight on, then left
            turns = ((direction + turn) % 4 for turn in (1, 0, 3))
            side = next(((x, y, turn) for turn in turns if (x, y, turn) in left), start)
        if before == start[2]:
            corners.pop(0)  # the first was no corner
        rings.append(np.array(corners))
    return rings
