"""Cut-offs of a classifier, and labels of photographs that nobody tagged."""

import json

import numpy as np
import pytest

from tests.synthetic import write_voc_tree
from tool.errors import InputError
from voc12.class_scores import DEFAULT_CUT_OFF, best_cut_off, cut_offs, main, parse_args
from voc12.labels import load_labels


def f1(scores, shows, cut):
    seen = scores >= cut
    return 2 * (seen & shows).sum() / (seen.sum() + shows.sum())


def test_the_cut_off_has_the_highest_f1_of_all():
    rng = np.random.default_rng(0)
    for _ in range(30):
        shows = rng.random(20) < 0.4
        shows[:2] = True, False
        scores = (rng.random(20) + 0.3 * shows).round(2) / 1.3
        best = max(f1(scores, shows, cut) for cut in np.linspace(0, 1, 1001))
        assert f1(scores, shows, best_cut_off(scores, shows)) == pytest.approx(best)


def test_a_class_with_few_photographs_takes_the_cut_off_of_all():
    labels = np.zeros((20, 2), dtype=np.float32)
    labels[:8, 0], labels[8:10, 1] = 1, 1
    scores = np.where(labels > 0, 0.8, 0.1)
    scores[:, 0] = np.where(labels[:, 0] > 0, 0.3, 0.1)
    cut = cut_offs(scores, labels)
    assert 0.1 < cut[0] < 0.3
    assert 0.1 < cut[1] <= 0.3
    assert (cut_offs(np.zeros((0, 2)), np.zeros((0, 2))) == DEFAULT_CUT_OFF).all()


def test_labels_of_tags_stay_and_others_are_the_classifiers(tmp_path, capsys):
    root = write_voc_tree(
        tmp_path / "data", {"all": 6, "tagged": 4}, class_count=2, classes=("cat", "dog")
    )
    lists = root / "ImageSets/Segmentation"
    every = sorted(path.stem for path in (root / "JPEGImages").iterdir())
    for name, ids in (("all", every), ("tagged", every[:4]), ("held", every[2:4])):
        (lists / f"{name}.txt").write_text("\n".join(ids) + "\n")
    scores = {name: {"cat": 0.9, "dog": 0.2} for name in every}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    flags = ["--data_root", str(root), "--scores", str(tmp_path / "scores.json")]
    flags += ["--out_labels", str(tmp_path / "l.npy"), "--json", str(tmp_path / "n.json")]
    main(parse_args([*flags, "--held", "none"]))
    labels = load_labels(root, every, ("cat", "dog"), tmp_path / "l.npy")
    assert np.array_equal(labels[:4], load_labels(root, every[:4], ("cat", "dog")))
    assert labels[4:].tolist() == [[1, 0]] * (len(every) - 4)
    main(parse_args(flags))
    assert json.loads((tmp_path / "n.json").read_text())["held_out"] == 2
    assert "2 photographs that did not train it" in capsys.readouterr().out
    (tmp_path / "scores.json").write_text('{"x": {"cat": 1}}')
    with pytest.raises(InputError, match="holds no scores of the classes cat, dog"):
        main(parse_args(flags))
