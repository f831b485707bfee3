"""Plots the figures of benchmarks/scaling.py in four panels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

Row = dict[str, Any]


def draw(figures: dict[str, list[Row]], path: Path, *, base: int) -> None:
    """Writes a PNG, 900 px wide."""
    figure = Figure(figsize=(9, 7), dpi=100, layout="constrained")
    by_size, by_batch, by_files, by_processes = figure.subplots(2, 2).flat
    _steps(by_size, figures["sizes"], "size", power=2)
    by_size.set(title="A step, batch 1", xlabel="side of the images, px", ylabel="ms a step")
    _steps(by_batch, figures["batches"], "batch", power=1)
    by_batch.set(title=f"A step, {base} px", xlabel="batch size", ylabel="ms a step")
    _files(by_files, figures["files"])
    rows = figures["processes"]
    heights = [row["images_per_second"] for row in rows]
    by_processes.bar_label(by_processes.bar([str(row["processes"]) for row in rows], heights))
    by_processes.set(title="Loading without a cache, 256 px", xlabel="loading processes")
    by_processes.set(ylabel="images a second")
    by_processes.margins(y=0.1)
    figure.savefig(path)


def _steps(axes: Axes, rows: Sequence[Row], x: str, *, power: int) -> None:
    """Milliseconds on logarithmic axes, with a line of slope `power` through the last point."""
    places = [row[x] for row in rows]
    axes.loglog(places, [row["ms"] for row in rows], "o-", label="measured")
    if rows:
        last = rows[-1]
        ideal = [last["ms"] * (place / last[x]) ** power for place in places]
        axes.loglog(places, ideal, "--", color="gray", label=f"in proportion to {x}^{power}")
    axes.set_xticks(places, [str(place) for place in places])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _finish(axes)


def _files(axes: Axes, rows: Sequence[Row]) -> None:
    places = [row["files"] for row in rows]
    names = {"check_s": "checks", "cache_key_s": "cache key", "first_batch_s": "first batch"}
    for name, label in names.items():
        axes.loglog(places, [row[name] for row in rows], "o-", label=label)
    axes.set(title="Before the first step", xlabel="files in both domains", ylabel="seconds")
    _finish(axes)
    if rows and rows[0]["peak_mb"] is not None:
        memory = axes.twinx()
        peaks = [row["peak_mb"] for row in rows]
        memory.semilogx(places, peaks, "k^:", label="peak memory (right)")
        memory.set(ylabel="MB", ylim=(0, 1.5 * max(peaks)))
        memory.legend(loc="lower right", fontsize=8)


def _finish(axes: Axes) -> None:
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)
