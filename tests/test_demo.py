"""The demo at toy size: every step runs, the table has both methods, a second run finds the work done."""

import re
from pathlib import Path

import pytest
from PIL import Image

import demo


def test_demo_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--data", str(tmp_path / "sample"), "--out", str(tmp_path / "out"), "--images", "8", "--val_images", "3"]
    args = demo.parse_args([*flags, "--start_epoches", "1", "--max_epoches", "1", "--num_workers", "1", "--sheet_images", "2"])
    demo.main(args)
    first = capsys.readouterr().out
    table = (tmp_path / "out" / "table.txt").read_text()
    assert table in first
    assert table.splitlines()[1].split()[-2:] == ["CAM", "CPN"]
    rows = {line[:14].strip(): re.findall(r"[\d.]+|-", line[14:]) for line in table.splitlines()[2:]}
    assert {"seed", "seed + CRF", "IRN mask", "background", "aeroplane", "tvmonitor"} <= set(rows)
    assert (len(rows["seed"]), len(rows["seed + CRF"])) == (4, 2)  # mIoU and threshold, mIoU alone of both methods
    assert rows["IRN mask"][0] == "-"  # only CPN's seeds are expanded
    assert all(
        0 <= float(value) <= 100 for value in [*rows["seed"], *rows["seed + CRF"], *rows["IRN mask"][1:], *rows["background"]]
    )
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > sheet.height >= 400  # seven columns, two rows

    weights = tmp_path / "out" / "cpn_seed0" / "cpn_seed0.pth"
    before = weights.read_bytes()
    demo.main(args)
    printed = "".join(capsys.readouterr())
    assert "3 of 3 CAM files are there already" in printed
    assert "3 of 3 masks are there already" in printed
    assert weights.read_bytes() == before
    assert (tmp_path / "out" / "table.txt").read_text() == table
