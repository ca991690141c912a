"""A small run of tests/fuzz_readers.py, and that its damage reaches both ends."""

import mmap
import random

import pytest

from tests import fuzz_readers
from tests.fuzz_readers import _TooLarge, damaged, fuzz
from tests.fuzzed_readers import Reader, readers
from tool.errors import InputError

ALL_READ = ("superpixels", "log of a training")  # made again; lines that are none are left out


def test_damaged_files_are_read_or_refused(tmp_path):
    counts = fuzz(1500, seed=1, folder=tmp_path)
    assert counts.keys() == readers().keys()
    assert sum(number for number, *_ in counts.values()) >= 1500
    # those are made again
    assert all(read < number for name, (number, read, _) in counts.items() if name not in ALL_READ)
    assert sum(read for _, read, _ in counts.values()) > 0
    assert not list(tmp_path.glob("failed*"))


def test_undamaged_files_are_read(tmp_path):
    for name, reader in readers().items():
        for seed in reader.seeds if name != "trained weights" else ():  # these lack their tensors
            path = tmp_path / f"seed{reader.suffix}"
            path.write_bytes(seed)
            try:
                reader.read(path)
            except InputError as error:  # two networks in one file: asked which
                assert "--weights_key" in str(error)  # noqa: PT017


def test_damage_repeats_with_its_seed():
    reader = readers()["CAM file"]
    one, two = ([damaged(reader, random.Random(s)) for s in range(20)] for _ in range(2))
    assert one == two
    assert len(set(one)) > 15


def test_readers_and_numbers_are_chosen(tmp_path):
    counts = fuzz(0, 0, tmp_path, ["class list", "image list"], each=7)
    assert {name: number for name, (number, *_) in counts.items()} == dict.fromkeys(counts, 7)
    assert counts.keys() == {"class list", "image list"}


@pytest.mark.skipif(not fuzz_readers._held("VmHWM"), reason="Linux alone says what is held")
def test_a_reader_that_takes_much_memory_is_found(tmp_path):
    def read(path):
        with mmap.mmap(-1, 40 << 20) as pages:  # an array may lie in memory that was free
            pages.write(bytes(40 << 20))

    fuzz_readers._try(Reader(read, ".x", (b"x",), 1), b"x", tmp_path)
    with pytest.raises(_TooLarge):
        fuzz_readers._try(Reader(read, ".x", (b"x",), 1, megabytes=20), b"x", tmp_path)
    assert (tmp_path / "failed.x").read_bytes() == b"x"
