"""Damaged files through every reader of bytes: each is read or refused with InputError, nothing
else, and none takes long or much memory.

    python -m tests.fuzz_readers --inputs 100000
    python -m tests.fuzz_readers --reader "instances JSON" --each 100000

Valid files are cut, and their bytes are flipped, set, inserted, left out, repeated and swapped; of
archives also the members inside, with right checksums; of JSON and weights also the values, their
syntax right. Prints the number of inputs of each reader and how many it read; ends with status 1
after the first other error, whose file it keeps. The suite runs a few
(tests/test_fuzz_readers.py); tests/fuzzed_readers.py lists the readers.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import re
import signal
import tempfile
import time
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzzed_readers import Reader, readers
from tool.errors import InputError

SECONDS = 20  # that one input may take
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, *b'PK().<>{}[]/\\"\r\n')


def damaged(reader: Reader, rng: random.Random) -> bytes:
    """One of the reader's seeds with one to six mutations; of an archive, half of the time inside a
    member; of JSON and what the reader has values of, mostly in these.
    """
    if reader.values and rng.random() < 0.6:
        content = copy.deepcopy(rng.choice(reader.values))
        if isinstance(content, dict):
            content = _damaged_values(content, rng, (*WILD_VALUES, *WILD_ARRAYS))
            with contextlib.suppress(Exception):  # the writer may refuse what is too wild
                return reader.written(content)
    seeds = reader.seeds
    data = rng.choice(seeds)
    if data.startswith(b'{"') and rng.random() < 0.8:
        return _damaged_json(data, rng)
    if data.startswith(b"PK") and rng.random() < 0.5:
        return _damaged_member(data, rng)
    return _mutated(data, rng, seeds)


def _mutated(data: bytes, rng: random.Random, seeds: tuple[bytes, ...] = ()) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed) + 1)
        other = rng.randrange(len(changed) + 1)
        low, high = min(place, other), max(place, other)
        match rng.randrange(9):
            case 0:
                del changed[place:]
            case 1 | 2 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 3 | 4 if place < len(changed):
                changed[place] = rng.choice(INTERESTING)
            case 5:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case 6:
                del changed[low : min(high, low + 32)]
            case 7:
                changed[place:place] = changed[low : min(high, low + 64)]
            case 8 if seeds:
                donor = rng.choice(seeds)
                cut = rng.randrange(len(donor) + 1)
                changed[place:] = donor[cut:]
    return bytes(changed)


WILD_ARRAYS = (
    *(torch.zeros(0), torch.tensor(2), torch.ones(2, 3, dtype=torch.int8), torch.ones(2, 3) / 0),
    *(torch.ones(2, dtype=torch.complex64), torch.ones(2, 3).to_sparse(), torch.eye(2) > 0),
    *(np.zeros((0, 3)), np.array(2), np.ones((1, 4, 5), np.int64), np.full((4, 5), np.nan)),
    *(np.ones((4, 5), np.complex64), np.full((4, 5), 1e300), np.array(["a"]), np.eye(2) > 0),
    *((), (1, "a"), {0: {1: {}}}, 2**40, -(2**63), b"bytes"),
)
WILD_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 12, 15, 180, 10**9, 2**31, 2**32, 2**63, 10**400),
    *(0.5, -0.1, 1e9, 1e300, float("nan"), float("inf"), "", "a", "1", "../a", "0" * 99, "oooo"),
    *([], [[]], [1], [1, 2, 3, 4], [[1, 2, 3, 4]], [0] * 999, {}, {"counts": [180]}),
)


def _damaged_json(data: bytes, rng: random.Random) -> bytes:
    """The JSON, or one of its lines where each is one, with values damaged."""
    lines = data.splitlines()
    place = rng.randrange(len(lines))
    content = _damaged_values(json.loads(lines[place]), rng, WILD_VALUES)
    lines[place] = json.dumps(content).encode()
    return b"\n".join(lines)


def _damaged_values(content: Any, rng: random.Random, wild: tuple) -> Any:
    """content, a dict or a list, with one to three of its values changed, left out or given
    twice.
    """
    for _ in range(rng.randint(1, 3)):
        parent, here = None, content
        while isinstance(here, dict | list) and here and (parent is None or rng.random() < 0.9):
            parent = here
            key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
            here = here[key]
        match rng.randrange(4):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.insert(key, here)
            case 1 | 2 if type(here) in (int, float):
                parent[key] = min(here, 10**9) + rng.choice((-100, -1, 0.25, 1, 3, 100))
            case 1 | 2 if isinstance(here, str):
                place = rng.randrange(len(here) + 1)
                parent[key] = here[:place] + chr(rng.randrange(32, 128)) + here[place + 1 :]
            case _:
                parent[key] = copy.deepcopy(rng.choice(wild))
        if not content:
            break
    return content


def _damaged_member(data: bytes, rng: random.Random) -> bytes:
    """The archive with one member mutated, left out or renamed, its checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        victim = rng.choice(names)
        for name in names:
            content = old.read(name)
            if name == victim:
                if rng.random() < 0.1:
                    continue
                name = name if rng.random() < 0.95 else name + "x"
                content = _mutated(content, rng)
            new.writestr(name, content)
    return buffer.getvalue()


class _TooSlow(BaseException):
    """An input took longer than SECONDS."""


class _TooLarge(BaseException):
    """An input took more megabytes than its reader may."""


def _too_slow(*_: object) -> None:
    raise _TooSlow


def _held(name: str) -> int:
    """Megabytes that Linux says this process holds (VmRSS), or held at most since
    _forget_most (VmHWM); 0 elsewhere.
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/self/status").read_text()
        if found := re.search(rf"{name}:\s+(\d+) kB", text):
            return int(found[1]) >> 10
    return 0


def _forget_most() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def fuzz(
    inputs: int,
    seed: int,
    folder: Path,
    names: Collection[str] | None = None,
    each: int | None = None,
) -> dict[str, tuple[int, int, int]]:
    """Reader -> (inputs, of which read, most megabytes of one). Any error but InputError leaves its
    file in folder and is raised.

    names: the readers to try, None for all; each: inputs of each, instead of a share of `inputs`
    """
    rng = random.Random(seed)
    table = readers()
    total = sum(reader.share for reader in table.values())
    counts = {}
    previous = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for name, reader in table.items():
            if names is not None and name not in names:
                continue
            number = each or max(1, -(-inputs * reader.share // total))
            read = most = 0
            for _ in range(number):
                was_read, megabytes = _try(reader, damaged(reader, rng), folder)
                read, most = read + was_read, max(most, megabytes)
            counts[name] = (number, read, most)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return counts


def _try(reader: Reader, data: bytes, folder: Path) -> tuple[bool, int]:
    """(whether reader reads a file of data, megabytes that it took)."""
    path = folder / f"input{reader.suffix}"
    path.write_bytes(data)
    _forget_most()
    before = _held("VmRSS")
    signal.alarm(SECONDS)
    try:
        # warnings of damaged tags, and notes of how files were read
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            reader.read(path)
        signal.alarm(0)
        is_read = True
    except InputError:
        signal.alarm(0)
        is_read = False
    except BaseException:
        signal.alarm(0)
        (folder / f"failed{reader.suffix}").write_bytes(data)
        raise
    if (taken := _held("VmHWM") - before) > reader.megabytes:
        (folder / f"failed{reader.suffix}").write_bytes(data)
        raise _TooLarge(f"{taken} MB")
    return is_read, taken


def main() -> None:
    """Fuzz, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="damaged files in all (default %(default)s)"
    )
    parser.add_argument(
        "--reader",
        nargs="+",
        choices=readers(),
        metavar="NAME",
        help=f"try these alone: {', '.join(readers())}",
    )
    parser.add_argument("--each", type=int, metavar="N", help="damaged files of each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default %(default)s)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    start = time.monotonic()
    try:
        counts = fuzz(args.inputs, args.seed, folder, args.reader, args.each)
    except BaseException:
        print(f"failed on {folder}/failed.*")
        raise
    for name, (number, read, most) in counts.items():
        refused = number - read
        print(f"{name}: {number} inputs, {read} read, {refused} refused, {most} MB at most")
    print(
        f"{sum(number for number, *_ in counts.values())} inputs, no error but InputError, "
        f"{time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
