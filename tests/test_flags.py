"""Flag types: what they take and what they refuse."""

import argparse

import pytest

from tool.flags import bool_flag, named_number


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("1", True), ("0", False), ("YES", True)])
@pytest.mark.parametrize("blank", ["", " "])
def test_bool_flag_reads_the_word(text, value, blank):
    assert bool_flag(blank + text + blank) is value


@pytest.mark.parametrize(("text", "value"), [("no", False), ("on", True), ("off", False)])
def test_bool_flag_reads_other_words(text, value):
    assert bool_flag(text) is value


@pytest.mark.parametrize("text", ["", "2", "maybe", "truefalse"])
def test_bool_flag_refuses_the_rest(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        bool_flag(text)
    assert str(error.value) == f"expected true or false, got {text!r}"


def test_bare_bool_flag_means_true_and_an_absent_one_its_default():
    parser = argparse.ArgumentParser()
    parser.add_argument("--curve", type=bool_flag, nargs="?", const=True, default=False)
    given = {(): False, ("--curve",): True, ("--curve", "False"): False, ("--curve", "true"): True}
    assert {words: parser.parse_args(words).curve for words in given} == given


def test_named_number_reads_name_and_number():
    assert named_number("loss_tcp=0.5") == ("loss_tcp", 0.5)
    assert named_number("a=1e-3") == ("a", 0.001)


@pytest.mark.parametrize("text", ["loss_tcp", "loss_tcp=", "a=b", "a=1=2", ""])
def test_named_number_refuses_the_rest(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        named_number(text)
    assert str(error.value) == f"{text!r} is not NAME=NUMBER"
