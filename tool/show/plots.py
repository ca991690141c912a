"""Figures for reports, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tool.file.atomic import atomic_write


def plot_threshold_curve(
    path: str | Path,
    thresholds: Sequence[float],
    curves: Mapping[str, np.ndarray],
    best: int,
    title: str,
) -> None:
    """Write a PNG of mIoU (percent) against the background threshold (unit scale), a line for each
    named curve.

    thresholds: (T,); curves: name -> (T,) mIoU; the first curve's maximum, at index best, is marked
    with its numbers.
    """
    # slow to import, and nothing to scripts that are asked for no curve
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        title=title, xlabel="background threshold (unit CAM scale)", ylabel="mIoU (%)"
    )
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(thresholds, values, label=name, linestyle="-" if index == 0 else "--")
    highest = next(iter(curves.values()))[best]
    axes.plot(
        thresholds[best],
        highest,
        "o",
        color="black",
        label=f"best: {highest:.2f} % at {thresholds[best]:.2f}",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)
