"""The plan of a road: settings, names that follow from what came before, what is done again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import make_crf
from experiments.own_road import Plan, Progress, choose_settings
from experiments.presets import PRESETS
from experiments.road import Road
from experiments.tables import consensus_lines
from flags import cam_inference, consensus, cpn_training, seg_inference, seg_training
from tool.errors import InputError

CAM_SETTINGS = ("optimizer", "lr", "new_layer_factor", "wt_dec", "warmup", "clip_norm", "method")
SEG_SETTINGS = ("arch", "backbone", "output_stride", "head_channels", "lr", "scale", "crop_size")


def plan(state="a", seed=0, out=Path("out"), workers=1, **given):
    settings = choose_settings(100, 0, given)
    return Plan(settings, Path("photos"), out, 110, 100, 10, 7, workers, "cpu", seed, state)


def test_settings_follow_from_the_photographs_and_the_machine():
    few, some, many = (choose_settings(count, 0, {}) for count in (6, 112, 100_000))
    assert (few.batch_size, some.batch_size) == (6, 8)
    one = choose_settings(100, 0, {"batch_size": 1})
    assert (one.batch_size, one.seg_batch_size) == (1, 2)
    assert few.iterations <= some.iterations < many.iterations
    assert few.seg_iterations < some.seg_iterations < many.seg_iterations
    gpu = choose_settings(100_000, 4, {})
    assert gpu.crop_size > some.crop_size
    assert gpu.nproc == 4
    given = choose_settings(112, 0, {"iterations": 5, "backbone": "resnet50", "crop_size": None})
    assert (given.iterations, given.backbone, given.crop_size) == (5, "resnet50", 160)


def test_a_plain_cam_is_refined_and_cpn_as_it_was_trained():
    plain, own = (plan(method=method).parts[:2] for method in ("cam", "cpn"))
    assert "--grid_sizes" not in plain[0].words
    assert plain[1].words[-8:-4] == ("--cam", "refined", "--refinement", "pcm")
    assert "--grid_sizes" in own[0].words
    assert "--refinement" not in own[1].words


def test_real_masks_change_nothing_but_the_scores():
    settings = choose_settings(100, 0, {})
    one, other, none = (
        Plan(settings, Path("p"), Path("out"), 110, 100, 10, count, 1, "cpu", 0, "a", state)
        for count, state in ((7, "b"), (7, "c"), (0, ""))
    )
    assert one.parts[-1].words[0] == "evaluation_cam.py"
    assert one.parts[:-1] == other.parts[:-1] == none.parts
    assert one.parts[-1].state != other.parts[-1].state
    assert one.state != other.state


def test_a_preset_that_means_other_settings_makes_another_classifier(monkeypatch):
    before = plan()
    assert plan(out=Path("elsewhere"), workers=3).state == before.state
    monkeypatch.setitem(cpn_training.PRESETS["small"], "lr", 5e-4)
    assert plan().parts[0].state != before.parts[0].state
    assert plan().classifier != before.classifier


def test_the_table_of_consensus_has_the_settings_of_the_road():
    # reversed, as infer_cam.py comes a second time, for its scores
    parts = {part.words[0]: part.words[1:] for part in reversed(plan().parts)}
    preset = replace(PRESETS["photos"], voc12_root="photos")
    lines = consensus_lines(Road(preset, Path("results"), 0, "cpu"), None)
    (model,) = (
        line for line in lines if line.name.startswith("CAM") and line.stage == "segmentation + CRF"
    )
    steps = {step.script: step.flags for step in model.evaluate(0).chain()}
    for script, parse, names in (
        ("train_cpn.py", cpn_training.parse_args, CAM_SETTINGS),
        ("infer_cam.py", cam_inference.parse_args, ("cam", "refinement", "scales")),
        ("consensus_cam.py", consensus.parse_args, ("scale", "seed")),
        ("make_crf.py", make_crf.parse_args, ("crf", "crf_on", "crf_threshold", "crf_set")),
        ("train_seg.py", seg_training.parse_args, SEG_SETTINGS),
        ("infer_seg.py", seg_inference.parse_args, ("scales", "flip", "crf", "crf_set")),
    ):
        road, table = (vars(parse(list(words[script]))) for words in (parts, steps))
        assert {name: road[name] for name in names} == {name: table[name] for name in names}


def test_the_model_starts_from_the_classifier():
    for its in (plan(), plan(rounds=1)):
        trainings = [part.words for part in its.parts if part.words[0] == "train_seg.py"]
        assert len(trainings) == its.settings.rounds + 1
        starts = [words[words.index("--weights") + 1] for words in trainings]
        assert starts == [str(its.classifier)] * len(trainings)


def states(plan):
    return [part.state for part in plan.parts]


def test_what_changes_is_done_again_and_what_is_after_it():
    one = plan()
    assert states(one) == states(plan()) == states(plan(out=Path("elsewhere")))
    assert states(one) == states(plan(workers=3))
    assert plan(workers=3).parts[0].words != one.parts[0].words
    assert not set(states(one)) & set(states(plan(state="b")))
    assert not set(states(one)) & set(states(plan(seed=1)))
    later = plan(seg_iterations=7)
    same = sum(a == b for a, b in zip(states(one), states(later), strict=True))
    assert 0 < same < len(one.parts)
    assert states(one)[:same] == states(later)[:same]
    assert one.classifier == later.classifier
    # a session goes on with its own settings alone
    assert one.model != later.model
    assert one.classifier != plan(iterations=7).classifier


def test_a_finished_part_is_not_run_again_and_a_failed_one_is_named(tmp_path, capsys):
    ran = []

    def execute(words):
        ran.append(words)
        return int(words[0] == "make_crf.py" and len(ran) < 7)

    one = plan(out=tmp_path)
    progress = Progress(tmp_path / "done", 1, execute)
    progress.run(one, until=one.classifier_parts)
    assert [words[0] for words in ran] == ["train_cpn.py"]
    with pytest.raises(InputError, match=r"make_crf.py .* ended with 1; .* goes on from there"):
        progress.run(one)
    failed = len(ran)
    progress.run(one)
    assert next(words[0] for words in ran[failed:]) == "make_crf.py"
    assert len(ran) == len(one.parts) + 1
    Progress(tmp_path / "done", 1, execute).run(one)
    assert len(ran) == len(one.parts) + 1
    said = capsys.readouterr().out
    assert f"[{len(one.parts)}/{len(one.parts)}]" in said
    assert "min left" in said


def test_trainings_run_in_several_processes(tmp_path):
    ran = []
    Progress(tmp_path, 2, lambda words: ran.append(words) or 0).run(plan(out=tmp_path))
    trainings = [words for words in ran if "torch.distributed.run" in words]
    assert len(trainings) == 2
    assert all(Path(words[5]).is_file() for words in trainings)
    assert np.all([words[words.index("--nproc_per_node") + 1] == "2" for words in trainings])
