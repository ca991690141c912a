"""Tables and plot of the results: what the pages show is what docs/results.json says."""

import json
import shutil

import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import figures
from tool.errors import InputError

NUMBERS = json.loads((figures.ROOT / figures.NUMBERS).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", figures.PAGES)
def test_pages_are_up_to_date(name):
    page = (figures.ROOT / name).read_text(encoding="utf-8")
    assert "<!-- table " in page
    assert figures.filled(page, NUMBERS) == page, "run python -m benchmarks.figures"


def test_every_table_is_on_a_page_and_every_measurement_in_a_table_or_the_plot():
    pages = "".join((figures.ROOT / name).read_text() for name in figures.PAGES)
    assert all(f"<!-- table {name} -->" in pages for name in NUMBERS["tables"])
    tables = NUMBERS["tables"].values()
    cells = {cell[1:] for t in tables for row in t["rows"] for cell in row if cell[:1] == "@"}
    named = {cell.partition(":")[0] for cell in cells}
    named |= {name for panel in NUMBERS["plot"]["panels"] for name in panel["rows"] if name}
    for figure in NUMBERS["figures"].values():
        named |= {name for row in figure.get("rows", ()) for name in row[1:] if name}
        named |= {name for points in figure.get("series", {}).values() for _, name in points}
    assert named == set(NUMBERS["measurements"])
    assert all(file in pages.replace("](", "](docs/") for file in NUMBERS["figures"])


def test_cells_by_hand():
    seeds = {"mious": [51.15, 49.78, 45.45], "thresholds": [0.41, 0.49]}
    assert figures.text(seeds, by_seed=False) == "48.8 ± 3.0 @ 0.41 to 0.49"
    assert figures.text({"mean": 50.35, "std": 0.45}, by_seed=False) == "50.4 ± 0.5"
    each = {"mious": [59.09, 58.97], "thresholds": [0.65, 0.71], "note": "two images"}
    assert figures.text(each, by_seed=True) == "59.1 @ 0.65, 59.0 @ 0.71, two images"
    assert figures.text({"mious": [46.75]}, by_seed=False) == "46.8"
    sure = {"mean": 55.7, "std": 1.0, "interval": [52.5, 59.04]}
    assert figures.text(sure, by_seed=False) == "55.7 ± 1.0 [52.5, 59.0]"


def test_cells_of_many_seeds():
    numbers = {
        "measurements": {
            "a": {"mious": [3.0, 1.04, 2.0, 10.0]},
            "b": {"mious": [3.0, 2.0], "median": 2.4},
        },
        "tables": {
            "t": {
                "cells": "mean",
                "columns": ["m", "l", "h"],
                "rows": [[f"@{name}:{what}" for what in figures.OF_SEEDS] for name in "ab"],
            }
        },
    }
    assert figures.markdown(numbers, "t").splitlines()[-2:] == [
        "| 2.5 | 1.0 | 10.0 |",
        "| 2.4 | 2.0 | 3.0 |",
    ]


def test_what_stands_between_the_marks_is_replaced():
    numbers = {
        "measurements": {"a": {"mious": [1.0, 3.0]}},
        "tables": {"t": {"cells": "seeds", "columns": ["x", "y"], "rows": [["", "@a"]]}},
    }
    page = "before\n<!-- table t -->\nold\n<!-- end t -->\nafter"
    table = "| x | y |\n|---|---|\n| | 1.0, 3.0 |"
    expected = f"before\n<!-- table t -->\n\n{table}\n\n<!-- end t -->\nafter"
    assert figures.filled(page, numbers) == expected
    assert figures.filled(expected, numbers) == expected
    with pytest.raises(InputError, match=r"no table u in docs/results\.json; it has t"):
        figures.filled("<!-- table u --><!-- end u -->", numbers)


def test_the_command_writes_pages_and_plot(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in (*figures.PAGES, figures.NUMBERS):
        shutil.copy(figures.ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text("<!-- table losses -->\n<!-- end losses -->\n")
    figures.main(figures.parse_args(["--root", str(tmp_path)]))
    assert "| loss_cls | 53.9, 53.4 |" in (tmp_path / "README.md").read_text()
    with (
        Image.open(tmp_path / figures.PLOT) as drawn,
        Image.open(figures.ROOT / figures.PLOT) as kept,
    ):
        assert drawn.size == kept.size
    for file in NUMBERS["figures"]:
        with Image.open(tmp_path / file) as drawn, Image.open(figures.ROOT / file) as kept:
            assert drawn.size == kept.size


def _axes(figure, numbers):
    axes = Figure().subplots()
    figures.KINDS[figure["kind"]](axes, figure, numbers)
    return axes


def test_gains_show_means_deviations_and_what_is_gained():
    numbers = {"measurements": {"a": {"mious": [40.0, 44.0]}, "b": {"mean": 50.0, "std": 1.5}}}
    rows = [["first", "a", None], ["second", "b", "a"]]
    axes = _axes({"kind": "gains", "rows": rows, "limits": [0, 100]}, numbers)
    assert [note.get_text() for note in axes.texts] == ["42.0", "50.0 (+8.0)"]
    ends = [line.get_segments()[0][:, 0].tolist() for line in axes.collections]
    assert ends == [pytest.approx([42 - 8**0.5, 42 + 8**0.5]), [48.5, 51.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]


def test_curves_mark_the_best_and_the_threshold_without_masks():
    numbers = {"curves": {"a": {"mious": [10, 40, 30, 20, 5], "auto": 0.5}}}
    axes = _axes({"kind": "curves", "curves": {"CAM": "a"}}, numbers)
    curve, best, auto = (line.get_xydata().tolist() for line in axes.lines[:3])
    assert curve == [[0, 10], [0.25, 40], [0.5, 30], [0.75, 20], [1, 5]]
    assert (best, auto) == ([[0.25, 40]], [[0.5, 30]])


def test_lines_go_through_the_means():
    numbers = {"measurements": {"a": {"mious": [1.0, 3.0]}, "b": {"mious": [5.0]}}}
    series = {"one": [[100, "a"], [200, "b"]]}
    axes = _axes({"kind": "lines", "x": "iterations", "series": series}, numbers)
    assert axes.lines[0].get_xydata().tolist() == [[100, 2], [200, 5]]
    assert axes.get_xlabel() == "iterations"
