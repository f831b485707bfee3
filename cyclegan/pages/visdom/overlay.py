"""Several runs on one page of Visdom: a window for each curve, with a line for each run."""

from collections.abc import Iterator, Mapping
from functools import partial

from cyclegan.monitor.health.curves import grouped, smoothed
from cyclegan.monitor.health.history import CurvePoints
from cyclegan.pages.plots import is_noisy
from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.windows import Message, plot

COMPARE = "compare"  # the environment of that page
# Points of all runs in one window; with more, a browser is slow to draw.
_MAX_POINTS = 20_000


def overlay(runs: Mapping[str, Mapping[str, CurvePoints]]) -> Iterator[Window]:
    """A window for each curve of any of the runs, which are given by name."""
    names = {name for curves in runs.values() for name in curves}
    for name in (name for group in grouped(names).values() for name in group):
        # A run without this curve has an empty one, so that it keeps its colour everywhere.
        curves = {run: runs[run].get(name, CurvePoints([], [])) for run in sorted(runs)}
        key = tuple((run, curve.changes) for run, curve in curves.items())
        yield Window(name, key, partial(_plot, name, curves))


def _plot(name: str, curves: Mapping[str, CurvePoints]) -> Message:
    """Noisy curves as their running means alone: the points of two runs would hide the lines."""
    max_points = max(2, _MAX_POINTS // len(curves))
    lines = {}
    for run, curve in curves.items():
        values = smoothed(curve.values) if is_noisy(name) else curve.values
        stride = -(-len(values) // max_points) or 1
        # Counted from the end, so that the newest point is always there.
        lines[run] = CurvePoints(curve.steps[::-stride][::-1], values[::-stride][::-1])
    return plot(name, lines, of_runs=True)
