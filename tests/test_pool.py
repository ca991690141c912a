"""Work in processes gives the same results in the same order, and the first error."""

from functools import partial

import pytest

from tool.errors import InputError
from tool.pool import pool_map


def _power(number: int, exponent: int) -> int:
    if number == 7:
        raise InputError("seven is not allowed")
    return number**exponent


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_keep_the_order_of_items(num_workers):
    assert pool_map(partial(_power, exponent=3), range(6), num_workers, "cubes") == [0, 1, 8, 27, 64, 125]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_reaches_the_caller(num_workers):
    with pytest.raises(InputError, match=r"^seven is not allowed$"):
        pool_map(partial(_power, exponent=2), range(9), num_workers, "squares")


def test_nothing_to_do():
    assert pool_map(_power, [], 4, "nothing") == []
