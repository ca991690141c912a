"""Many trainings: which have failed, and what the verdict said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import training_seeds
from experiments.presets import PRESETS
from experiments.road import Road
from experiments.training_seeds import failed_runs, main, parse_args, summary
from flags import cpn_training
from tool.choices import METHODS


def row(method, seed, best, loss=0.1, silent=0.0):
    maps = {"best": best, "best_threshold": 0.5, "auto": best, "auto_threshold": 0.5}
    verdict = {"images": 64, "loss": loss, "prior": 0.4, "silent": silent, "astray": 0.0}
    verdict["failures"] = ["of limits that were others"] if seed == 0 else []
    return {"method": method, "seed": seed, "maps": maps, "verdict": verdict}


ROWS = [
    row("cam", 0, 50.0),
    row("cam", 1, 46.9, silent=0.3),
    row("cam", 2, 51.0, loss=0.3),
    row("cpn", 0, 60.0),
    row("cpn", 1, 57.1),
    row("cpn", 2, 40.0),
]


def test_a_run_has_failed_three_points_under_its_own_methods_median():
    assert failed_runs(ROWS, 3, ROWS) == [False, True, False, False, False, True]
    assert failed_runs(ROWS, 3.2, ROWS) == [False, False, False, False, False, True]


def test_or_under_the_median_of_other_runs():
    others = [row("cam", 0, 60.1), row("cam", 1, 90.0), row("cam", 2, 60.0), row("cpn", 0, 51.0)]
    assert failed_runs(ROWS, 10, others) == [True, True, False, False, False, True]
    lines = summary(ROWS, 10, others)
    assert "over 10 under that median" in lines[0]
    assert lines[2].startswith("| cam | 3 | 50.0 | 46.9 | 51.0 | 2 |")
    assert lines[-2:] == ["| failed | 1 | 2 |", "| others | 1 | 2 |"]


def test_summary_sets_the_verdict_against_that():
    lines = summary(ROWS, 3)
    assert lines[2] == "| cam | 3 | 50.0 | 46.9 | 51.0 | 1 | 30% | 0% |"
    assert lines[3] == "| cpn | 3 | 57.1 | 40.0 | 60.0 | 1 | 0% | 0% |"
    assert lines[-2:] == ["| failed | 1 | 1 |", "| others | 1 | 3 |"]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The commands that were run, of which each leaves what a later one needs."""
    ran = []

    def execute(words):
        ran.append(words)
        if words[0] == "train_cpn.py":
            name = words[words.index("--session_name") + 1]
            (tmp_path / "out/results" / name / f"{name}.pth").write_bytes(b"")
        if words[0] == "infer_cam.py":
            Path(words[words.index("--out_cam") + 1]).mkdir()
        return 0

    monkeypatch.setattr(training_seeds, "execute", execute)
    monkeypatch.setattr(training_seeds, "read_training", lambda _: {"verdict": ROWS[0]["verdict"]})
    monkeypatch.setattr(training_seeds, "score_maps", lambda *_: ROWS[0]["maps"])
    return ran


def runs(path):
    return [(one["method"], one["seed"]) for one in json.loads(path.read_text())["rows"]]


def test_runs_take_turns_and_are_kept(pets_root, tmp_path, commands, capsys):
    flags = ["--voc12_root", str(pets_root), "--seeds", "2", "--out", str(tmp_path / "out")]
    flags += ["--train_list", "train", "--list", "train"]
    small, both = "--flags=--preset small --lr 0.0001", ["--methods", "cam", "cpn"]
    main(parse_args([*flags, *both, small]))
    trained = [words for words in commands if words[0] == "train_cpn.py"]
    sessions = [words[words.index("--session_name") + 1].rsplit("_", 1)[0] for words in trained]
    assert sessions == ["cam_seed0", "cpn_seed0", "cam_seed1", "cpn_seed1"]
    parsed = cpn_training.parse_args(trained[-1][1:])
    assert (parsed.method, parsed.seed, parsed.lr, parsed.optimizer) == ("cpn", 1, 1e-4, "adamw")
    looked = [words for words in commands if words[0] == "infer_cam.py"]
    assert ["pcm" in words for words in looked] == [True, False, True, False]
    every = [("cam", 0), ("cpn", 0), ("cam", 1), ("cpn", 1)]
    assert runs(tmp_path / "out/training_seeds.json") == every
    assert "| others | 0 | 4 |" in capsys.readouterr().out
    commands.clear()
    main(parse_args([*flags, small, "--methods", "cam"]))
    assert commands == []
    assert sorted(runs(tmp_path / "out/training_seeds.json")) == sorted(every)
    with pytest.raises(training_seeds.InputError, match="another --flags: --preset small --lr"):
        main(parse_args([*flags, "--flags=--preset small"]))


@pytest.mark.parametrize("method", ["cam", "seam"])
def test_flags_that_mean_other_settings_today_need_another_folder(
    pets_root, tmp_path, commands, monkeypatch, method
):
    """The preset's second view is SEAM's alone, but a file is of all methods."""
    flags = ["--voc12_root", str(pets_root), "--train_list", "train", "--list", "train"]
    flags += ["--seeds", "1", "--methods", method, "--out", str(tmp_path / "out")]
    main(parse_args(flags))
    monkeypatch.setitem(cpn_training.PRESETS["small"], "seam_scale", 0.5)
    with pytest.raises(training_seeds.InputError, match="for which --preset small meant other"):
        main(parse_args(flags))


def test_weights_without_a_verdict_are_named(pets_root, tmp_path, commands, monkeypatch):
    monkeypatch.setattr(training_seeds, "read_training", lambda _: {})
    flags = ["--voc12_root", str(pets_root), "--train_list", "train", "--list", "train"]
    with pytest.raises(
        training_seeds.InputError, match=r"pth is of a version that said no verdict"
    ):
        main(parse_args([*flags, "--seeds", "1", "--out", str(tmp_path / "out")]))


def test_another_folder_has_the_medians(pets_root, tmp_path, commands, capsys):
    flags = ["--voc12_root", str(pets_root), "--train_list", "train", "--list", "train"]
    flags += ["--methods", "cam", "--seeds", "1"]
    main(parse_args([*flags, "--out", str(tmp_path / "out")]))
    kept = json.loads((tmp_path / "out/training_seeds.json").read_text())
    kept["rows"][0]["maps"] |= {"best": 70.0}
    kept["flags"] = "--preset best"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/training_seeds.json").write_text(json.dumps(kept))
    capsys.readouterr()
    against = ["--out", str(tmp_path / "out"), "--against", str(tmp_path / "other")]
    main(parse_args([*flags, *against]))
    assert "| failed | 0 | 1 |" in capsys.readouterr().out
    main(parse_args([*flags, *against, "--margin", "21"]))
    assert "| failed | 0 | 0 |" in capsys.readouterr().out
    commands.clear()
    for change, message in (
        (["--methods", "cpn"], "other has no run of cpn; train some there first"),
        (["--list", "val"], "another --list: train"),
        (["--against", str(tmp_path / "none")], "none has no run of cam"),
    ):
        with pytest.raises(training_seeds.InputError, match=message):
            main(parse_args([*flags, *against, "--out", str(tmp_path / "new"), *change]))
    assert commands == []


def test_tables_take_the_sessions(pets_root, tmp_path, commands):
    flags = ["--voc12_root", str(pets_root), "--train_list", "train", "--list", "train"]
    main(parse_args([*flags, "--seeds", "1", "--out", str(tmp_path / "out")]))
    preset = replace(
        PRESETS["photos"],
        voc12_root=str(pets_root),
        train_list="train",
        train="--preset small --val_list none",
        scales="--scales 0.5 0.75",
    )
    road = Road(preset, tmp_path / "out/results", 1, "cpu")
    for method in METHODS:
        weights = road.train(("--method", method), 0)
        assert weights.output.is_file()
        if method != "cam":
            assert road.cams(weights, "train").output.is_dir()


def test_a_command_that_fails_is_named(pets_root, tmp_path, monkeypatch):
    monkeypatch.setattr(training_seeds, "execute", lambda _: 2)
    flags = ["--voc12_root", str(pets_root), "--out", str(tmp_path / "out")]
    with pytest.raises(training_seeds.InputError, match=r"train_cpn\.py .*exit status 2"):
        main(parse_args(flags))
