"""The log of a run: lines that JSON reads, TensorBoard events that its reader finds."""

import json
import re

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tool.run.run_log import RunLog, provenance


def _lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_provenance_has_commit_command_and_versions():
    value = provenance()
    assert set(value) == {"commit", "command", "versions", "machine"}
    assert value["versions"]["torch"] == torch.__version__
    assert set(value["versions"]) == {"python", "torch", "torchvision", "timm", "numpy"}
    json.dumps(value)


def test_the_machine_is_what_computes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU {device}")
    assert provenance()["machine"] == "GPU None"
    assert provenance(torch.device("cuda:1"))["machine"] == "GPU cuda:1"
    assert not provenance(torch.device("cpu"))["machine"].startswith("GPU")


def test_lines_are_appended_across_sessions(tmp_path):
    for step in (1, 2):
        log = RunLog(tmp_path / "run")
        log.line("train", step=step, path=tmp_path)
        log.close()
    lines = _lines(tmp_path / "run")
    assert [(line["kind"], line["step"], line["path"]) for line in lines] == [
        ("train", step, str(tmp_path)) for step in (1, 2)
    ]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"]) for line in lines
    )


def test_a_line_is_on_disk_before_the_run_ends(tmp_path):
    log = RunLog(tmp_path)
    log.line("start", seed=0)
    assert _lines(tmp_path)[0]["seed"] == 0
    log.close()


def test_scalars_and_panels_reach_tensorboard(tmp_path):
    log = RunLog(tmp_path)
    log.scalars({"train/loss": 0.5, "train/lr": 0.01}, step=3)
    log.panel("cam/0", np.zeros((4, 6, 3), np.uint8), step=3)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.5)]
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/lr"}
    assert (events.Images("cam/0")[0].width, events.Images("cam/0")[0].height) == (6, 4)
