"""Trainings through a trainer's command line: stopped, gone on with, and compared."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from tool.file.checkpoint import load_torch
from tool.run import session
from tool.run.trainer import TrainingRun

Main = Callable[[argparse.Namespace], None]


def log_lines(folder: Path, kind: str | None = None) -> list[dict]:
    """The lines of a session's log, or those of one kind."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if kind in (None, line["kind"])]


def run_stopped(main: Main, args: argparse.Namespace, after: int) -> None:
    """Run a trainer until it stops, as at a signal, after as many iterations of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "TrainingRun", partial(TrainingRun, stop_after=after))
        with pytest.raises(SystemExit) as exit:
            main(args)
    assert exit.value.code == 0


def assert_same_weights(one: Path, two: Path) -> None:
    """The bits of two weight files agree."""
    states = [load_torch(path)["state_dict"] for path in (one, two)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def assert_finished_weights_stay(main: Main, args: argparse.Namespace, weights: Path) -> None:
    """The same command once more, of another version and with other workers, leaves the bytes of a
    finished session's weights; weights of other bytes it writes again.
    """
    before, again = weights.read_bytes(), argparse.Namespace(**vars(args) | {"num_workers": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "git_commit", lambda: "another")
        main(again)
        assert weights.read_bytes() == before
        assert log_lines(weights.parent)[-1]["kind"] == "end"
        whole = load_torch(weights)
        name = next(iter(whole["state_dict"]))
        other = whole["state_dict"] | {name: whole["state_dict"][name] + 1}
        for content in ({**whole, "state_dict": other}, {"state_dict": 3}, {}):
            torch.save(content, weights)
            main(again)
            assert load_torch(weights)["training"]["commit"] == "another"
        weights.write_bytes(before[:1000])
        main(again)
    assert all(
        torch.equal(value, whole["state_dict"][name])
        for name, value in load_torch(weights)["state_dict"].items()
    )


def assert_half_precision_is_near(one: Path, two: Path) -> None:
    """The first loss of session two, in half precision, is that of one to two digits."""
    losses = [log_lines(folder, "train")[0]["loss"] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
