"""Maps in a sixth of the bytes that float32 takes, read as fast: whole steps, and of them what a
straight line does not foresee.

A map is kept in steps of 1 / STEPS, each value rounded up. So every value is less than a step too
high, and is above a threshold of whole hundredths exactly where it was. Values under LOWEST, which
say no more than any below 0, become LOWEST.

CAMs are linear in pieces: a network's cells, enlarged. So of the steps s(y, x) the differences
D(D(D(s))), twice along x and once along y, are small whole numbers: most fit in 4 bits, two of them
to a byte. What others are more than 0 follows: how many pixels after the one before, a byte, and
the value, two bytes. Values add up where a place comes twice, and are 0 where a byte could not
reach the next. Maps of a CRF are flat: 2 bits are enough, and the bytes are deflated if that halves
them. Reading is a table look-up and three running sums.
"""

import zlib
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

STEPS = 20_000
LOWEST = -100.0  # in float32 sums of differences are exact that far
WIDTHS = (2, 4, 8)  # bits a difference
SLACK = 1e-3  # of a step: 0.1 in float32 is a little above 0.1, and is no higher step
GAP = np.dtype("u1")
VALUE = np.dtype("<i2")
LEVEL = 1  # zlib's
BAND = 30_000  # pixels at a time: arrays under 128 KiB, for which malloc asks no kernel


def _table(bits: int) -> np.ndarray:
    """(256, differences a byte) float32: the differences that a byte stands for, lowest bits
    first.
    """
    shifts = np.arange(0, 8, bits)
    codes = np.arange(256)[:, None] >> shifts & (1 << bits) - 1
    return (codes - (1 << bits - 1)).astype(np.float32)


TABLES = {bits: _table(bits) for bits in WIDTHS}


def pack_map(values: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """(recipe, bytes) from which unpack_map makes a map again; values: (H, W) float32, finite, at
    most 1 or a little more.

    recipe: bits a difference, others (how many follow), deflated.
    """
    steps = np.ceil(np.maximum(values, LOWEST) * np.float64(STEPS) - SLACK).astype(np.int32)
    for axis in (1, 1, 0):
        steps = np.diff(steps, axis=axis, prepend=np.int32(0))
    differences = steps.ravel()

    def is_other(bits: int) -> np.ndarray:
        return (differences < -(1 << bits - 1)) | (differences >= 1 << bits - 1)

    other_bits = 8 * (GAP.itemsize + VALUE.itemsize)
    costs = {
        bits: bits * len(differences) + other_bits * np.count_nonzero(is_other(bits))
        for bits in WIDTHS
    }
    bits = min(costs, key=costs.__getitem__)
    places = np.flatnonzero(is_other(bits))
    gaps, others = _others(places, differences[places])
    differences[places] = 0
    per_byte = 8 // bits
    codes = np.zeros((-(-len(differences) // per_byte), per_byte), np.uint8)
    codes.reshape(-1)[: len(differences)] = differences + (1 << bits - 1)
    packed = np.bitwise_or.reduce(codes << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    content = packed.tobytes() + gaps.tobytes() + others.tobytes()
    recipe = {"bits": bits, "others": len(gaps), "deflated": False}
    if bits == WIDTHS[0]:
        shorter = zlib.compress(content, LEVEL)
        if 2 * len(shorter) < len(content):
            return recipe | {"deflated": True}, shorter
    return recipe, content


def _others(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gaps, values) in the types that a file has; places: (n,) ascending; values: (n,) int32.

    A value too large is split, a gap too long is filled with zeros.
    """
    reach, most = np.iinfo(GAP).max, np.iinfo(VALUE).max
    parts = np.maximum(1, -(-np.abs(values) // most))  # of each value
    gaps = np.repeat(np.diff(places, prepend=0), parts)
    first = np.cumsum(parts) - parts
    is_first = np.zeros(len(gaps), bool)
    is_first[first] = True
    gaps[~is_first] = 0
    whole = np.repeat(values, parts)
    number = np.arange(len(gaps)) - np.repeat(first, parts)
    pieces = np.sign(whole) * np.clip(np.abs(whole) - number * most, 0, most)
    fillers = np.maximum(0, -(-gaps // reach) - 1)
    out_gaps = np.full(len(gaps) + int(fillers.sum()), reach, np.int64)
    out_values = np.zeros(len(out_gaps), np.int64)
    ends = np.arange(len(gaps)) + np.cumsum(fillers)
    out_gaps[ends], out_values[ends] = gaps - fillers * reach, pieces
    return out_gaps.astype(GAP), out_values.astype(VALUE)


def unpack_map(
    recipe: dict[str, Any],
    content: bytes | memoryview,
    size: tuple[int, int],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The map (H, W) float32 of what pack_map has made, in out, if given. Raises ValueError for
    what it cannot have made.
    """
    pixels, bits, count = size[0] * size[1], recipe["bits"], recipe["others"]
    if bits not in WIDTHS or count < 0:
        raise ValueError(f"no recipe of a map: {recipe}")
    packed = -(-pixels * bits // 8)
    length = packed + count * (GAP.itemsize + VALUE.itemsize)
    if recipe["deflated"]:
        content = zlib.decompressobj().decompress(content, length + 1)
    if len(content) != length:
        raise ValueError(f"a map of {len(content)} bytes, where its recipe says {length}")
    codes = np.frombuffer(content, np.uint8, packed)
    places = np.cumsum(np.frombuffer(content, GAP, count, packed), dtype=np.int64)
    others = np.frombuffer(content, VALUE, count, packed + count * GAP.itemsize)
    if count and places[-1] >= pixels:
        raise ValueError("a difference outside the map")
    out = np.empty(size, np.float32) if out is None else out
    height, width = size
    rows = max(4, BAND // max(width, 1) // 4 * 4)  # of which a whole number of bytes is
    tops = [*range(0, height, rows), height]
    cuts = np.searchsorted(places, np.array(tops) * width)
    above = np.zeros(width, np.int32)
    for band, (top, bottom) in enumerate(pairwise(tops)):
        first, last = top * width, bottom * width
        here = slice(cuts[band], cuts[band + 1])
        table = np.take(TABLES[bits], codes[first * bits // 8 : -(-last * bits // 8)], axis=0)
        differences = table.reshape(-1)[: last - first]
        np.add.at(differences, places[here] - first, others[here].astype(np.float32))
        # Whole numbers under 2 ** 24 are exact in float32, and cv2's sums of it the fastest.
        sums = cv2.integral(differences.reshape(-1, width), sdepth=cv2.CV_32F)[1:, 1:]
        slopes = sums.astype(np.int32)
        slopes += above
        above = slopes[-1].copy()
        np.add.accumulate(slopes, axis=1, out=slopes)
        # divided, so that a threshold of hundredths is the same float32 here
        np.divide(slopes, np.float32(STEPS), out=out[top:bottom], dtype=np.float32)
    return out
