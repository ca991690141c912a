"""A small run of tests/fuzz_readers.py, and that its damage reaches both ends."""

import random

from tests.fuzz_readers import damaged, fuzz, readers


def test_damaged_files_are_read_or_refused(tmp_path):
    counts = fuzz(1500, seed=1, folder=tmp_path)
    assert counts.keys() == readers().keys()
    assert sum(number for number, _ in counts.values()) >= 1500
    assert all(read < number for name, (number, read) in counts.items() if name != "superpixels")  # those are made again
    assert sum(read for _, read in counts.values()) > 0
    assert not list(tmp_path.glob("failed*"))


def test_undamaged_files_are_read(tmp_path):
    for reader in readers().values():
        for seed in reader.seeds:
            path = tmp_path / f"seed{reader.suffix}"
            path.write_bytes(seed)
            reader.read(path)


def test_damage_repeats_with_its_seed():
    seeds = readers()["CAM file"].seeds
    one, two = ([damaged(seeds, random.Random(s)) for s in range(20)] for _ in range(2))
    assert one == two
    assert len(set(one)) == 20
