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


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (5, 5, [0, 2, 4, 6, 8, 10]),
        (0.0, 0.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, -3, [-6, -5, -4, -3, -2, -1, 0]),
        (1e9, 1e9, [0, 5e8, 1e9, 1.5e9, 2e9]),
        (1e9, 1e9 + 1e-7, None),
        (1e-12, 3e-12, None),
        (1e300, 1e300, [0, 5e299, 1e300, 1.5e300, 2e300]),
        (5e-320, 5e-320, None),
    ],
)
def test_ticks_of_a_single_value_and_of_small_spans(low, high, expected):
    values = ticks(low, high)
    assert values[0] <= low <= values[-1]
    if expected:
        assert values == pytest.approx(expected)
    assert len(set(values)) == len(values) > 1


@pytest.mark.parametrize("value", [0.0, 1e9, 0.5, -2.0, 1e-12])
@pytest.mark.parametrize("count", [1, 3])
def test_a_curve_of_one_value_is_drawn(value, count):
    """Inside the axes; a single point, which no line shows, as a dot."""
    svg = line_chart({"loss": [(step, value) for step in range(7, 7 + count)]}, "step", "loss")
    places = re.search(r'points="([^"]*)"', svg)[1].split()
    assert len(places) == count
    for place in places:
        x, y = map(float, place.split(","))
        assert 52 <= x <= 600 - 14
        assert 12 <= y <= 320 - 44
    assert svg.count("<circle") == (count == 1)


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
