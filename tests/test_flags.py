"""Flag types: what they take and what they refuse."""

import argparse

import pytest

import demo
import infer_cam
import make_crf
import train_cpn
import train_irn
import train_seg
from tool.flags import (
    MinMax,
    at_least,
    auto_or_number,
    auto_or_positive,
    bool_flag,
    named_number,
    non_negative_number,
    positive_number,
    seed_number,
    share,
    unit_number,
)


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


@pytest.mark.parametrize("text", ["loss_tcp", "loss_tcp=", "a=b", "a=1=2", "", "a=nan", "a=-inf"])
def test_named_number_refuses_the_rest(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        named_number(text)
    assert str(error.value) == f"{text!r} is not NAME=NUMBER"


@pytest.mark.parametrize(
    ("kind", "taken", "refused", "wanted"),
    [
        (at_least(1), ["1", "448"], ["0", "-1", "1.5", "", "x"], "a whole number from 1 up"),
        (at_least(0), ["0", "7"], ["-1", "0.5"], "a whole number from 0 up"),
        (seed_number, ["0", "4294967295"], ["-1", "4294967296"], "a whole number in 0..4294967295"),
        (positive_number, ["0.5", "1e-3"], ["0", "-1", "nan", "inf", "x"], "a number over 0"),
        (non_negative_number, ["0", "2.5"], ["-0.1", "nan", "inf"], "a number from 0 up"),
        (unit_number, ["0", "1", "0.25"], ["25", "-0.1", "nan"], "a number in 0..1"),
        (share, ["0.5"], ["0", "1", "nan"], "a number between 0 and 1"),
        (auto_or_number, ["0.3", "1"], ["42", "best", "nan"], "a score in 0..1 or auto"),
        (auto_or_positive, ["6", "0.85"], ["0", "best", "inf"], "a number over 0 or auto"),
    ],
)
def test_numbers_in_a_range(kind, taken, refused, wanted):
    assert [kind(text) for text in taken] == [float(text) for text in taken]
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            kind(text)
        assert str(error.value) == f"expected {wanted}, got {text!r}"


def test_auto_is_no_number():
    assert auto_or_number("auto") == auto_or_positive("auto") == "auto"


def test_min_comes_before_max():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--scale", action=MinMax, type=positive_number, nargs=2, default=(0.5, 1.5))
    assert parser.parse_args([]).scale == (0.5, 1.5)
    assert parser.parse_args(["--scale", "1", "1"]).scale == [1, 1]
    with pytest.raises(argparse.ArgumentError, match=r"argument --scale: expected MIN first, got 1\.5 0\.5"):
        parser.parse_args(["--scale", "1.5", "0.5"])


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        *(
            (train_cpn, flags)
            for flags in ("--hide_ratio 1", "--superpixels 1", "--grid_sizes 56 0", "--batch_size 0", "--accum 0")
        ),
        *((train_cpn, flags) for flags in ("--max_epoches 0", "--log_every 0", "--num_workers -1", "--crop_size 0", "--lr nan")),
        (train_cpn, "--resize_long 768 448"),
        (train_cpn, "--seed 4294967296"),
        (train_irn, "--bg_threshold 25"),
        (train_irn, "--scale 1.5 0.5"),
        (train_seg, "--scale 1.5 0.5"),
        (train_seg, "--max_iterations 0"),
        (infer_cam, "--scales 0.5 0"),
        (make_crf, "--crf_threshold 42"),
        (demo, "--sheet_images 0"),
    ],
)
def test_scripts_refuse_numbers_that_make_no_sense(script, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.parse_args(flags.split())
    assert stopped.value.code == 2
    assert f"argument {flags.split()[0]}: expected " in capsys.readouterr().err
