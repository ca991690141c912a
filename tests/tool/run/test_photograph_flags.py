"""The long side that photographs given by hand are computed at."""

import argparse

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.run.photograph_flags import (
    chosen_long_side,
    require_photograph_flags,
    trained_long_side,
)
from tool.transforms import reduced_size


def _args(**flags):
    return argparse.Namespace(image=["a.jpg"], long_side="auto", confidence=False, **flags)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"settings": {"resize_long": [448, 768]}}, 608),
        ({"long_side": 500, "settings": {}}, 500),
        ({}, None),
        ({"settings": {"resize_long": ["a"]}, "long_side": "b"}, None),
    ],
)
def test_weights_say_how_large_they_trained(training, expected):
    assert trained_long_side(training) == expected


def test_larger_photographs_are_reduced_and_counted(tmp_path, capsys):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, side in zip(paths, (700, 600), strict=True):
        Image.fromarray(np.zeros((10, side, 3), np.uint8)).save(path)
    training = {"settings": {"resize_long": [448, 768]}}
    assert chosen_long_side(_args(), training, paths) == 608
    assert capsys.readouterr().out == (
        "1 of 2 photographs are reduced to a long side of 608 pixels (as in training), to which "
        "--scales refer; what is written is of their own size; --long_side full computes at full "
        "size\n"
    )
    full = argparse.Namespace(long_side="full")
    assert chosen_long_side(full, training, paths) is None


def test_reduced_size_keeps_the_shape_and_never_enlarges():
    assert reduced_size((3000, 4000), 500) == (375, 500)
    assert reduced_size((60, 80), 500) == (60, 80)
    assert reduced_size((3000, 4000), None) == (3000, 4000)
    assert reduced_size((1, 4000), 100) == (1, 100)


def test_flags_of_photographs_need_photographs():
    args = argparse.Namespace(image=None, long_side=300, confidence=False)
    with pytest.raises(InputError) as error:
        require_photograph_flags(args)
    assert str(error.value) == (
        "--long_side is for photographs given by --image; a list's stay as is"
    )
