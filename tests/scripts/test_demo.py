"""The demo at toy size: every step runs, the table has both methods, a second run finds the work
done.
"""

import argparse
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import demo
from tool.show.sheet import WIDTH
from voc12.class_list import load_class_list
from voc12.constants import MASK_DIR
from voc12.evaluation import evaluate_masks
from voc12.labels import class_counts
from voc12.lists import load_ids
from voc12.sample import recipe


def in_process(words: Sequence[str]) -> int:
    """As tool.run.steps.execute, without a process that starts anew for each command."""
    script, *flags = words
    module = importlib.import_module(Path(script).stem)
    module.main(module.parse_args(flags))
    return 0


def test_demo_runs_and_resumes(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = recipe.SEG.replace("--max_iterations 300", "--max_iterations 2")
    assert short != recipe.SEG
    monkeypatch.setattr(recipe, "SEG", short)
    monkeypatch.setattr(demo, "execute", in_process)
    flags = [
        "--data",
        str(tmp_path / "sample"),
        "--out",
        str(tmp_path / "out"),
        "--images",
        "8",
        "--val_images",
        "3",
    ]
    args = demo.parse_args(
        [
            *flags,
            "--start_epoches",
            "1",
            "--max_epoches",
            "1",
            "--num_workers",
            "1",
        ]
    )
    demo.main(args)
    first = capfd.readouterr().out
    table = (tmp_path / "out" / "table.txt").read_text()
    assert table in first
    assert table.splitlines()[1].split()[-2:] == ["CAM", "CPN"]
    rows = {
        line[:25].strip(): re.findall(r"[\d.]+|-", line[25:]) for line in table.splitlines()[2:]
    }
    animals = {"bird", "cat", "cow", "dog", "horse", "sheep"}
    assert {"seed", "seed + CRF", "segmentation", "background"} | animals <= set(rows)
    assert "IRN mask" not in rows
    # mIoU and threshold of both methods; after the CRF the seeds' threshold
    assert (len(rows["seed"]), len(rows["seed + CRF"])) == (4, 4)
    assert rows["segmentation"][0] == "-"  # learns from CPN's masks alone
    names = ("seed", "seed + CRF", "background")
    values = [*(rows[name] for name in names), rows["segmentation"][1:]]
    assert all(0 <= float(value) <= 100 for row in values for value in row)
    numbers = json.loads((tmp_path / "out" / "table_seed0.json").read_text())["rows"]
    assert [row["row"] for row in numbers] == [
        *(
            f"{method}, {stage}{how}"
            for stage in ("seed", "seed + CRF")
            for method in ("CAM", "CPN")
            for how in ("", ", threshold without masks")
        ),
        "CPN, segmentation",
    ]
    # what make_crf.py wrote for the sheet and the page is what the table has scored
    made = evaluation_of_masks(args, tmp_path / "out" / "cpn_seed0" / "mask_val")
    assert numbers[7]["best_miou"] == pytest.approx(made)
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width == WIDTH
        assert sheet.height > 6 * 100  # three photographs, two rows each
    page = tmp_path / "out" / "report.html"
    assert f"in a browser: {page}" in first
    assert "3 of 3 images, worst first, by the mIoU of prediction" in page.read_text()

    weights = tmp_path / "out" / "cpn_seed0" / "cpn_seed0.pth"
    before = weights.read_bytes()
    demo.main(args)
    printed = "".join(capfd.readouterr())
    # of both methods and the CRF, of the training images and their CRF, and the model's
    assert printed.count("3 of 3 CAM files are there already") == 3
    assert printed.count("8 of 8 CAM files are there already") == 2
    assert printed.count("3 of 3 masks are there already") == 1
    assert weights.read_bytes() == before
    assert (tmp_path / "out" / "table.txt").read_text() == table

    args.expand = "irn"  # goes on from the same seeds
    demo.main(args)
    lines = (tmp_path / "out" / "table.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("IRN mask")]
    assert [line for line in lines if line.startswith("seed  ")] == [
        line for line in table.splitlines() if line.startswith("seed  ")
    ]
    assert weights.read_bytes() == before


def evaluation_of_masks(args: argparse.Namespace, folder: Path) -> float:
    """mIoU of the validation images' masks, classes that occur nowhere left out."""
    root, classes = Path(args.data), load_class_list(args.data)
    ids = load_ids(args.data, "val")
    found = evaluate_masks(
        ids, folder, named=class_counts(root, ids, classes), gt_dir=root / MASK_DIR, classes=classes
    )
    return float(found.scores.miou_skip[0])
