"""Flag types: what they take and what they refuse."""

import argparse
import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

import demo
import infer_cam
import make_crf
import train_aff
import train_cpn
import train_irn
import train_seg
from tool.run.flags import (
    MinMax,
    Number,
    at_least,
    auto_or_number,
    auto_or_positive,
    bool_flag,
    file_name,
    named_number,
    non_negative_number,
    positive_number,
    scale_number,
    seed_number,
    share,
    unit_number,
)

OVER_0 = "a number over 0 and up to 1000000"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("1", True), ("0", False), ("YES", True)]
)
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
        (
            at_least(1),
            ["1", "448", "1000000000"],
            ["0", "-1", "1.5", "", "x", "1_000", "４４８", "1000000001", "9" * 5000],
            "a whole number in 1..1000000000",
        ),
        (at_least(0, 7), ["0", "7"], ["-1", "0.5", "8"], "a whole number in 0..7"),
        (seed_number, ["0", "4294967295"], ["-1", "4294967296"], "a whole number in 0..4294967295"),
        (positive_number, ["0.5", "1e-3"], ["0", "-1", "nan", "inf", "x", "1_0", "1e7"], OVER_0),
        (
            non_negative_number,
            ["0", "2.5"],
            ["-0.1", "nan", "inf", "٣"],
            "a number in 0..1000000",
        ),
        (scale_number, ["0.5", "16"], ["0", "17", "1e9"], "a number in 0.01..16"),
        (unit_number, ["0", "1", "0.25"], ["25", "-0.1", "nan"], "a number in 0..1"),
        (share, ["0.5"], ["0", "1", "nan"], "a number over 0 and under 1"),
        (auto_or_number, ["0.3", "1"], ["42", "best", "nan"], "a number in 0..1 or auto"),
        (auto_or_positive, ["6", "0.85"], ["0", "best", "inf"], f"{OVER_0} or auto"),
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
    with pytest.raises(
        argparse.ArgumentError, match=r"argument --scale: expected MIN first, got 1\.5 0\.5"
    ):
        parser.parse_args(["--scale", "1.5", "0.5"])


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        *(
            (train_cpn, flags)
            for flags in (
                "--hide_ratio 1",
                "--superpixels 1",
                "--grid_sizes 56 0",
                "--batch_size 0",
                "--accum 0",
            )
        ),
        *(
            (train_cpn, flags)
            for flags in (
                "--max_epoches 0",
                "--log_every 0",
                "--num_workers -1",
                "--crop_size 0",
                "--lr nan",
            )
        ),
        (train_cpn, "--resize_long 768 448"),
        (train_cpn, "--seed 4294967296"),
        (train_irn, "--bg_threshold 25"),
        (train_irn, "--scale 1.5 0.5"),
        (train_seg, "--scale 1.5 0.5"),
        (train_seg, "--max_iterations 0"),
        (infer_cam, "--scales 0.5 0"),
        (make_crf, "--crf_threshold 42"),
        (demo, "--val_images 0"),
    ],
)
def test_scripts_refuse_numbers_that_make_no_sense(script, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.parse_args(flags.split())
    assert stopped.value.code == 2
    assert f"argument {flags.split()[0]}: expected " in capsys.readouterr().err


@pytest.mark.parametrize("script", [train_cpn, train_irn, train_aff, train_seg])
@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/tmp/x", "a\nb", "a\udcff", "a" * 256])
def test_a_session_name_is_a_name_in_every_trainer(script, name, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.parse_args(["--session_name", name])
    assert stopped.value.code == 2
    assert "argument --session_name: expected a name, got " in capsys.readouterr().err
    assert script.parse_args(["--session_name", "cpn 2"]).session_name == "cpn 2"


# ============ every numeric flag of every script ============
ROOT = Path(__file__).parents[3]
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
MODULES = (
    "voc12.coco",
    "voc12.prepare",
    "voc12.own_photographs",
    "voc12.own_masks",
    "voc12.class_scores",
    "voc12.sample.__main__",
    "experiments.own_sets",
    "experiments.cut_lists",
)
NO_NUMBER = {bool_flag, file_name, named_number, Path, str, None}
BY_THEMSELVES = {"reproduce --rows", "train_cpn --network"}  # read by a function of the script


def _actions(name: str, monkeypatch) -> list[argparse.Action]:
    """The flags of a script, as its parser has them when it is about to read."""
    parsers = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        parsers.append(parser)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(SystemExit):
            importlib.import_module(name).parse_args([])
    return parsers[0]._actions


def _around(bound: float, outside: float, number: Number, excluded: bool) -> tuple[str, str]:
    """(the last number that is taken towards a bound, the first one beyond)."""
    if number.kind is int:
        return str(bound), str(bound + (1 if outside > bound else -1))
    if excluded:
        return repr(math.nextafter(bound, -outside)), repr(float(bound))
    return repr(float(bound)), repr(math.nextafter(bound, outside))


@pytest.mark.parametrize("name", [*SCRIPTS, *MODULES])
def test_every_numeric_flag_has_bounds_and_refuses_what_is_beyond(name, monkeypatch):
    for action in _actions(name, monkeypatch):
        if not isinstance(action.type, Number):
            flag = f"{name} {(action.option_strings or [action.dest])[0]}"
            assert action.type in NO_NUMBER or flag in BY_THEMSELVES, flag
            continue
        number = action.type
        assert -math.inf < number.low < number.high < math.inf
        for bound, outside, excluded in (
            (number.low, -math.inf, number.over),
            (number.high, math.inf, number.under),
        ):
            taken, beyond = _around(bound, outside, number, excluded)
            assert number(taken) == number.kind(taken)
            for text in (beyond, "1_0", "１", "nan", "1e400", "9" * 5000):
                with pytest.raises(argparse.ArgumentTypeError, match=r"^expected a "):
                    number(text)


def test_more_workers_than_cores_are_said_once():
    code = """
import argparse
from torch.utils.data import DataLoader
from tool.run.machine_flags import add_workers_flag
add_workers_flag(argparse.ArgumentParser())
for _ in range(3):
    DataLoader([1], num_workers=1000)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.count("This DataLoader will create 1000 worker processes") == 1
