"""Tables of results: means and deviations by hand, every format reads back."""

import csv
import io
import re
from dataclasses import replace

from tool.show.result_table import (
    COLUMNS,
    DIFFERENCE_COLUMNS,
    Difference,
    Measurement,
    Row,
    cells,
    csv_text,
    differences_csv,
    duration,
    html,
    markdown,
    mean_std,
    span,
)


def _measurement(seed, miou, threshold, seconds=60.0, commits=("0123456789abcdef",)):
    return Measurement(seed, miou, threshold, miou - 0.5, 0.5, 200, 7, seconds, commits)


ROW = Row(
    "CPN", "seed", "val", 57.59, (_measurement(0, 50.0, 0.58), _measurement(1, 52.0, 0.56, 180.0))
)
SURE = replace(ROW, interval=(48.124, 53.5), auto_interval=(47.0, 53.0))
DIFFERENCES = [
    Difference("CPN, seed, val", "a | <b>", (0, 1), (5.2, (3.1, 7.3)), (-0.5, (-2.0, 1.0))),
    Difference("CPN, seed, val", "CPN, seed, val", (0,), (0.0, (0.0, 0.0)), None),
]
EMPTY = Row("a | <b>", "seed", "val", None, ())


def test_numbers_as_text():
    assert mean_std([50.0, 52.0]) == "51.00 ± 1.41"  # sqrt(2)
    assert mean_std([50.0]) == "50.00"
    assert mean_std([]) == ""
    assert span([0.58, 0.56]) == "0.56 to 0.58"
    assert span([0.5, 0.5]) == "0.50"
    assert [duration(value) for value in (45, 720, 7200)] == ["45 s", "12 min", "2.0 h"]


def test_cells():
    expected = (
        "CPN",
        "seed",
        "val",
        "200",
        "7",
        "0, 1",
        "51.00 ± 1.41",
        "0.56 to 0.58",
        "50.50 ± 1.41 @ 0.50",
        "57.59",
    )
    assert cells(ROW) == (*expected, "2 min", "0123456")
    assert cells(EMPTY) == ("a | <b>", "seed", "val", *[""] * 9)
    masks = Row(
        "CPN",
        "IRN mask",
        "train",
        None,
        (Measurement(0, 60.0, None, None, None, 4, 21, 1.0, ("abc-dirty", "abc")),),
    )
    assert cells(masks)[3:9] == ("4", "21", "0", "60.00", "", "")
    assert cells(masks)[-1] == "abc-dirty, abc"


def test_markdown():
    text = markdown("Title", ["A note."], [ROW, EMPTY])
    assert text.startswith("# Title\n\nA note.\n\n| setting |")
    lines = text.splitlines()[4:]
    assert [len(re.split(r"(?<!\\)\|", line)) for line in lines] == [len(COLUMNS) + 2] * 4
    assert "a \\| <b>" in lines[3]


def test_intervals_and_differences():
    found = dict(zip(COLUMNS, cells(SURE), strict=True))
    assert found["mIoU (%)"] == "51.00 ± 1.41 [48.12, 53.50]"
    assert found["auto"] == "50.50 ± 1.41 [47.00, 53.00] @ 0.50"
    text = markdown("Title", [], [SURE], DIFFERENCES)
    *_, head, _, first, second = text.splitlines()
    assert head == f"| {' | '.join(DIFFERENCE_COLUMNS)} |"
    assert first == (
        "| CPN, seed, val | a \\| <b> | 0, 1 | +5.20 [+3.10, +7.30] | "
        "-0.50 [-2.00, +1.00], not shown |"
    )
    assert second == "| CPN, seed, val | CPN, seed, val | 0 | +0.00 [+0.00, +0.00], not shown |  |"
    assert "Differences" not in markdown("Title", [], [SURE])
    page = html("Title", [], [SURE], [], DIFFERENCES)
    assert "a | &lt;b&gt;" in page
    assert "-0.50 [-2.00, +1.00], not shown" in page
    row = next(csv.DictReader(io.StringIO(csv_text([SURE]))))
    assert (row["miou_low"], row["auto_miou_high"]) == ("48.124", "53.0")
    first, second = csv.DictReader(io.StringIO(differences_csv(DIFFERENCES)))
    assert (first["points"], first["low"], first["high"], first["shown"]) == (
        "5.2",
        "3.1",
        "7.3",
        "True",
    )
    assert (first["auto_shown"], second["shown"], second["auto_low"]) == ("False", "False", "")


def test_csv_reads_back_unrounded():
    rows = list(csv.DictReader(io.StringIO(csv_text([ROW, EMPTY]))))
    assert float(rows[0]["miou"]) == 51
    assert float(rows[0]["std"]) == 2**0.5
    assert rows[0]["miou_by_seed"].split() == ["50.0", "52.0"]
    assert rows[0]["threshold_by_seed"].split() == ["0.58", "0.56"]
    assert rows[0]["commits"] == "0123456789abcdef"
    assert (rows[1]["setting"], rows[1]["miou"], rows[1]["published"]) == ("a | <b>", "", "")


def test_html_is_whole_and_escaped():
    text = html("Title <x>", ["A & B"], [ROW, EMPTY], ["python train_cpn.py --x '<y>'"])
    assert "<b>" not in text
    assert "a | &lt;b&gt;" in text
    assert "Title &lt;x&gt;" in text
    assert "&#x27;&lt;y&gt;&#x27;" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("<circle") == 3  # two seeds and their mean
    assert text.count("<polygon") == 1
