"""The plan of a road: settings, names that follow from what came before, what is done again."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import make_crf
from experiments.own_road import (
    Plan,
    Progress,
    choose_settings,
    data_state,
    paths_state,
    require_room,
)
from experiments.presets import PRESETS
from experiments.road import Road
from experiments.tables import consensus_lines
from flags import cam_inference, consensus, cpn_training, seg_inference, seg_training
from tool.errors import InputError
from tool.file.photographs import find_photographs
from voc12.own_photographs import Own, photograph_ids

CAM_SETTINGS = ("optimizer", "lr", "new_layer_factor", "wt_dec", "warmup", "clip_norm", "method")
SEG_SETTINGS = ("arch", "backbone", "output_stride", "head_channels", "lr", "scale", "crop_size")


def plan(state="a", seed=0, out=Path("out"), workers=1, paths_state="", **given):
    settings, images = choose_settings(100, 0, given), Path("photos")
    return Plan(settings, images, out, 110, 100, 10, 7, workers, "cpu", seed, state, paths_state)


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


@pytest.mark.parametrize(
    ("labelled", "gpus", "given", "nproc"),
    [
        (100, 3, {}, 2),
        (100, 5, {}, 4),
        (100, 6, {}, 4),
        (100, 7, {}, 4),
        (100, 8, {}, 8),
        (100, 16, {}, 8),  # DeepLab's batch norm needs two images
        (10, 4, {}, 2),
        (12, 8, {}, 6),
        (1, 8, {}, 1),
        (100, 3, {"batch_size": 6, "seg_batch_size": 12}, 3),
        (100, 3, {"nproc": 5}, 5),
    ],
)
def test_as_many_gpus_train_as_share_the_batches(labelled, gpus, given, nproc):
    settings = choose_settings(labelled, gpus, given)
    assert settings.nproc == nproc


def test_a_plain_cam_is_refined_and_cpn_as_it_was_trained():
    plain, own = (plan(method=method).parts[:2] for method in ("cam", "cpn"))
    assert "--grid_sizes" not in plain[0].words
    assert plain[1].words[-8:-4] == ("--cam", "refined", "--refinement", "pcm")
    assert "--grid_sizes" in own[0].words
    assert "--refinement" not in own[1].words


def test_real_masks_change_nothing_but_the_scores():
    settings = choose_settings(100, 0, {})
    one, other, none = (
        Plan(settings, Path("p"), Path("out"), 110, 100, 10, count, 1, "cpu", 0, "a", "", state)
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


def leaving(ran, *plans, nproc=1):
    """Runs commands of these plans: each writes what it says that it leaves."""
    parts = {tuple(part.command(nproc)): part for its in plans for part in its.parts}

    def execute(words):
        ran.append(words)
        for leaf in parts[tuple(words)].leaves:
            file = leaf if leaf.suffix else leaf / "a b.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(shlex.join(words))
        return 0

    return execute


def scripts(ran):
    return [words[1 if words[0] == "-m" else 0] for words in ran]


def test_a_road_that_others_went_since_puts_back_what_they_wrote_over(tmp_path):
    """A, B and A again in one folder: nothing is learnt twice, and what all write into is A's."""
    one, other = (plan(state, out=tmp_path) for state in "ab")
    ran = []
    progress = Progress(tmp_path / "done", 1, leaving(ran, one, other))
    progress.run(one)
    count = len(ran)
    progress.run(other)
    assert len(ran) == 2 * count
    progress.run(one)
    shared = ["voc12.own_masks", "export_seg.py", "export_masks.py", "report.py"]
    shared += ["evaluation_cam.py"]
    assert scripts(ran[2 * count :]) == shared
    assert str(one.model) in (tmp_path / "model.onnx").read_text()
    progress.run(one)
    assert len(ran) == 2 * count + len(shared)


def test_what_a_stopped_part_has_begun_to_write_over_is_not_done(tmp_path):
    one, other = (plan(state, out=tmp_path) for state in "ab")
    ran = []
    leave = leaving(ran, one, other)
    Progress(tmp_path / "done", 1, leave).run(one)
    stopped = Progress(
        tmp_path / "done", 1, lambda words: leave(words) or int("voc12.own_masks" in words)
    )
    with pytest.raises(InputError, match="own_masks"):
        stopped.run(other)
    count = len(ran)
    Progress(tmp_path / "done", 1, leave).run(one)
    assert scripts(ran[count:]) == ["voc12.own_masks"]


@pytest.mark.parametrize(
    ("gone", "script"),
    [("masks/a b.png", "voc12.own_masks"), ("report.html", "report.py")],
)
def test_what_is_gone_is_made_again_and_nothing_else(tmp_path, gone, script):
    ran, one = [], plan(out=tmp_path)
    progress = Progress(tmp_path / "done", 1, leaving(ran, one))
    progress.run(one)
    count = len(ran)
    (tmp_path / gone).unlink()
    progress.run(one)
    assert scripts(ran[count:]) == [script]


def test_a_part_that_leaves_nothing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train_cpn.* ended well, but left no .*\.pth"):
        Progress(tmp_path / "done", 1, lambda words: 0).run(plan(out=tmp_path))


def test_weights_that_an_earlier_version_has_marked_are_not_trained_again(tmp_path):
    ran, one = [], plan(out=tmp_path)
    for number, part in enumerate(one.parts, start=1):
        (tmp_path / "done").mkdir(exist_ok=True)
        (tmp_path / "done" / f"{number:02d}_{part.state}.json").write_text("{}")
    one.classifier.parent.mkdir(parents=True)
    one.classifier.touch()
    Progress(tmp_path / "done", 1, leaving(ran, one)).run(one)
    assert len(ran) == len(one.parts) - 1
    assert "train_cpn.py" not in scripts(ran)


def test_a_photograph_that_is_called_otherwise_has_its_mask_put_elsewhere():
    one, other = (plan(paths_state=state) for state in "ab")
    same = sum(a == b for a, b in zip(states(one), states(other), strict=True))
    assert one.parts[same].words[1] == "voc12.own_masks"
    assert not set(states(one)[same:]) & set(states(other))


def own(folder, names, content):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content[name])
        os.utime(folder / name, ns=(0, 0))
    photographs = find_photographs([str(folder)], "x")
    count = len(photographs)
    labels, said = np.eye(count, 1), np.ones(count)
    return Own(photograph_ids(photographs), photographs, ("cat",), labels, said, np.arange(count))


def test_photographs_that_change_places_or_names_are_seen(tmp_path):
    """Of one size and time, as those of an archive may be."""
    content = {"a.bmp": b"one", "b.bmp": b"two"}
    one = own(tmp_path, content, content)
    swapped = own(tmp_path / "x", content, {"a.bmp": b"two", "b.bmp": b"one"})
    before = data_state(swapped, 512)
    assert data_state(one, 512) != before
    (tmp_path / "x/a.bmp").rename(tmp_path / "x/a!.bmp")
    (tmp_path / "x/b.bmp").rename(tmp_path / "x/b!.bmp")
    renamed = own(tmp_path / "x", [], {})
    assert renamed.ids == swapped.ids
    assert data_state(renamed, 512) == before
    assert paths_state(renamed) != paths_state(swapped)


def test_scores_of_other_masks_do_not_stay(tmp_path, capsys):
    settings = choose_settings(100, 0, {})

    def road(state, count):
        return Plan(settings, Path("p"), tmp_path, 9, 9, 1, count, 1, "cpu", 0, state)

    scored, same, other = road("a", 7), road("a", 0), road("b", 0)
    progress = Progress(tmp_path / "done", 1, leaving([], scored, same, other))
    progress.run(scored)
    progress.drop_old_scores(scored)
    progress.drop_old_scores(same)
    assert (tmp_path / "evaluation.json").is_file()
    progress.drop_old_scores(other)
    assert not (tmp_path / "evaluation.json").exists()
    assert "evaluation.json scored other masks and is removed" in capsys.readouterr().out


def test_a_folder_in_the_place_of_a_file_is_named_before_all(tmp_path):
    its = plan(out=tmp_path)
    require_room(its, ["model.pth"])
    (tmp_path / "model.pth").mkdir()
    with pytest.raises(InputError, match=r"model\.pth is a folder, where a file"):
        require_room(its, ["model.pth"])
    (tmp_path / "masks").touch()
    with pytest.raises(InputError, match="masks is a file, where a folder"):
        require_room(its, [])


def test_a_finished_part_is_not_run_again_and_a_failed_one_is_named(tmp_path, capsys):
    ran = []
    one = plan(out=tmp_path)
    leave = leaving(ran, one)

    def execute(words):
        return leave(words) or int(words[0] == "make_crf.py" and len(ran) < 7)

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
    ran, its = [], plan(out=tmp_path)
    Progress(tmp_path, 2, leaving(ran, its, nproc=2)).run(its)
    trainings = [words for words in ran if "torch.distributed.run" in words]
    assert len(trainings) == 2
    assert all(Path(words[5]).is_file() for words in trainings)
    assert np.all([words[words.index("--nproc_per_node") + 1] == "2" for words in trainings])
