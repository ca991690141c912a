"""Charts of pages: round ticks that cover the data, points where they belong, escaped text."""

import re

import pytest

from tool.show.page import DotRow, Marker, dot_chart, line_chart, page, table, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (37.2, 51.9, [35, 40, 45, 50, 55]),
        (0.001, 0.004, [0.001, 0.0015, 0.002, 0.0025, 0.003, 0.0035, 0.004]),
        (0, 12000, [0, 2000, 4000, 6000, 8000, 10000, 12000]),
    ],
)
def test_ticks_cover_the_range_in_round_steps(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_of_a_single_value():
    values = ticks(5, 5)
    assert values[0] <= 5 <= values[-1]
    assert len(values) > 1


def test_line_chart_puts_points_in_order():
    svg = line_chart(
        {"a": [(0, 10), (0.5, 40), (1, 20)], "none": []},
        "x <1>",
        "y",
        [Marker(0.5, "best & only", "a"), Marker(1, "auto", "a", dashed=True)],
    )
    points = [
        tuple(map(float, pair.split(",")))
        for pair in re.search(r'points="([^"]*)"', svg).group(1).split()
    ]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[1][1] < points[2][1] < points[0][1]  # down is larger
    best, auto = re.findall(r"<line [^>]*/>(?=<text)", svg)
    assert f'x1="{points[1][0]}"' in best
    assert f'x1="{points[2][0]}"' in auto
    assert ("stroke-dasharray" in best, "stroke-dasharray" in auto) == (False, True)
    assert "x &lt;1&gt;" in svg
    assert "best &amp; only" in svg
    assert "none" not in re.findall(r">([^<]*)</text>", svg)


def test_dot_chart_has_mean_and_reference():
    svg = dot_chart([DotRow("a", [10, 20], 15), DotRow("b", [], 12)], "mIoU")
    small, large = (
        re.findall(rf'cx="([\d.]+)" cy="[\d.]+" r="{radius}"', svg) for radius in ("3", "5.5")
    )
    assert float(large[0]) == pytest.approx(sum(map(float, small)) / 2, abs=0.1)
    assert svg.count("<polygon") == 2


def test_page_and_table_escape():
    text = page("<t>", table(["a"], [["<script>alert(1)</script>"]], numbers=[0]))
    assert "<script>" not in text
    assert "<title>&lt;t&gt;</title>" in text
    assert "<td class=number>&lt;script&gt;" in text
