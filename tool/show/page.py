"""HTML pages that open from disk without a network: style, script and pictures are inside. Text is
escaped here and nowhere else.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #e0e1e6; --panel: #fff;
  --ground: #f7f7f9; --accent: #0b68cb; --mark: #c2410c; --hover: #f0f4fa; --track: #eef0f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9ba1a9; --line: #33383e;
  --panel: #1b1e22; --ground: #121417; --accent: #5aa2f2; --mark: #f0834f; --hover: #23282e;
  --track: #2b3036; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 20px 24px 60px; }
@media (max-width: 600px) { main { padding: 14px 10px 40px; } }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 10px; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.warning { margin: 10px 0; padding: 8px 14px; border-left: 4px solid var(--mark);
  border-radius: 4px; background: var(--panel); font-weight: 600; overflow-wrap: anywhere; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 18px 20px; margin: 16px 0; overflow-x: auto; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 16px; margin: 16px 0; }
.columns section { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
td.number, th.number { text-align: right; }
tbody tr:hover { background: var(--hover); } tr:last-child td { border-bottom: 0; }
td:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 12ch; }
code, pre { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0 0; } summary { cursor: pointer;
  color: var(--soft); }
svg { display: block; max-width: 100%; height: auto;
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); }
"""

ONE_VALUE = 1e-9  # of the larger end: ends of an axis that are no further apart
COLOURS = ("#0b68cb", "#c2410c", "#2e7d32", "#7c3aed", "#64748b", "#be185d")


def isolated(text: str) -> str:
    """Text escaped, in an element that keeps it from turning the direction of what stands beside
    it.
    """
    return f"<bdi>{escape(text)}</bdi>"


class Marker(NamedTuple):
    """A vertical line in a chart, in the colour of the curve of this name."""

    x: float
    text: str
    curve: str
    dashed: bool = False


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole HTML page; body, style and script as they are, title as text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing may come from elsewhere, whatever a name or a path smuggles in.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">\n"
        '<link rel="icon" href="data:,">\n'  # otherwise a browser asks the server for one
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE}{style}</style>\n"
        "</head>\n"
        "<body>\n"
        "<main>\n"
        f"{body}\n"
        "</main>\n" + (f"<script>{script}</script>\n" if script else "") + "</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A panel; parts are HTML."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str, soft: bool = False) -> str:
    """Text as a paragraph, grey if soft."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def warning(text: str) -> str:
    """Text as a paragraph that cannot be overlooked."""
    return f'<p class="warning" role="alert">{escape(text)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of texts; numbers: the columns set flush right."""
    kind = dict.fromkeys(numbers, " class=number")

    def line(tag: str, cells: Sequence[str]) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{kind.get(i, '')}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
            )
            + "</tr>"
        )

    body = "\n".join(line("td", cells) for cells in rows)
    return f"<table>\n<thead>{line('th', head)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def details(summary: str, lines: Iterable[str]) -> str:
    """Lines of code behind a summary to click on."""
    text = escape("\n".join(lines))
    return f"<details><summary>{escape(summary)}</summary><pre>{text}</pre></details>"


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers that cover low..high, two or more and at most about count of them, one step of
    1, 2 or 5 times a power of ten apart. Around a single value they go from 0 to twice the value,
    around 0 to 1.

    low <= high, finite.
    """
    if high - low <= ONE_VALUE * max(abs(low), abs(high)):
        low, high = (min(0.0, 2 * low), max(0.0, 2 * high)) if low or high else (0.0, 1.0)
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= count)
    first, last = int(low // step), -int(-high // step)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.10g}"


def line_chart(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    markers: Sequence[Marker] = (),
    size: tuple[int, int] = (600, 320),
) -> str:
    """An SVG of named curves, finite points (x, y), with a legend and vertical markers; a curve of
    one point is a dot. Curves without points are left out.
    """
    curves = {name: points for name, points in curves.items() if points}
    width, height = size
    left, right, top, bottom = 52, 14, 12 + 18 * (len(curves) > 1), 44
    every = [point for points in curves.values() for point in points]
    x_ticks = ticks(min(x for x, _ in every), max(x for x, _ in every))
    y_ticks = ticks(min(y for _, y in every), max(y for _, y in every))

    def across(x: float) -> float:
        return left + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (width - left - right)

    def down(y: float) -> float:
        return (
            height
            - bottom
            - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (height - top - bottom)
        )

    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(y_label)}">'
    ]
    for y in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{down(y):.1f}" '
            f'y2="{down(y):.1f}"/>'
        )
        parts.append(
            f'<text class="soft" x="{left - 7}" y="{down(y) + 4:.1f}" '
            f'text-anchor="end">{_number(y)}</text>'
        )
    for x in x_ticks:
        place = f'x="{across(x):.1f}" y="{height - bottom + 17}"'
        parts.append(f'<text class="soft" {place} text-anchor="middle">{_number(x)}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    middle = (top + height - bottom) / 2
    parts.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    for index, (name, points) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>'
        )
        if len(points) == 1:  # of which a line shows nothing
            x, y = points[0]
            parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>')
        if len(curves) > 1:
            place = left + index * (width - left - right) / len(curves)
            parts.append(
                f'<line x1="{place}" x2="{place + 16}" y1="12" y2="12" stroke="{colour}" '
                'stroke-width="3"/>'
            )
            parts.append(f'<text x="{place + 21}" y="16">{escape(name)}</text>')
    for index, marker in enumerate(sorted(markers)):
        x, colour = across(marker.x), COLOURS[list(curves).index(marker.curve) % len(COLOURS)]
        dashes = ' stroke-dasharray="4 3"' if marker.dashed else ""
        # two neighbours write to both sides
        end = "end" if x > 0.8 * width or (index == 0 and x > 0.3 * width) else "start"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}" '
            f'stroke="{colour}"{dashes}/>'
            f'<text style="fill:{colour}" x="{x + (-5 if end == "end" else 5):.1f}" '
            f'y="{height - bottom - 10 - 17 * index}" text-anchor="{end}">'
            f"{escape(marker.text)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


class DotRow(NamedTuple):
    """A line of a dot chart: label, values (small dots; their mean is the large one), and a number
    from elsewhere or None.
    """

    label: str
    values: Sequence[float]
    reference: float | None


def dot_chart(rows: Sequence[DotRow], x_label: str, width: int = 900) -> str:
    """An SVG with a line a row: its values as dots, their mean as a large dot, the reference as an
    open diamond.
    """
    left, right, top, step = 330, 24, 8, 26
    every = [
        x
        for row in rows
        for x in (*row.values, *([] if row.reference is None else [row.reference]))
    ]
    x_ticks = ticks(min(every) - 0.5, max(every) + 0.5, 9)
    bottom = top + step * len(rows)

    def across(x: float) -> float:
        return left + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (width - left - right)

    height = bottom + 44
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(x_label)}">'
    ]
    for x in x_ticks:
        parts.append(
            f'<line class="grid" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{top}" '
            f'y2="{bottom}"/>'
        )
        parts.append(
            f'<text class="soft" x="{across(x):.1f}" y="{bottom + 17}" '
            f'text-anchor="middle">{_number(x)}</text>'
        )
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        parts.append(
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>'
        )
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{y}" r="3" fill="{COLOURS[0]}" opacity=".45"/>'
            for x in row.values
        ]
        if row.values:
            mean = across(sum(row.values) / len(row.values))
            parts.append(f'<circle cx="{mean:.1f}" cy="{y}" r="5.5" fill="{COLOURS[0]}"/>')
        if row.reference is not None:
            x = across(row.reference)
            corners = f"{x - 6:.1f},{y} {x:.1f},{y - 6} {x + 6:.1f},{y} {x:.1f},{y + 6}"
            parts.append(
                f'<polygon points="{corners}" fill="none" stroke="{COLOURS[1]}" '
                'stroke-width="1.6"/>'
            )
    return "\n".join([*parts, "</svg>"])
