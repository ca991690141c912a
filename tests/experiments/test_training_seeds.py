"""Many trainings: which have failed, and what the verdict said."""

import json

import pytest

from experiments import training_seeds
from experiments.training_seeds import failed_runs, main, parse_args, summary


def row(method, seed, best, failures=(), silent=0.0):
    maps = {"best": best, "best_threshold": 0.5, "auto": best, "auto_threshold": 0.5}
    verdict = {"loss": 0.1, "prior": 0.4, "silent": silent, "failures": list(failures)}
    return {"method": method, "seed": seed, "maps": maps, "verdict": verdict}


ROWS = [
    row("cam", 0, 50.0),
    row("cam", 1, 46.9, ["silent"], 0.3),
    row("cam", 2, 51.0, ["loss"]),
    row("cpn", 0, 60.0),
    row("cpn", 1, 57.1),
    row("cpn", 2, 40.0),
]


def test_a_run_has_failed_three_points_under_its_own_methods_median():
    assert failed_runs(ROWS) == [False, True, False, False, False, True]


def test_summary_sets_the_verdict_against_that():
    lines = summary(ROWS)
    assert lines[2] == "| cam | 3 | 50.0 | 46.9 | 51.0 | 1 | 30% |"
    assert lines[3] == "| cpn | 3 | 57.1 | 40.0 | 60.0 | 1 | 0% |"
    assert lines[-2:] == ["| failed | 1 | 1 |", "| others | 1 | 3 |"]


def test_runs_take_turns_and_are_kept(pets_root, tmp_path, monkeypatch, capsys):
    commands = []

    def execute(words):
        commands.append(words)
        if words[0] == "train_cpn.py":
            name = words[words.index("--session_name") + 1]
            folder = tmp_path / "out/results" / name
            folder.mkdir(parents=True)
            (folder / f"{name}.pth").write_bytes(b"")
        return 0

    monkeypatch.setattr(training_seeds, "execute", execute)
    monkeypatch.setattr(training_seeds, "read_training", lambda _: {"verdict": ROWS[0]["verdict"]})
    monkeypatch.setattr(training_seeds, "score_maps", lambda *_: ROWS[0]["maps"])
    flags = ["--voc12_root", str(pets_root), "--methods", "cam", "cpn", "--seeds", "2"]
    flags += ["--train_list", "train", "--list", "train", "--out", str(tmp_path / "out")]
    main(parse_args([*flags, "--flags=--preset small --lr 0.0001"]))
    trained = [words for words in commands if words[0] == "train_cpn.py"]
    assert [words[words.index("--session_name") + 1] for words in trained] == [
        "cam_0",
        "cpn_0",
        "cam_1",
        "cpn_1",
    ]
    assert all(words[-4:] == ["--preset", "small", "--lr", "0.0001"] for words in trained)
    looked = [words for words in commands if words[0] == "infer_cam.py"]
    assert ["pcm" in words for words in looked] == [True, False, True, False]
    written = json.loads((tmp_path / "out/training_seeds.json").read_text())
    assert [(one["method"], one["seed"]) for one in written["rows"]] == [
        ("cam", 0),
        ("cpn", 0),
        ("cam", 1),
        ("cpn", 1),
    ]
    assert "| others | 0 | 4 |" in capsys.readouterr().out
    commands.clear()
    main(parse_args([*flags, "--flags=--preset small --lr 0.0001", "--methods", "cam"]))
    assert commands == []
    kept = json.loads((tmp_path / "out/training_seeds.json").read_text())["rows"]
    assert {(one["method"], one["seed"]) for one in kept} == {
        (method, seed) for method in ("cam", "cpn") for seed in (0, 1)
    }
    with pytest.raises(training_seeds.InputError, match="another --flags: --preset small --lr"):
        main(parse_args([*flags, "--flags=--preset small"]))


def test_a_command_that_fails_is_named(pets_root, tmp_path, monkeypatch):
    monkeypatch.setattr(training_seeds, "execute", lambda _: 2)
    flags = ["--voc12_root", str(pets_root), "--out", str(tmp_path / "out")]
    with pytest.raises(training_seeds.InputError, match=r"train_cpn\.py ended with 2"):
        main(parse_args(flags))
