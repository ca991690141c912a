"""Tables of image labels: their rows, the column that names the images, and those of the tags.

A heading is a first row that names no image. Where it has words that are known (STRONG, WEAK,
TAG_NAMES), these say which column is which; Chosen is what a user says. A table in which two
columns may be the images', or several the tags', is refused with what to do.
"""

import csv
import io
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tool.errors import InputError
from tool.file.text import numbered_lines, shortened, split_delimiter_line
from tool.names import nfc
from voc12.label_file.cells import (
    MINUS,
    NO,
    OPENS,
    TAG,
    YES,
    answer,
    are_yes_or_no,
    is_missing,
    listed,
)
from voc12.label_file.entries import Known, is_file_name

DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'", " ": "spaces"}
# headings of the column of images: STRONG where it can be no other, WEAK where a number a row may
# be called so too
STRONG = frozenset(
    f"{what}{part}"
    for what in ("image", "img", "file", "photo", "photograph", "picture")
    for part in ("", "s", "_name", "name", "_path", "path", "_file", "_filename")
) | {"path", "paths"}
WEAK = frozenset(("id", "image_id", "img_id", "photo_id", "file_id", "name", "", "unnamed:_0"))
KEY_NAMES = STRONG | WEAK
TAG_NAMES = {
    plural: one
    for one, plural in (
        ("label", "labels"),
        ("tag", "tags"),
        ("class", "classes"),
        ("category", "categories"),
        ("choice", "choices"),
        ("keyword", "keywords"),
    )
    for plural in (one, plural)
}
SPLITS = frozenset(
    ("train", "training", "val", "valid", "validation", "test", "testing", "dev", "trainval")
)
# headings of yes and no that say of a row whether it holds, and those that say something else
DENIALS = re.compile(
    r"(is_?)?(present|confidence|conf|correct|verified|valid|positive|true|exists)"
)
NO_DENIALS = re.compile(
    r"(is_?)?(occluded|truncated|difficult|crowd|group_?of|depiction|inside"
    r"|split|fold|subset|train(ing)?|val(idation)?|test(ing)?)(_?set)?"
)
BRACKETS = ("[", "{", "(")
NUMBERED = re.compile(r"(.*?)[_\W]*\d+")
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
FRACTION = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*", re.ASCII)

ABOVE = 10  # rows among which a heading is looked for, below a title or comments
SOME = 3  # images that a column without a heading names at least, beside another that does

Rows = list[tuple[int, list[str]]]  # line number, fields


@dataclass(frozen=True)
class Chosen:
    """The columns that a user names, by their heading or their number from 1; None and () where
    the table is to say it. by_flags: whether --image_column and --tag_columns are there to name
    them, which messages then say.
    """

    image: str | None = None
    tags: tuple[str, ...] = ()
    by_flags: bool = False

    @property
    def any(self) -> bool:
        """Whether a column is named."""
        return self.image is not None or bool(self.tags)

    def or_by(self, flag: str, other: str = "give") -> str:
        """The end of a message: that a flag helps as well, where the script has it."""
        return f", or {other} {flag}" if self.by_flags else ""


BY_TABLE = Chosen()


# ============ rows ============
def delimiters_of(text: str) -> tuple[list[str], str]:
    """(the delimiters that may part the fields of a text, the text without a first line that says
    it, as Excel's sep=; does, in the place of which an empty one is left).
    """
    said, text = split_delimiter_line(text)
    return [said] if said else [one for one in DELIMITERS if one in text], text


def split_rows(path: Path, text: str, delimiter: str) -> Rows:
    """(line number, stripped fields) of the rows of a table that are not blank."""
    if delimiter == " ":
        return [(number, line.split()) for number, line in numbered_lines(text)]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        found = [(rows.line_num, [field.strip() for field in row]) for row in rows]
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line_num}: {error}; is it a table?") from None
    return [(number, row) for number, row in found if any(row)]


# ============ columns ============
@dataclass(frozen=True)
class Table:
    """The rows of a table of labels of some images, and what its columns are.

    path: for messages; is_class: whether a text is the name of a class, where that is known
    """

    path: Path
    rows: Rows
    known: Known
    chosen: Chosen = BY_TABLE
    is_class: Callable[[str], bool] = lambda name: False

    @cached_property
    def named(self) -> list[dict[int, str]]:
        """Of each column, row -> the image that its cell names; the first row is not looked at
        where there are others.
        """
        columns: list[dict[int, str]] = []
        for place in range(len(self.rows) > 1, len(self.rows)):
            row = self.rows[place][1]
            columns += [{} for _ in range(len(row) - len(columns))]
            for column, cell in enumerate(row):
                if found := self.known(cell):
                    columns[column][place] = found
        return columns

    @cached_property
    def images(self) -> tuple[int, float]:
        """(how many images one column names, minus the length of their names): the higher of two
        delimiters parts the table, for one too few leaves more than names in its fields.
        """
        best = (0, 0.0)
        for n, found in enumerate(self.named):
            names = {place: self.rows[place][1][n] for place in found}
            first = self.rows[0][1][n : n + 1]
            if first and self.known(first[0]):
                names[0] = first[0]
            if names:
                images = {self.known(name) for name in names.values()}
                length = sum(map(len, names.values())) / len(names)
                best = max(best, (len(images), -length))
        return best

    @cached_property
    def words(self) -> list[str]:
        """The first row, as headings are compared."""
        return [heading_word(cell) for cell in self.rows[0][1]]

    @cached_property
    def tag_words(self) -> list[int]:
        """Columns whose heading, if it is one, says that they hold tags."""
        return [n for n, word in enumerate(self.words) if tag_word(word)]

    @cached_property
    def heading(self) -> list[str] | None:
        """The first row where it is a heading. Raises InputError where a heading is below it."""
        self._require_nothing_above()
        keys = [n for n, word in enumerate(self.words) if word in KEY_NAMES and word]
        first = self.rows[0][1]
        if (keys and self.tag_words) or self._are_chosen(first):
            return first
        column = self._likely()
        cell = first[column] if column < len(first) else ""
        if any(self.named[n] for n in keys if n < len(self.named)) and not self.known(cell):
            return first
        if is_file_name(cell) or (cell.isdigit() and cell.isascii()):
            return None
        if keys or self.tag_words:
            is_image = self.known(cell) and column not in keys
            return None if is_image else first
        if not any(self.named) or len(self.rows) == 1 or self.known(cell):
            return None
        return first if not cell or not self._is_row(column) else None

    def _require_nothing_above(self) -> None:
        """Raise InputError where a row below others that name no image is a heading: by a word of
        STRONG, or of WEAK beside one of tags, above a column that names images.
        """
        first = self.rows[0][1]
        headed = sum(map(bool, first)) > 1 and any(word in KEY_NAMES for word in self.words if word)
        if headed or self._are_chosen(first):
            return
        for place, (number, row) in enumerate(self.rows[:ABOVE]):
            if any(self.known(cell) or is_file_name(cell) for cell in row):
                return
            words = [heading_word(cell) for cell in row]
            keys = STRONG | WEAK if any(map(tag_word, words)) else STRONG
            named = [n for n, word in enumerate(words) if word in keys and word]
            if place and any(self.named[n] for n in named):
                heading = shortened(", ".join(row))
                raise InputError(
                    f"{self.path} line {number}: the heading is here, '{heading}'; remove what is "
                    "above it"
                )

    def _is_row(self, column: int) -> bool:
        """Whether the first row, which names no image that is known, is one of tags as those below:
        it has yes or no, numbers or names where they have; column: of the images.
        """
        others = [n for n in range(len(self.rows[0][1])) if n != column]
        first = self.rows[0][1]
        below = {n: {row[n] for _, row in self.rows[1:] if n < len(row)} for n in others}
        every = {cell for cells in below.values() for cell in cells}
        if are_yes_or_no(every):
            return {answer(first[n]) for n in others} <= YES | NO | {""}
        for n in others:
            said = {cell for cell in below[n] if cell}
            if NUMBER.fullmatch(first[n]):
                if said and all(map(NUMBER.fullmatch, said)):
                    return True
                continue
            parts = [part for part in (first[n], *TAG.split(first[n])) if part.strip()]
            if any(self.is_class(part) or part in every for part in parts):
                return True
        return False

    @property
    def body(self) -> Rows:
        """The rows without the heading."""
        return self.rows[self.heading is not None :]

    def _are_chosen(self, first: list[str]) -> bool:
        """Whether a user has named one of these as a column."""
        said = (self.chosen.image, *self.chosen.tags)
        return any(name is not None and _place(name, first) is not None for name in said)

    def _likely(self) -> int:
        """The column that names the most images by file names, or the first that names any."""
        files = [
            sum(is_file_name(self.rows[place][1][n]) for place in found)
            for n, found in enumerate(self.named)
        ]
        if any(files):
            return files.index(max(files))
        if not any(self.named) or self.named[0]:
            return 0
        counts = [len(found) for found in self.named]
        return counts.index(max(counts))

    @cached_property
    def key(self) -> int:
        """The column of the images. Raises InputError where two may be it and do not name the same
        images.
        """
        if self.chosen.image is not None:
            return self._chosen_column(self.chosen.image, "--image_column")
        rivals = self._rivals() if self.heading is None else self._headed_rivals()
        if not rivals:
            words = self.words if self.heading is not None else []
            order = [n for kind in (STRONG, WEAK - {""}) for n, w in enumerate(words) if w in kind]
            return order[0] if order else self._likely()
        best = max(rivals, key=lambda n: (len(self.named[n]), self._has_files(n), -n))
        for other in rivals:
            self._require_same(best, other)
        return best

    def _has_files(self, column: int) -> bool:
        return any(is_file_name(self.rows[place][1][column]) for place in self.named[column])

    def _rivals(self) -> list[int]:
        """Columns without a heading that may name the images: those with file names, or that name
        as many as the first does. Class numbers that are called as images are fewer.
        """
        if files := [n for n in range(len(self.named)) if self._has_files(n)]:
            return files
        counts = [len(set(found.values())) for found in self.named]
        least = max(counts[0] if counts else 0, SOME)
        return [n for n, count in enumerate(counts) if count >= least]

    def _headed_rivals(self) -> list[int]:
        """Columns under a heading that may name the images."""
        counts = [len(found) for found in self.named]
        words = [*self.words, *[None] * len(counts)]
        if not self.tag_words and not KEY_NAMES & set(self.words):  # a heading in other words
            return [n for n, count in enumerate(counts) if count and self._has_files(n)]
        named = [
            n
            for n, count in enumerate(counts)
            if count
            and n not in self.tag_words
            # class columns of 0 and 1 beside photographs 0.jpg and 1.jpg
            and (words[n] in KEY_NAMES or not are_yes_or_no(self.cells([n])))
        ]
        # not where a name in another column is a photograph's by chance
        most = max((counts[n] for n in named), default=0)
        named = [n for n in named if 2 * counts[n] > most]
        return [n for n in named if words[n] in STRONG] or named

    def _require_same(self, one: int, other: int) -> None:
        for place, image in self.named[other].items():
            if self.named[one].get(place, image) == image:
                continue
            number, row = self.rows[place]
            names = " and ".join(self._spoken(n) for n in sorted((one, other)))
            raise InputError(
                f"{self.path}: {names} both name photographs, and not the same "
                f"(line {number}: '{shortened(row[min(one, other)])}' and "
                f"'{shortened(row[max(one, other)])}'); call the right one "
                f"'image'{self.chosen.or_by('--image_column')}"
            )

    def _spoken(self, column: int) -> str:
        name = self.heading[column] if self.heading and column < len(self.heading) else ""
        return f"column {column + 1}" + (f", '{shortened(name)}'," if name else "")

    def _chosen_column(self, name: str, flag: str) -> int:
        place = _place(name, self.heading or [])
        width = max(len(row) for _, row in self.rows)
        if place is None and re.fullmatch(r"[1-9]\d{0,3}", name, re.ASCII) and int(name) <= width:
            place = int(name) - 1
        if place is None:
            there = ", ".join(self.heading) if self.heading else f"1 to {width}"
            raise InputError(
                f"{self.path} has no column '{shortened(name)}' for {flag}; it has "
                f"{shortened(there, 120)}"
            )
        return place

    def cells(self, columns: Sequence[int]) -> set[str]:
        """What stands in columns below the heading."""
        return {row[n] for _, row in self.body for n in columns if n < len(row)}

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The columns of tags that have headings, or were chosen; () where tags are all that stands
        behind the image. Raises InputError where several may be it.
        """
        if self.chosen.tags:
            found = [self._chosen_column(name, "--tag_columns") for name in self.chosen.tags]
            if self.key in found:
                raise InputError(
                    f"{self.path}: --tag_columns names {self._spoken(self.key)} that of the "
                    "photographs; give another"
                )
            self._require_no_scores(found)
            return tuple(found)
        if self.heading is None:
            return self._unnamed_columns()
        words = {tag_word(self.words[n]) for n in self.tag_words}
        plain = {self.words[n] for n in self.tag_words} & TAG_NAMES.keys()
        if self.tag_words:
            if len(plain) > 1 or len(words) > 1:
                raise InputError(self._ask(self.tag_words))
            return tuple(self.tag_words)
        ids = KEY_NAMES - {"name"}
        others = [n for n, word in enumerate(self.words) if n != self.key and word not in ids]
        unnamed = [n for n in others if self.words[n] != "name"]
        if self.are_classes(unnamed):
            return tuple(unnamed)
        self._require_no_scores(unnamed)
        stems = [NUMBERED.fullmatch(self.words[n]) for n in others]
        alike = all(stems) and len({found[1] for found in stems}) == 1
        if len(others) > 1 and not alike:
            raise InputError(self._ask(range(len(self.heading))))
        return tuple(others)

    def _require_no_scores(self, columns: Sequence[int]) -> None:
        """Raise InputError where columns under headings of their own have numbers, and fractions
        among them: probabilities, ratings.
        """
        cells = sorted(cell for cell in self.cells(columns) if not is_missing(cell))
        fractions = [cell for cell in cells if FRACTION.fullmatch(cell)]
        headed = self.heading is not None and not set(columns) & set(self.tag_words)
        if headed and fractions and all(map(NUMBER.fullmatch, cells)):
            names = ", ".join(self.heading[n] for n in columns if n < len(self.heading))
            raise InputError(
                f"{self.path}: '{fractions[0]}' in {shortened(names)} is no yes or no; write 1 or "
                "0 there: from which probability or rating on it is a yes is yours to say"
            )

    def _unnamed_columns(self) -> tuple[int, ...]:
        """Without a heading: () for all behind the image, or the one before it where none is
        behind. Raises InputError where both may be it: a number a row before it is none.
        """
        if self.key == 0:
            return ()
        behind = any(not is_missing(cell) for _, row in self.body for cell in row[self.key + 1 :])
        said = self.cells([0])
        is_count = len(said) == len(self.body) and all(map(NUMBER.fullmatch, said))
        if self.key > 1 or (behind and not is_count):
            raise InputError(
                f"{self.path}: which columns hold the tags? Column {self.key + 1} names the "
                "photographs, others stand before it; write a first line, 'image' and "
                f"'tags'{self.chosen.or_by('--tag_columns')}"
            )
        return () if behind else (0,)

    def are_classes(self, columns: Sequence[int]) -> bool:
        """Whether columns are a class each: they say yes or no, and have headings of their own."""
        return (
            self.heading is not None
            and bool(columns)
            and not set(columns) & set(self.tag_words)
            and are_yes_or_no(self.cells(columns))
        )

    def _ask(self, columns: Sequence[int]) -> str:
        names = ", ".join(self.heading[n] for n in columns if self.heading[n])
        return (
            f"{self.path}: which of the columns {shortened(names, 120)} has the tags? Call it "
            f"'tags', and that of the photographs 'image'{self.chosen.or_by('--tag_columns')}"
        )

    @property
    def left_out(self) -> list[str]:
        """The headings of columns that are not read."""
        read = {self.key, *self.columns}
        if not self.columns:
            return []
        return [name for n, name in enumerate(self.heading or []) if n not in read and name]

    def require_no_denials(self) -> None:
        """Raise InputError where a column that is not read says no of some rows."""
        columns = () if self.chosen.tags else self.columns
        for n, word in enumerate(self.words if self.heading is not None and columns else ()):
            if n == self.key or n in columns:
                continue
            rows = [row for _, row in self.body if len(row) > max(n, *columns)]
            said = [(tuple(row[c] for c in columns), row[n]) for row in rows]
            require_no_denial(str(self.path), word, self.heading[n], said, self.chosen)

    def fields(self) -> list[tuple[int, str, list[str]]]:
        """(line, image, its tags), of lists in cells their names. Tags stand in the columns of
        tags, and what an unquoted comma parted from the last of a row; or behind the image.

        Raises InputError for a row that is longer than a heading whose last column has no tags, a
        list that is none, and columns behind the image that hold no tags: splits, numbers.
        """
        width, columns = len(self.heading or []), self.columns
        is_open = not columns or max(columns) >= max(
            (n for n in range(width) if self.heading[n]), default=0
        )
        if self.heading is None and columns:
            is_open = False
        longest = max((len(row) for _, row in self.body), default=0)
        behind = range(max(columns, default=self.key) + 1, longest if is_open else 0)
        order = [*columns, *(n for n in behind if n != self.key)]
        found = []
        for number, row in self.body:
            if self.heading is not None and len(row) > width and not is_open:
                raise InputError(
                    f"{self.path} line {number}: {len(row)} fields, the heading has {width}; put "
                    "what has the delimiter in it into quotes"
                )
            tags = _joined([row[n] for n in order if n < len(row)])
            key = row[self.key] if self.key < len(row) else ""
            found.append((number, key, tags))
        if is_open:
            self._require_tags([tags for _, _, tags in found], order)
        return [
            (number, key, self._listed(tags, f"{self.path} line {number}"))
            for number, key, tags in found
        ]

    def _listed(self, tags: list[str], where: str) -> list[str]:
        if not any(tag[:1] in BRACKETS for tag in tags):
            return tags
        parts = [None if self.is_class(tag) else listed(tag, where) for tag in tags]
        return [
            name
            for tag, names in zip(tags, parts, strict=True)
            for name in ([tag] if names is None else names)
        ]

    def _require_tags(self, rows: list[list[str]], order: list[int]) -> None:
        """Raise InputError where one of several columns of tags without headings holds parts of a
        data set, numbers beside names, yes and no, or stands beside lists. order: their places.
        """
        width = max((len(tags) for tags in rows), default=0)
        columns = [[tags[n].strip() for tags in rows if n < len(tags)] for n in range(width)]
        cells = [{cell.casefold() for cell in column} - {""} for column in columns]
        numbers = [bool(said) and all(map(NUMBER.fullmatch, said)) for said in cells]
        words = any(said and not number for said, number in zip(cells, numbers, strict=True))
        lists = [any(OPENS.match(cell) for cell in column) for column in columns]
        for place, (said, number) in enumerate(zip(cells, numbers, strict=True)):
            everywhere = len(columns[place]) == len(rows) and "" not in columns[place]
            is_split = said <= SPLITS and (len(said) > 1 or (bool(said) and everywhere))
            answers = not number and are_yes_or_no(said) and not all(map(self.is_class, said))
            beside = bool(said) and any(lists) and not lists[place]
            named = place < len(self.columns)
            if width > 1 and not named and ((number and words) or is_split or answers or beside):
                raise InputError(
                    f"{self.path}: does column {order[place] + 1} hold tags? It has "
                    f"{shortened(', '.join(sorted(said)[:3]))}; take it "
                    f"out{self.chosen.or_by('--tag_columns', 'give the columns that do by')}"
                )


def _joined(tags: list[str]) -> list[str]:
    """Tags with a list that stood there without quotes, and was parted, as one again."""
    if len(tags) > 1 and OPENS.match(tags[0]) and tags[0][-1] not in "]})":
        return [",".join(tags)]
    return tags


def require_no_denial(
    source: str, word: str, heading: str, rows: Sequence[tuple[Hashable, str]], chosen: Chosen
) -> None:
    """Raise InputError where a column says yes of some rows and no of others, as 'present' does, so
    that those of a no would count: not where it goes with the tags, as their number does, nor where
    its heading is one of boxes or of parts of a data set.

    word: the heading as headings are compared; rows: (tags, what the column says)
    """
    said = {answer(cell) for _, cell in rows if not is_missing(cell)}
    if not are_yes_or_no(said) or said.isdisjoint(NO | MINUS):
        return
    pairs = {(tags, answer(cell)) for tags, cell in rows}
    with_tags = len(pairs) == len({tags for tags, _ in rows})
    none = word in KEY_NAMES or NO_DENIALS.fullmatch(word) or with_tags
    if DENIALS.fullmatch(word) or not none:
        raise InputError(
            f"{source}: does '{shortened(heading)}' say no of some labels? It has "
            f"{', '.join(sorted(said))}, and is not read; take out the rows of a no, and the "
            f"column{chosen.or_by('--tag_columns')}"
        )


def heading_word(cell: str) -> str:
    """A heading as headings are compared: "file_name" of "File Name"."""
    return re.sub(r"[\s_.-]+", "_", nfc(cell.strip()).casefold())


def tag_word(word: str) -> str | None:
    """ "tag" of "tags", "tag_2", "tag2"; None of other headings."""
    if word in TAG_NAMES:
        return TAG_NAMES[word]
    found = NUMBERED.fullmatch(word)
    return TAG_NAMES.get(found[1]) if found else None


def _place(name: str, heading: Sequence[str]) -> int | None:
    """The one column of this heading, whatever its capitals if it is one alone."""
    exact = [n for n, cell in enumerate(heading) if nfc(cell) == nfc(name)]
    alike = [n for n, cell in enumerate(heading) if nfc(cell).casefold() == nfc(name).casefold()]
    found = exact or alike
    return found[0] if len(found) == 1 else None
