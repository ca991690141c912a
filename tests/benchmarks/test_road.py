"""The commands that benchmarks.road and benchmarks.beside run, and what they count."""

import argparse
import importlib
import shlex
from pathlib import Path

import pytest

from benchmarks import beside, road

FLAGS = {
    "train_cpn.py": "flags.cpn_training",
    "infer_cam.py": "flags.cam_inference",
    "evaluation_cam.py": "evaluation_cam",
    "make_crf.py": "make_crf",
    "train_irn.py": "flags.irn_training",
    "infer_irn.py": "flags.irn_inference",
    "train_aff.py": "flags.aff_training",
    "infer_aff.py": "flags.aff_inference",
    "train_seg.py": "flags.seg_training",
    "infer_seg.py": "flags.seg_inference",
    "make_masks.py": "make_masks",
}


def parse(script: str, words: list[str]) -> argparse.Namespace:
    return importlib.import_module(FLAGS[script]).parse_args(words)


def test_every_stage_of_the_road_reads_what_one_before_wrote():
    args = argparse.Namespace(num_workers=0, iterations=20)
    written: set[str] = {"/w/ids.txt"}
    for script, (words, folder) in road.stages(args, Path("/data"), Path("/w"), 40).items():
        given = parse(script, shlex.split(words))
        for flag in ("cam_dir", "predict_dir", "mask_dir"):
            if getattr(given, flag, None) is not None:  # infer_seg.py may do without --cam_dir
                assert getattr(given, flag) in written, (script, flag)
        written |= {str(folder), getattr(given, "out_mask", "") or ""}


def test_commands_beside_each_other_keep_apart(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(beside, "run", lambda commands, way: ran.extend(commands))
    commands = beside.prepare(Path("/data"), tmp_path, ["a", "b"], 2)
    for script, *words in [*ran, *commands.values()]:
        parse(script, [word.format(out="/out") for word in words])
    writers = [words for words in commands.values() if "evaluation_cam.py" not in words]
    assert all(any("{out}" in word for word in words) for words in writers)


def test_throughput_is_that_of_two_against_one_after_the_other():
    seconds = {("spin", 1): 2.0, ("spin", 2): float("inf"), ("sleep", 1): 2.0, ("sleep", 2): 5.0}
    assert beside.row("CRF", seconds) == ["CRF", "2.0", "over 6", "under 67%", "2.0", "5.0", "80%"]


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="no /proc/stat")
def test_ticks_of_cores_grow():
    before = road.core_ticks()
    after = road.core_ticks()
    assert len(before) == len(after) >= 1
    assert all(new[1] >= old[1] >= old[0] >= 0 for old, new in zip(before, after, strict=True))
