"""The figures and the tables of results in README.md and docs/results.md, from docs/results.json.

Reads measurements (mIoU in percent, by training seed, or mean and standard deviation where the log
has no more; 95 % intervals over the photographs where they are known), and the tables and figures
that name them; writes the plot docs/results.png, the figures, each into its own file, and in both
pages what stands between `<!-- table NAME -->` and `<!-- end NAME -->`.

    python -m benchmarks.figures
"""

import argparse
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import mean, median, stdev

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.require import require_file

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/results.md")
NUMBERS = "docs/results.json"
PLOT = "docs/results.png"
REFERENCE = "@"  # a cell that names a measurement, "@NAME", or one number of it, "@NAME:median"
OF_SEEDS = {"median": median, "lowest": min, "highest": max}
METHOD, CONTROL = "#1f6f8b", "#9a9a9a"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the repository (default: this one)"
    )
    return parser.parse_args(argv)


def one_digit(value: float) -> str:
    """ "50.4" for 50.35: halves go up in decimal, as one rounds by hand."""
    return str(Decimal(str(round(value, 6))).quantize(Decimal("0.1"), ROUND_HALF_UP))


def spread(measurement: dict) -> tuple[float, float | None]:
    """(mean, standard deviation with n - 1) over seeds; None for one seed."""
    if "mious" not in measurement:
        return measurement["mean"], measurement["std"]
    values = measurement["mious"]
    return mean(values), stdev(values) if len(values) > 1 else None


def statistic_of(measurement: dict, name: str) -> float:
    """A number of OF_SEEDS; as the measurement has it, where its seeds had more digits than are
    kept.
    """
    return measurement.get(name) or OF_SEEDS[name](measurement["mious"])


def text(measurement: dict, by_seed: bool) -> str:
    """ "52.6 ± 0.7 [49.9, 55.2] @ 0.54 to 0.57", by seed "59.1 @ 0.65, 59.0 @ 0.71"."""
    thresholds = [f"{value:.2f}" for value in measurement.get("thresholds", ())]
    if by_seed:
        parts = [one_digit(value) for value in measurement["mious"]]
        if thresholds:
            parts = [f"{value} @ {at}" for value, at in zip(parts, thresholds, strict=True)]
        cell = ", ".join(parts)
    else:
        middle, deviation = spread(measurement)
        cell = one_digit(middle) + ("" if deviation is None else f" ± {one_digit(deviation)}")
        if "interval" in measurement:
            cell += f" [{', '.join(map(one_digit, measurement['interval']))}]"
        cell += f" @ {' to '.join(thresholds)}" if thresholds else ""
    return cell + (f", {measurement['note']}" if "note" in measurement else "")


def markdown(numbers: dict, name: str) -> str:
    """A table of docs/results.json as Markdown."""
    table = numbers["tables"][name]

    def cell(content: str) -> str:
        if not content.startswith(REFERENCE):
            return content
        measured, _, statistic = content.removeprefix(REFERENCE).partition(":")
        measurement = numbers["measurements"][measured]
        if statistic:
            return one_digit(statistic_of(measurement, statistic))
        return text(measurement, by_seed=table["cells"] == "seeds")

    lines = [table["columns"], *([cell(content) for content in row] for row in table["rows"])]
    rows = ["|" + "|".join(f" {part} " if part else " " for part in line) + "|" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(table["columns"]), *rows[1:]])


def filled(page: str, numbers: dict) -> str:
    """The page with every marked table made anew. Raises InputError for a table that is not in
    docs/results.json.
    """

    def replace(found: re.Match) -> str:
        if found["name"] not in numbers["tables"]:
            raise InputError(
                f"no table {found['name']} in {NUMBERS}; it has {', '.join(numbers['tables'])}"
            )
        return f"{found['begin']}\n\n{markdown(numbers, found['name'])}\n\n{found['end']}"

    marks = r"(?P<begin><!-- table (?P<name>\w+) -->).*?(?P<end><!-- end (?P=name) -->)"
    return re.sub(marks, replace, page, flags=re.DOTALL)


def draw_panel(axes: Axes, panel: dict, numbers: dict) -> None:
    """A dot for each seed, a bar at their median; controls in grey."""
    for height, (name, label) in enumerate(
        zip(panel["rows"], numbers["plot"]["labels"], strict=True)
    ):
        if name is None:
            continue
        measurement = numbers["measurements"][name]
        values, middle = measurement["mious"], statistic_of(measurement, "median")
        colour = CONTROL if label.startswith("control") else METHOD
        axes.plot(values, [height] * len(values), "o", color=colour, markersize=5, alpha=0.7)
        axes.plot(middle, height, "|", color=colour, markersize=16, markeredgewidth=2.5)
        axes.annotate(
            one_digit(middle),
            (middle, height),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set(title=panel["title"], xlabel="mIoU (%)")
    axes.grid(axis="x", alpha=0.3)


def draw(numbers: dict, path: Path) -> None:
    """Write the plot, a panel for each recipe, methods from top to bottom."""
    plot = numbers["plot"]
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(plot["panels"]), sharex=True, sharey=True)
    for axes, panel in zip(panels, plot["panels"], strict=True):
        draw_panel(axes, panel, numbers)
    panels[0].set_yticks(range(len(plot["labels"])), plot["labels"])
    panels[0].set_ylim(len(plot["labels"]) - 0.5, -0.7)
    figure.suptitle(plot["title"], fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})


def draw_gains(axes: Axes, figure: dict, numbers: dict) -> None:
    """For each row the mean, a line as long as the standard deviation over seeds on either side, a
    dot for each seed that is known, and the gain over the measurement that the row names.
    """
    for height, (label, name, reference) in enumerate(figure["rows"]):
        measurement = numbers["measurements"][name]
        middle, deviation = spread(measurement)
        colour = CONTROL if label.startswith("control") else METHOD
        how = {"xerr": deviation, "color": colour, "capsize": 5, "fmt": "|", "markersize": 14}
        axes.errorbar(middle, height, elinewidth=1.5, markeredgewidth=2.5, **how)
        values = measurement.get("mious", [])
        axes.plot(values, [height] * len(values), "o", color=colour, markersize=4, alpha=0.6)
        words = one_digit(middle)
        if reference is not None:
            words += f" ({middle - spread(numbers['measurements'][reference])[0]:+.1f})"
        end = (max([middle + (deviation or 0), *values]), height)
        how = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(words, end, xytext=(9, 0), **how)
    axes.set_yticks(range(len(figure["rows"])), [row[0] for row in figure["rows"]])
    axes.set_ylim(len(figure["rows"]) - 0.5, -0.5)
    axes.set(xlabel="mIoU (%)", xlim=figure["limits"])
    axes.grid(axis="x", alpha=0.3)


def draw_lines(axes: Axes, figure: dict, numbers: dict) -> None:
    """A line for each series through the means of its measurements, bars for the deviation."""
    for label, points in figure["series"].items():
        spreads = [spread(numbers["measurements"][name]) for _, name in points]
        axes.errorbar(
            [x for x, _ in points],
            [middle for middle, _ in spreads],
            yerr=[deviation or 0 for _, deviation in spreads],
            marker="o",
            capsize=4,
            label=label,
        )
    axes.set(xlabel=figure["x"], ylabel="mIoU (%)")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_curves(axes: Axes, figure: dict, numbers: dict) -> None:
    """mIoU at every threshold of a curve, its best and the threshold chosen without masks."""
    for label, name in figure["curves"].items():
        curve = numbers["curves"][name]
        mious = curve["mious"]
        thresholds = [index / (len(mious) - 1) for index in range(len(mious))]
        (line,) = axes.plot(thresholds, mious, label=label)
        best = max(range(len(mious)), key=mious.__getitem__)
        axes.plot(thresholds[best], mious[best], "o", color=line.get_color())
        auto = round(curve["auto"] * (len(mious) - 1))
        axes.plot(thresholds[auto], mious[auto], "x", color=line.get_color(), markersize=9)
    axes.plot([], [], "o", color="black", label="best by the masks")
    axes.plot([], [], "x", color="black", label="chosen without masks")
    axes.set(xlabel="background threshold (unit CAM scale)", ylabel="mIoU (%)")
    axes.grid(alpha=0.3)
    axes.legend()


KINDS = {"gains": draw_gains, "lines": draw_lines, "curves": draw_curves}


def draw_figure(figure: dict, numbers: dict, path: Path) -> None:
    """Write a figure of docs/results.json."""
    canvas = Figure(figsize=(9, figure["height"]), layout="constrained")
    FigureCanvasAgg(canvas)
    KINDS[figure["kind"]](canvas.subplots(), figure, numbers)
    canvas.suptitle(figure["title"], fontsize=11)
    with atomic_write(path) as file:
        canvas.savefig(file, format="png", dpi=100, metadata={"Software": None})


def main(args: argparse.Namespace) -> None:
    """Write all figures, and the tables of all pages."""
    path = require_file(args.root / NUMBERS, "numbers of the results", "give the repository")
    numbers = json.loads(path.read_text(encoding="utf-8"))
    for name in PAGES:
        page = (args.root / name).read_text(encoding="utf-8")
        made = filled(page, numbers)
        if made != page:
            with atomic_write(args.root / name, "w") as file:
                file.write(made)
    draw(numbers, args.root / PLOT)
    for file, figure in numbers["figures"].items():
        draw_figure(figure, numbers, args.root / file)
    print(", ".join([*PAGES, PLOT, *numbers["figures"]]))


if __name__ == "__main__":
    run_script(main, parse_args)
