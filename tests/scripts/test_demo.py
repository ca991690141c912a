"""The demo at toy size: every step runs, the table has both methods, a second run finds the work
done.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import demo
from tool.show.sheet import WIDTH
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
    short = recipe.SEG.replace("--max_iterations 200", "--max_iterations 2")
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
    assert {"seed", "seed + CRF", "IRN mask", "segmentation", "background"} | animals <= set(rows)
    # mIoU and threshold, mIoU alone of both methods
    assert (len(rows["seed"]), len(rows["seed + CRF"])) == (4, 2)
    # only CPN's seeds are expanded
    assert rows["IRN mask"][0] == rows["segmentation"][0] == "-"
    names = ("seed", "seed + CRF", "background")
    values = [*(rows[name] for name in names), rows["IRN mask"][1:], rows["segmentation"][1:]]
    assert all(0 <= float(value) <= 100 for row in values for value in row)
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
    assert "3 of 3 CAM files are there already" in printed
    # the walks of both splits, and the segmentation model's
    assert printed.count("3 of 3 masks are there already") == 2
    assert "8 of 8 masks are there already" in printed
    assert weights.read_bytes() == before
    assert (tmp_path / "out" / "table.txt").read_text() == table
