"""Tables of results: several seeds to a row, ours beside the published number, as Markdown, CSV and
HTML.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from tool.bootstrap import LEVEL, is_shown
from tool.show import page

PUBLISHED = "published*"
COLUMNS = (
    "setting",
    "stage",
    "split",
    "images",
    "classes",
    "seeds",
    "mIoU (%)",
    "threshold",
    "auto",
    PUBLISHED,
    "wall time",
    "commit",
)
NUMBERS = (3, 4, 5, 6, 7, 8, 9, 10)
LEGEND = (
    "mIoU: mean over as many classes as the column says, background among them; mean and standard "
    "deviation (n - 1) over seeds, at the best background threshold of each seed on the masks of "
    "the split; after the CRF as it decided, the threshold being the score that its background "
    "had; auto: the mIoU at the threshold chosen without masks. In brackets: the "
    f"{LEVEL} % interval of the mean over the photographs of the split, networks and thresholds as "
    "they are (bootstrap). Wall time: mean of a seed, of the commands that a row builds on; maps "
    "that another list had made before cost it nothing. "
)

DIFFERENCES = "Differences"
DIFFERENCE_COLUMNS = ("row", "less", "seeds", "points", "points, auto")
DIFFERENCE_LEGEND = (
    f"Both rows on the same photographs, mean over the training seeds that both have, in brackets "
    f"the {LEVEL} % interval over the photographs, paired. Not shown: 0 lies inside, so that the "
    "list does not tell which is better. Another training may differ by more. Masks, made without "
    "real ones, stand against maps at the threshold chosen without masks, under auto alone."
)


@dataclass(frozen=True)
class Measurement:
    """One seed's evaluation: mIoU in percent over a number of classes, thresholds in unit scale
    (None: no threshold), wall time in seconds.
    """

    seed: int
    miou: float
    threshold: float | None
    auto_miou: float | None
    auto_threshold: float | None
    images: int
    classes: int
    seconds: float
    commits: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A line of a table: the measurements of one setting at one stage on one split; published in
    percent, None: not in print; intervals of the mean mIoU and of the mean auto mIoU over the
    photographs, None: not known.
    """

    setting: str
    stage: str
    split: str
    published: float | None
    measurements: tuple[Measurement, ...]
    interval: tuple[float, float] | None = None
    auto_interval: tuple[float, float] | None = None

    @property
    def mious(self) -> list[float]:
        """A value a seed, percent."""
        return [measurement.miou for measurement in self.measurements]


@dataclass(frozen=True)
class Difference:
    """How much a row is above another on the same photographs, mean over the training seeds that
    both have: (points, its interval over the photographs); best: None between maps and masks;
    auto: at the thresholds chosen without masks, masks as they are; None where maps have no such
    threshold.
    """

    name: str
    other: str
    seeds: tuple[int, ...]
    best: tuple[float, tuple[float, float]] | None
    auto: tuple[float, tuple[float, float]] | None


def brackets(limits: tuple[float, float] | None) -> str:
    """ " [49.03, 54.70]", "" for None."""
    return "" if limits is None else " [{:.2f}, {:.2f}]".format(*limits)


def difference_text(value: tuple[float, tuple[float, float]] | None) -> str:
    """ "+5.20 [+3.10, +7.30]", with "not shown" where 0 lies inside; "" for None."""
    if value is None:
        return ""
    points, (low, high) = value
    text = f"{points:+.2f} [{low:+.2f}, {high:+.2f}]"
    return text if is_shown((low, high)) else f"{text}, not shown"


def mean_std(values: Sequence[float]) -> str:
    """ "51.98 ± 0.31", without the deviation for one value, "" for none."""
    if not values:
        return ""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def span(values: Sequence[float]) -> str:
    """ "0.31", or "0.31 to 0.36" where seeds differ, "" for none."""
    if not values:
        return ""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """ "45 s", "12 min" or "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def short_commit(commit: str) -> str:
    """A commit's first seven digits, with "-dirty" kept."""
    name, _, state = commit.partition("-")
    return name[:7] + (f"-{state}" if state else "")


def _unique(values: Sequence) -> list:
    return list(dict.fromkeys(values))


def cells(row: Row) -> tuple[str, ...]:
    """The row's texts, in the order of COLUMNS."""
    found = row.measurements
    autos = [(m.auto_miou, m.auto_threshold) for m in found if m.auto_miou is not None]
    auto = (
        f"{mean_std([miou for miou, _ in autos])}{brackets(row.auto_interval)} @ "
        f"{span([t for _, t in autos])}"
        if autos
        else ""
    )
    return (
        row.setting,
        row.stage,
        row.split,
        ", ".join(str(images) for images in _unique([m.images for m in found])),
        ", ".join(str(classes) for classes in _unique([m.classes for m in found])),
        ", ".join(str(m.seed) for m in found),
        mean_std(row.mious) + brackets(row.interval),
        span([m.threshold for m in found if m.threshold is not None]),
        auto,
        "" if row.published is None else f"{row.published:g}",
        duration(mean(m.seconds for m in found)) if found else "",
        ", ".join(_unique([short_commit(commit) for m in found for commit in m.commits])),
    )


def difference_cells(difference: Difference) -> tuple[str, ...]:
    """The texts of a difference, in the order of DIFFERENCE_COLUMNS."""
    return (
        difference.name,
        difference.other,
        ", ".join(map(str, difference.seeds)),
        difference_text(difference.best),
        difference_text(difference.auto),
    )


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(line)} |" for line in escaped),
    ]
    return "\n".join(lines)


def markdown(
    title: str,
    notes: Sequence[str],
    rows: Sequence[Row],
    differences: Sequence[Difference] = (),
) -> str:
    """A heading, notes as paragraphs, the table, and that of the differences."""
    parts = [f"# {title}", *notes, _markdown_table(COLUMNS, map(cells, rows))]
    if differences:
        table = _markdown_table(DIFFERENCE_COLUMNS, map(difference_cells, differences))
        parts += [f"## {DIFFERENCES}", DIFFERENCE_LEGEND, table]
    return "\n\n".join(parts) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """The table with a line for each row, numbers unrounded, and each seed's numbers side by side,
    separated by spaces.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("miou", "threshold", "auto_miou", "auto_threshold")
    per_seed = [f"{name}_by_seed" for name in names]
    writer.writerow(
        [
            "setting",
            "stage",
            "split",
            "images",
            "classes",
            "seeds",
            "miou",
            "std",
            *per_seed,
            "published",
            "seconds",
            "commits",
            "miou_low",
            "miou_high",
            "auto_miou_low",
            "auto_miou_high",
        ]
    )
    for row in rows:
        found, mious = row.measurements, row.mious
        writer.writerow(
            [
                row.setting,
                row.stage,
                row.split,
                " ".join(str(images) for images in _unique([m.images for m in found])),
                " ".join(str(classes) for classes in _unique([m.classes for m in found])),
                " ".join(str(m.seed) for m in found),
                mean(mious) if mious else "",
                stdev(mious) if len(mious) > 1 else "",
                *(
                    " ".join(str(getattr(m, name)) for m in found if getattr(m, name) is not None)
                    for name in names
                ),
                "" if row.published is None else row.published,
                mean(m.seconds for m in found) if found else "",
                " ".join(_unique([commit for m in found for commit in m.commits])),
                *(row.interval or ("", "")),
                *(row.auto_interval or ("", "")),
            ]
        )
    return text.getvalue()


def differences_csv(differences: Sequence[Difference]) -> str:
    """A line for each difference, numbers unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("points", "low", "high", "shown")
    writer.writerow(["row", "less", "seeds", *names, *(f"auto_{name}" for name in names)])
    for difference in differences:
        numbers = []
        for value in (difference.best, difference.auto):
            numbers += [value[0], *value[1], is_shown(value[1])] if value else [""] * len(names)
        seeds = " ".join(map(str, difference.seeds))
        writer.writerow([difference.name, difference.other, seeds, *numbers])
    return text.getvalue()


def html(
    title: str,
    notes: Sequence[str],
    rows: Sequence[Row],
    commands: Sequence[str],
    differences: Sequence[Difference] = (),
) -> str:
    """A page with the table, that of the differences, a chart of all seeds, and the commands."""
    body = [f"<h1>{page.escape(title)}</h1>", *(page.paragraph(note, soft=True) for note in notes)]
    body.append(page.section("Table", page.table(COLUMNS, [cells(row) for row in rows], NUMBERS)))
    if differences:
        table = page.table(DIFFERENCE_COLUMNS, map(difference_cells, differences), (3, 4))
        legend = page.paragraph(DIFFERENCE_LEGEND, soft=True)
        body.append(page.section(DIFFERENCES, table, legend))
    dots = [
        page.DotRow(f"{row.setting}, {row.stage}, {row.split}", row.mious, row.published)
        for row in rows
        if row.mious or row.published is not None
    ]
    if dots:
        legend = "Small dots: one seed each; large: their mean; open diamonds: published*."
        body.append(
            page.section(
                "Chart", page.dot_chart(dots, "mIoU (%)"), page.paragraph(legend, soft=True)
            )
        )
    body.append(
        page.section("How it was made", page.details(f"{len(commands)} commands", commands))
    )
    return page.page(title, "\n".join(body))
