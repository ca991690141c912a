"""Types for argparse flags that argparse lacks."""

import argparse
import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any

from tool.names import name_fault


class Unasked(str):
    """The default of a flag that nobody gave, so that a script may do without what it names."""


def bool_flag(text: str) -> bool:
    """True for true, 1, yes, on; False for false, 0, no, off, in any case.

    argparse's own `type=bool`, as in the released scripts, reads every text but the empty one as
    true: `--curve False` too. Use with nargs="?" and const=True to let the bare flag mean true.
    Raises argparse.ArgumentTypeError for any other text.
    """
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


@dataclass(frozen=True)
class Number:
    """A type for numbers from low to high, in ASCII digits without underscores; calling it raises
    argparse.ArgumentTypeError for any other text.

    over, under: whether low and high themselves are left out
    words:       what stands for no number and is taken as it is
    """

    kind: type
    low: float
    high: float
    over: bool = False
    under: bool = False
    words: tuple[str, ...] = ()

    def __call__(self, text: str) -> Any:
        """The number of text, or the word."""
        if text in self.words:
            return text
        if text.isascii() and "_" not in text:
            with contextlib.suppress(ValueError):  # int() refuses thousands of digits with it too
                value = self.kind(text)
                above = self.low < value if self.over else self.low <= value
                if above and (value < self.high if self.under else value <= self.high):
                    return value
        raise argparse.ArgumentTypeError(f"expected {self.wanted}, got {text!r}")

    @property
    def wanted(self) -> str:
        """What is taken, in words."""
        what = "a whole number" if self.kind is int else "a number"
        if self.over or self.under:
            end = "under" if self.under else "up to"
            reach = f"over {_short(self.low)} and {end} {_short(self.high)}"
        else:
            reach = f"in {_short(self.low)}..{_short(self.high)}"
        return " or ".join((f"{what} {reach}", *self.words))


def _short(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


# What no setting of use exceeds, so that what does is a slip of the keyboard, named where it is
# read and not by whatever breaks on it later.
MOST, LARGEST = 10**9, 1e6
MOST_WORKERS = 1024
MOST_PIXELS = 16384  # a side; a float image of this side squared has 3 GB
SMALLEST_SCALE, LARGEST_SCALE = 0.01, 16.0


def at_least(low: int, high: int = MOST) -> Number:
    """A type for whole numbers from low to high."""
    return Number(int, low, high)


positive_int, non_negative_int = at_least(1), at_least(0)
worker_count = at_least(0, MOST_WORKERS)
pixels = at_least(1, MOST_PIXELS)  # the side of an image or a cell
doublings = at_least(0, 20)  # of a walk: 2 ** 20 steps are more than any map is wide
seed_number = at_least(0, 2**32 - 1)  # what every generator takes, numpy's too
positive_number = Number(float, 0, LARGEST, over=True)
non_negative_number = Number(float, 0, LARGEST)
scale_number = Number(float, SMALLEST_SCALE, LARGEST_SCALE)  # of an image
view_scale = Number(float, 0.1, 1)  # of a crop
unit_number = Number(float, 0, 1)
share = Number(float, 0, 1, over=True, under=True)
block_number = Number(int, -1000, 1000)  # of a network's blocks; below 0 from its end


def file_name(text: str) -> str:
    """A name that becomes part of files' names; raises argparse.ArgumentTypeError for what
    tool.names refuses.
    """
    if fault := name_fault(text):
        raise argparse.ArgumentTypeError(f"expected a name, got {text!r}, which {fault}")
    return text


AUTO = "auto"
DEFAULT_WORKERS = min(8, os.cpu_count() or 1)  # the released scripts have 8


auto_or_number = replace(unit_number, words=(AUTO,))
auto_or_positive = replace(positive_number, words=(AUTO,))


auto_or_positive_int = replace(positive_int, words=(AUTO,))


def named_number(text: str) -> tuple[str, float]:
    """NAME=NUMBER -> (name, number of at most LARGEST to either side of 0); raises
    argparse.ArgumentTypeError for any other text.
    """
    name, _, value = text.partition("=")
    with contextlib.suppress(argparse.ArgumentTypeError):
        return name, Number(float, -LARGEST, LARGEST)(value)
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")


class MinMax(argparse.Action):
    """Takes the two numbers of a flag MIN MAX in this order alone."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        """Store values; raises argparse.ArgumentError, one line on the terminal, when the first is
        the larger.
        """
        if values[0] > values[1]:
            raise argparse.ArgumentError(self, f"expected MIN first, got {values[0]} {values[1]}")
        setattr(namespace, self.dest, values)


def session_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The flags by name, as a session's log and checkpoint hold them: tuples as lists, which is
    what JSON gives back.
    """
    return {
        name: list(value) if isinstance(value, tuple) else _plain(value)
        for name, value in vars(args).items()
    }


def _plain(value: Any) -> Any:
    """value, of text the plain kind that weights may hold."""
    return str(value) if isinstance(value, str) else value
