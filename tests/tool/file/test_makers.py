"""Which networks made the files of a folder."""

import pytest

from tool.errors import InputError
from tool.file.makers import Makers, weights_by_place


def test_weights_of_a_file_its_consensus_and_its_seeds():
    plain = {"stage": "cam", "weights": "a", "refiner_weights": "r"}
    agreed = {"consensus": {"weights": "b"}, "cam": plain}
    assert weights_by_place(plain) == {"": "a", "refiner": "r"}
    assert weights_by_place({"weights": "i", "cam": agreed}) == {
        "": "i",
        "seeds' consensus": "b",
        "seeds' seeds": "a",
        "seeds' seeds' refiner": "r",
    }
    # of one file
    assert weights_by_place({"weights": "a", "weights_key": "ema"}) == {"": "a (ema)"}
    for nothing in ({}, {"format": "irn"}, {"weights": 3, "consensus": "x", "cam": [1]}):
        assert weights_by_place(nothing) == {}


def test_files_of_two_networks_are_counted_and_both_are_named():
    one = [("a.npz", {"weights": "1"}), ("b.npz", {}), ("c.npz", {"weights": "1"})]
    Makers.of(one).require_one("cam")
    assert Makers.of(one).mixed() is None
    makers = Makers.of(one) + Makers.of([("d.npz", {"weights": "2"}), ("e.npz", {"weights": "1"})])
    with pytest.raises(InputError) as error:
        makers.require_one("cam")
    assert str(error.value) == (
        "cam mixes files of 2 networks: 3 by weights 1, first a.npz, 1 by weights 2, first d.npz; "
        "make all of them with one, or keep each network's in a folder of its own"
    )


def test_seeds_of_two_networks_are_named():
    files = [(name, {"stage": "seed_crf", "cam": {"weights": name}}) for name in "abcd"]
    assert Makers.of(files).mixed() == (
        "files of 4 networks: 1 by weights of their seeds a, first a, 1 by weights of their seeds "
        "b, first b, 1 by weights of their seeds c, first c"
    )
    # some masks are joined with a seed, others are not
    joined = [("a", {"weights": "1", "cam": {"weights": "2"}}), ("b", {"weights": "1"})]
    assert Makers.of(joined).mixed() is None
