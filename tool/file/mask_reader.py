"""Masks as other tools write them, read into class numbers: 0 background, c + 1 class c, 255
ignored.

A MaskReader is chosen once for the masks of a list (choose_mask_reader), for what a mask means is
not certain by one mask. What it reads:

- 8-bit grey and palette PNGs of class numbers, as VOC's
- one class, and only 0 and 255 (white) in all masks of other tools in the list: white is the class;
  in our own files 255 is ignored
- palette PNGs whose indices are not VOC's order but whose colours are VOC's, or those of the class
  list (CVAT's labelmap.txt): by colour
- palette PNGs in other colours, where an index has the same colour in all masks and black is
  nowhere but at 0: by index
- RGB(A) in VOC's colours or the list's, or grey of class numbers
- grey levels that a class list names as colours: by colour, as RGB and palettes of them
- 16-bit grey, as numbers, or 257 times the 8-bit ones; 65535 is 255
- 1-, 2- and 4-bit grey: the numbers as stored, the highest being white

Black that a class list does not name is background, as in lists without a line for it; VOC's border
colour, and white among grey levels, are ignored.

Anything else is an InputError that names the mask.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tool.errors import InputError
from tool.file.images import META_KEY, PNG_SIGNATURE, opened_mask
from tool.mask_values import IGNORE_LABEL, voc_palette

AUTO, BINARY, IGNORE = "auto", "binary", "ignore"
MASK_VALUES = (AUTO, BINARY, IGNORE)  # what --mask_values may say
GREY_TYPE = 0  # of a PNG header
WHITE16 = 65535
LABELMAP_HELP = (
    "name the colours in a labelmap.txt of the data set, a line name:r,g,b:: each, or save class "
    "numbers as 8-bit grey"
)
NUMBERS_HELP = "save the class numbers as an 8-bit grey or palette PNG"
_PALETTE = voc_palette()

Colour = tuple[int, int, int]
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
BORDER: Colour = tuple(int(part) for part in _PALETTE[IGNORE_LABEL])
_Palette = dict[int, Colour]  # of the indices that a mask uses


@dataclass(frozen=True)
class _Stored:
    """The pixels of a mask file: numbers (H, W) or rgb (H, W, 3); palette where numbers index one;
    depth bits a number; own: written by this repository; indexed: so, or its palette says nothing.
    """

    numbers: np.ndarray | None = None
    rgb: np.ndarray | None = None
    palette: np.ndarray | None = None
    depth: int = 8
    own: bool = False
    indexed: bool = False


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one list.

    num_labels: K, with background
    colours:    RGB -> mask value, of the class list; () without
    values:     "ignore": 255 is ignored; "binary": it is class 1, but in our own files
    by_index:   indices of a palette in other colours are class numbers
    as_stored:  indices are class numbers whatever the colours say
    has_flag:   --mask_values is about these masks, so that advice may name it
    """

    num_labels: int
    colours: tuple[tuple[Colour, int], ...] = ()
    values: str = IGNORE
    by_index: bool = False
    as_stored: bool = False
    has_flag: bool = True

    def __call__(self, path: str | Path) -> np.ndarray:
        """The mask at path, (H, W) uint8. Raises InputError naming the file."""
        stored = _read(path)
        mask = self._numbers(stored, path)
        if self.values != BINARY or stored.own:
            if stored.depth < 8 and not self.as_stored and (mask == IGNORE_LABEL).any():
                flag = "give --mask_values binary (one class) or ignore, or "
                raise InputError(
                    f"mask {path} has {stored.depth} bits a pixel, whose white can be a class or "
                    f"ignored; {flag if self.has_flag else ''}save 8 bits"
                )
            return mask
        white = mask == IGNORE_LABEL
        if white.any() and (mask[~white] > 0).any():
            raise InputError(
                f"mask {path} has {mask[~white].max()} beside 255; masks of --mask_values binary "
                "have 0 and 255; give --mask_values ignore if 255 is ignored"
            )
        return np.where(white, np.uint8(1), mask)

    def _numbers(self, stored: _Stored, path: str | Path) -> np.ndarray:
        """The class numbers, white as 255."""
        if stored.rgb is not None:
            return self._from_rgb(stored.rgb, path)
        numbers = _eight_bits(stored, path)
        if self.as_stored or stored.indexed:
            return numbers
        if stored.palette is None:
            return self._from_grey(numbers)
        used = _used(numbers, stored.palette)
        other_order = self._has_other_order(used)
        if _is_usual(used) and not other_order:
            return numbers
        table = self._table(white=used.get(IGNORE_LABEL) == WHITE)
        if _says_classes(used, table):
            lookup = np.arange(256, dtype=np.uint8)
            for index, colour in used.items():
                lookup[index] = table[colour]
            return lookup[numbers]
        if self.by_index and not other_order:
            return numbers
        strange = next((colour for colour in used.values() if colour not in table), None)
        which = f"such as {strange}" if strange else "two of them alike"
        flag = ", or give --mask_values ignore if its indices are the class numbers"
        why = "the class list has others of its colours" if other_order else ""
        why = why or "the masks of the list do not agree on its order"
        raise InputError(
            f"mask {path} has a palette of its own, {which}, and {why}; {LABELMAP_HELP}"
            f"{flag if self.has_flag else ''}"
        )

    def _from_grey(self, numbers: np.ndarray) -> np.ndarray:
        """Grey levels: class numbers, unless they are grey colours of the class list."""
        levels = np.unique(numbers)
        if levels[levels != IGNORE_LABEL].max(initial=0) < self.num_labels and not self._in_list(
            [(int(level),) * 3 for level in levels], white=True
        ):
            return numbers
        table = self._table(white=True) if self.colours else {}
        if not all((int(level),) * 3 in table for level in levels):
            return numbers
        lookup = np.zeros(256, dtype=np.uint8)
        lookup[levels] = [table[(int(level),) * 3] for level in levels]
        return lookup[numbers]

    def _from_rgb(self, rgb: np.ndarray, path: str | Path) -> np.ndarray:
        codes = (rgb.astype(np.uint32) << np.array([16, 8, 0], dtype=np.uint32)).sum(axis=2)
        found, place = np.unique(codes, return_inverse=True)
        used = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in found]
        grey = all(len(set(colour)) == 1 for colour in used)
        table = self._table(white=grey and bool(self.colours))
        known = all(colour in table for colour in used)
        levels = [colour[0] for colour in used]
        numbers = grey and all(level < self.num_labels or level == IGNORE_LABEL for level in levels)
        by_colour = [table.get(colour, 0) for colour in used]
        if known and numbers and by_colour != levels and not self._in_list(used, grey):
            raise InputError(
                f"mask {path} can be read as VOC's colours and as class numbers; save it as 8-bit "
                "grey or palette PNG"
            )
        if not known and not numbers:
            strange = next((colour for colour in used if colour not in table), used[0])
            raise InputError(
                f"mask {path} has the colour {strange}, none of VOC's for {self.num_labels - 1} "
                f"classes and none of the class list; {LABELMAP_HELP}"
            )
        values = np.array(by_colour if known else levels, dtype=np.uint8)
        return values[place].reshape(rgb.shape[:2])

    def _table(self, white: bool = False) -> dict[Colour, int]:
        """The class list's colours, or else VOC's of the labels; white: it is 255 where the list
        does not name it.
        """
        values = (0, IGNORE_LABEL) if self.colours else (*range(self.num_labels), IGNORE_LABEL)
        usual = {tuple(int(part) for part in _PALETTE[value]): value for value in values}
        return usual | ({WHITE: IGNORE_LABEL} if white else {}) | dict(self.colours)

    def _in_list(self, colours: Iterable[Colour], white: bool = False) -> bool:
        """Whether the class list names colours, beside black and what is ignored: VOC's border
        and, where white says so, white.
        """
        named = dict(self.colours)
        ignored = {BORDER, WHITE} if white else {BORDER}
        classes = set(colours) - {BLACK} - (ignored - named.keys())
        return bool(classes) and classes <= named.keys()

    def _has_other_order(self, used: _Palette) -> bool:
        """Whether the class list gives a colour of a palette to another value than its index."""
        named = dict(self.colours)
        return any(named.get(colour, index) != index for index, colour in used.items())

    @property
    def reorders(self) -> bool:
        """Whether the class list gives colours of VOC's palette to other values than VOC does."""
        usual = {tuple(int(part) for part in colour): v for v, colour in enumerate(_PALETTE)}
        return any(usual.get(colour, value) != value for colour, value in self.colours)


def choose_mask_reader(
    paths: Sequence[str | Path],
    classes: Sequence[str],
    colours: Mapping[Colour, int] | None = None,
    values: str | None = AUTO,
) -> tuple[MaskReader, list[str]]:
    """(the reader of the masks at paths, lines that say how they are read, if not as VOC's).

    classes: foreground names; colours: RGB -> mask value, of the class list
    values: --mask_values: "binary", "ignore" (the stored numbers, 255 ignored), or "auto"; None: as
    "auto", where no such flag is about these masks
    Headers of all masks are read, and pixels where the header leaves it open, for a single class
    until a mask has the value 1. Raises InputError for binary with several classes.
    """
    colours = tuple((colours or {}).items())
    has_flag = values is not None
    reader = MaskReader(len(classes) + 1, colours)
    if values == IGNORE:
        return MaskReader(reader.num_labels, colours, as_stored=True), []
    if values == BINARY and len(classes) != 1:
        raise InputError(
            f"--mask_values binary is for one class, the class list has {len(classes)}; give "
            "masks of class numbers"
        )
    kinds: Counter[str] = Counter()
    palettes: list[_Palette] = []
    for path in paths:
        with contextlib.suppress(InputError):  # the reader says it of each mask
            kind, used = _kind(path, reader)
            kinds[kind] += bool(kind)
            if kind == "palette by index":
                palettes.append(used)
    by_index = bool(palettes) and _same_everywhere(palettes)
    chosen = MaskReader(reader.num_labels, colours, by_index=by_index, has_flag=has_flag)
    said = _said(kinds, len(paths), by_index)
    others = [path for path in paths if not _is_own(path)] if len(classes) == 1 else []
    if values == BINARY or _is_black_and_white(others, chosen):
        chosen = replace(chosen, values=BINARY)
        own = len(paths) - len(others)
        mine = f", and ignored in {own} masks of this repository" if own else ""
        if values != BINARY:
            flag = "; give --mask_values ignore if it is ignored" if has_flag else ""
            said.append(f"0 and 255 alone: 255 is read as {classes[0]}{mine}{flag}")
        elif own:
            said.append(f"255 is {classes[0]}{mine}")
    return chosen, said


def _said(kinds: Counter[str], total: int, by_index: bool) -> list[str]:
    how = {
        "rgb": "in RGB, read by their colours",
        "palette by colour": "with a palette in another order than VOC's, read by their colours",
        "palette by index": "with a palette in other colours, read by index",
        "16-bit": "of 16 bits, read as class numbers",
        "low-bit": "of fewer than 8 bits, read as class numbers",
    }
    said = [kind for kind in how if kinds[kind] and (kind != "palette by index" or by_index)]
    return [f"{kinds[kind]} of {total} masks are {how[kind]}" for kind in said]


def _is_own(path: str | Path) -> bool:
    """Whether a mask is written by this repository; False where it cannot be read."""
    try:
        with opened_mask(path) as image:
            return image.mode == "P" and META_KEY in image.info
    except InputError:  # the reader says it of each mask
        return False


def _is_black_and_white(paths: Sequence[str | Path], reader: MaskReader) -> bool:
    """Whether the masks have no values but 0 and 255, and 255 somewhere; ends at the first other
    value.
    """
    white = False
    for path in paths:
        try:
            values = np.unique(reader._numbers(_read(path), path))
        except InputError:  # the reader says it of each mask
            continue
        if not np.isin(values, (0, IGNORE_LABEL)).all():
            return False
        white |= bool((values == IGNORE_LABEL).any())
    return white


def _same_everywhere(palettes: Sequence[_Palette]) -> bool:
    """Whether an index has one colour in all masks and a colour one index, black 0 alone."""
    colour_of: _Palette = {}
    index_of: dict[Colour, int] = {(0, 0, 0): 0}
    return all(
        colour_of.setdefault(index, colour) == colour
        and index_of.setdefault(colour, index) == index
        for used in palettes
        for index, colour in used.items()
    )


def _kind(path: str | Path, reader: MaskReader) -> tuple[str, _Palette]:
    """(how a mask differs from VOC's, "" for not; the colours it uses where its pixels had to say).

    By its header as far as that says it.
    """
    with opened_mask(path) as image:
        if image.mode == "P":
            if _says_nothing(image, usual_tells=not reader.reorders):
                return "", {}
        elif image.mode in ("RGB", "RGBA"):
            return "rgb", {}
        elif image.mode.startswith("I"):
            return "16-bit", {}
        else:
            return ("low-bit" if _grey_depth(path) < 8 else ""), {}
    stored = _read(path)
    used = _used(stored.numbers, stored.palette)
    if _is_usual(used) and not reader._has_other_order(used):
        return "", used
    by_colour = _says_classes(used, reader._table(white=used.get(IGNORE_LABEL) == WHITE))
    return ("palette by colour" if by_colour else "palette by index"), used


def _says_nothing(image: Image.Image, usual_tells: bool) -> bool:
    """Whether the palette of a mask may be left alone: VOC's if usual_tells, one colour alone, or
    our own file.
    """
    palette = _palette(image)
    usual = usual_tells and bool((palette == _PALETTE[: len(palette)]).all())
    return META_KEY in image.info or usual or _is_one_colour(image)


def _is_one_colour(image: Image.Image) -> bool:
    palette = _palette(image)
    return len(palette) > 1 and bool((palette == palette[0]).all())


def _read(path: str | Path) -> _Stored:
    with opened_mask(path) as image:
        image.load()
        if image.mode in ("RGBA", "LA"):
            if image.getchannel("A").getextrema()[0] < 255:
                raise InputError(
                    f"mask {path} has transparent pixels, whose class is not certain; "
                    f"{NUMBERS_HELP}"
                )
            image = image.convert("RGB" if image.mode == "RGBA" else "L")
        if image.mode == "RGB":
            return _Stored(rgb=np.array(image))
        if image.mode == "P":
            own = META_KEY in image.info
            indexed = own or _is_one_colour(image)
            return _Stored(np.array(image), palette=_palette(image), own=own, indexed=indexed)
        if image.mode == "1":
            return _Stored(np.array(image).astype(np.uint8), depth=1)
        if image.mode.startswith("I"):
            return _Stored(np.array(image), depth=16)
        if image.mode == "L":
            depth = _grey_depth(path)
            return _Stored(np.array(image) // (255 // (2**depth - 1)), depth=depth)
        raise InputError(f"mask {path} has mode {image.mode}; {NUMBERS_HELP}")


def _palette(image: Image.Image) -> np.ndarray:
    """(n, 3) uint8 RGB of the entries that the file has."""
    flat = (image.getpalette("RGB") or [])[: 3 * 256]
    return np.array(flat, dtype=np.uint8).reshape(-1, 3)


def _grey_depth(path: str | Path) -> int:
    """Bits a pixel of a grey PNG; 8 for everything else. Pillow scales fewer bits to 0..255."""
    with Path(path).open("rb") as file:
        header = file.read(26)
    is_grey = header.startswith(PNG_SIGNATURE) and len(header) == 26 and header[25] == GREY_TYPE
    return header[24] if is_grey and header[24] in (1, 2, 4) else 8


def _eight_bits(stored: _Stored, path: str | Path) -> np.ndarray:
    """Class numbers (H, W) uint8 of numbers of any depth: the highest is white, 255."""
    numbers = stored.numbers
    if stored.depth == 8:
        return numbers
    if stored.depth < 8:
        white = 2**stored.depth - 1
        return np.where(numbers == white, IGNORE_LABEL, numbers).astype(np.uint8)
    found = np.unique(numbers)
    rest = found[found != WHITE16]
    if rest.size and (rest.min() < 0 or rest.max() > 255) and (found % 257 == 0).all():
        numbers, rest = numbers // 257, rest // 257
    if rest.size and (rest.min() < 0 or rest.max() > 255):
        raise InputError(
            f"mask {path} of 16 bits has the value {rest[(rest < 0) | (rest > 255)][0]}, no class "
            f"number; {NUMBERS_HELP}"
        )
    return np.where(numbers == WHITE16, IGNORE_LABEL, numbers).astype(np.uint8)


def _used(numbers: np.ndarray, palette: np.ndarray) -> _Palette:
    """The colours of the indices in numbers that the palette has."""
    return {
        int(index): tuple(int(part) for part in palette[index])
        for index in np.flatnonzero(np.bincount(numbers.ravel(), minlength=256))
        if index < len(palette)
    }


def _says_classes(used: _Palette, table: Mapping[Colour, int]) -> bool:
    """Whether the colours of a palette name classes: all are in table, no two alike."""
    colours = list(used.values())
    return len(set(colours)) == len(colours) and all(colour in table for colour in colours)


def _is_usual(used: _Palette) -> bool:
    """Whether the colours are VOC's in VOC's order, or grey levels of the indices."""
    return all(colour == tuple(_PALETTE[index]) for index, colour in used.items()) or all(
        colour == (index,) * 3 for index, colour in used.items()
    )
