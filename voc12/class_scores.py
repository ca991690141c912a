"""What a classifier sees in photographs that did not train it: how right it is, from which score on
a class counts as seen, and labels of photographs that have none.

    python -m voc12.class_scores --data_root DATA --scores scores.json --out_labels labels.npy \\
        --json classifier.json

Reads the probabilities of infer_cam.py --scores. Cut-offs are those at which F1 is highest on the
list --held, whose photographs have labels and took no part in the training; a class with few of
them takes the cut-off of all classes together. Writes labels of --list: those that the data set
has, and for the other photographs the classes over their cut-offs.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError, run_script
from tool.file.atomic import write_json
from tool.file.text import read_text
from voc12.class_list import load_class_list
from voc12.data_flags import add_root_flag
from voc12.labels import load_labels, save_labels
from voc12.lists import load_ids

DEFAULT_CUT_OFF = 0.5
FEWEST = 5  # held-out photographs of a class, and without it, that a cut-off of its own needs


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    parser.add_argument("--scores", required=True, help="file of infer_cam.py --scores")
    parser.add_argument("--list", default="all", help="photographs to label (default %(default)s)")
    parser.add_argument(
        "--labelled", default="tagged", help="list of those that have labels (default %(default)s)"
    )
    parser.add_argument(
        "--held",
        default="held",
        help="list of those that did not train, or none (default %(default)s)",
    )
    parser.add_argument("--out_labels", required=True, help="file for the labels, .npy")
    parser.add_argument("--json", required=True, help="file for cut-offs and numbers")
    return parser.parse_args(argv)


def read_scores(path: str | Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """id -> (C,) probabilities. Raises InputError for what infer_cam.py --scores does not write."""
    text = read_text(path, "scores", "make them with infer_cam.py --scores")
    try:
        return {
            name: np.array([float(scores[one]) for one in classes])
            for name, scores in json.loads(text).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} holds no scores of the classes {', '.join(classes[:5])} ({error}); make it "
            "with infer_cam.py --scores"
        ) from None


def best_cut_off(scores: np.ndarray, shows: np.ndarray) -> float:
    """The score from which on F1 is highest, between the two scores that it parts; of several the
    middle one. scores, shows: (N,); some show it, some do not.
    """
    order = np.argsort(scores)
    ranked, right = scores[order], shows[order].astype(float)
    places = np.concatenate([[0.0], (ranked[1:] + ranked[:-1]) / 2])
    kept = right[::-1].cumsum()[::-1]
    f1 = 2 * kept / (np.arange(len(ranked), 0, -1) + right.sum())
    best = np.flatnonzero(f1 >= f1.max() - 1e-9)
    return float(places[best[len(best) // 2]])


def cut_offs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C,) cut-offs from held-out photographs, scores and labels (N, C); DEFAULT_CUT_OFF where they
    say nothing.
    """
    found = np.full(labels.shape[1], DEFAULT_CUT_OFF)
    shows = labels > 0
    if shows.any() and not shows.all():
        found[:] = best_cut_off(scores.ravel(), shows.ravel())
    for c in range(labels.shape[1]):
        if FEWEST <= shows[:, c].sum() <= len(labels) - FEWEST:
            found[c] = best_cut_off(scores[:, c], shows[:, c])
    return found


def quality(
    scores: np.ndarray, labels: np.ndarray, cut: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """class -> photographs that show it, how many of them are seen, and how many others."""
    seen, shows = scores >= cut, labels > 0
    return {
        name: {
            "photographs": int(shows[:, c].sum()),
            "seen": int((seen & shows)[:, c].sum()),
            "wrongly seen": int((seen & ~shows)[:, c].sum()),
            "cut_off": round(float(cut[c]), 4),
        }
        for c, name in enumerate(classes)
    }


def main(args: argparse.Namespace) -> None:
    """Write labels and numbers."""
    root = Path(args.voc12_root)
    classes = load_class_list(root)
    scores = read_scores(args.scores, classes)
    every, labelled = load_ids(root, args.list), load_ids(root, args.labelled)
    held = [] if args.held == "none" else load_ids(root, args.held)
    if missing := [name for name in (*every, *held) if name not in scores]:
        raise InputError(f"{args.scores} has no scores of {missing[0]}; make it for the whole list")
    held_scores = np.array([scores[name] for name in held]).reshape(len(held), len(classes))
    held_labels = (
        load_labels(root, held, classes) if held else np.zeros((0, len(classes)), dtype=np.float32)
    )
    cut = cut_offs(held_scores, held_labels)
    labels = np.array([scores[name] >= cut for name in every], dtype=np.float32)
    place = {name: row for row, name in enumerate(every)}
    known = [name for name in labelled if name in place]
    labels[[place[name] for name in known]] = load_labels(root, known, classes)
    save_labels(args.out_labels, every, labels)
    numbers = quality(held_scores, held_labels, cut, classes)
    write_json(args.json, {"held_out": len(held), "classes": numbers})
    if held:
        print(f"the classifier on {len(held)} photographs that did not train it:")
        width = max(map(len, classes))
        for name, its in numbers.items():
            print(
                f"{name:{width}}  {its['seen']} of {its['photographs']} seen, "
                f"{its['wrongly seen']} others taken for it, from a score of {its['cut_off']:.2f}"
            )
    print(f"labels: {args.out_labels}, {len(every) - len(known)} of {len(every)} by the classifier")


if __name__ == "__main__":
    run_script(main, parse_args)
