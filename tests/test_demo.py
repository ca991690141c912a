"""The demo at toy size: every step runs, the table has both methods, a second run finds the work done."""

from pathlib import Path

import pytest
from PIL import Image

import demo


def test_demo_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--data", str(tmp_path / "sample"), "--out", str(tmp_path / "out"), "--images", "8", "--val_images", "3"]
    args = demo.parse_args([*flags, "--max_epoches", "1", "--num_workers", "1", "--sheet_images", "2"])
    demo.main(args)
    first = capsys.readouterr().out
    table = (tmp_path / "out" / "table.txt").read_text()
    assert table in first
    assert table.splitlines()[1].split() == ["CAM", "CPN"]
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}
    assert {"mIoU", "threshold", "background", "aeroplane", "tvmonitor"} <= set(rows)
    assert all(0 <= float(value) <= 100 for value in rows["background"])
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > sheet.height >= 400  # six columns, two rows

    weights = tmp_path / "out" / "cpn_seed0" / "cpn_seed0.pth"
    before = weights.read_bytes()
    demo.main(args)
    assert "3 of 3 CAM files are there already" in "".join(capsys.readouterr())
    assert weights.read_bytes() == before
    assert (tmp_path / "out" / "table.txt").read_text() == table
