"""Several runs on one page of Visdom: of each curve a window, in which every run has its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from cyclegan.monitor.health.curves import grouped, losses, smoothed
from cyclegan.monitor.health.history import Curves, Drawn
from cyclegan.pages.visdom.drawing import Drawing, Window
from cyclegan.pages.visdom.windows import Message, plot

COMPARE = "compare"
TIMEOUT = 5.0  # seconds for one message

# Of all runs in one window: beyond that a browser is slow to draw.
_MOST_POINTS = 20_000
_NOISY = "gradient_"


class Comparison:
    """The environment `compare` of a server."""

    def __init__(self, url: str) -> None:
        self._drawing = Drawing(COMPARE, timeout=TIMEOUT)
        self._drawing.url = url

    def draw(self, runs: Mapping[str, Curves]) -> None:
        """Sends what has changed; raises OSError where the server does not answer."""
        self._drawing.draw(_windows({name: curves.copy() for name, curves in runs.items()}))


def _windows(runs: Mapping[str, Mapping[str, Drawn]]) -> Iterator[Window]:
    names = {name for curves in runs.values() for name in curves}
    for together in grouped(names).values():
        for name in together:
            # A run without this curve has an empty one, so that it keeps its colour everywhere.
            lines = {run: curves.get(name, Drawn([], [], 0)) for run, curves in runs.items()}
            key = tuple((run, line.changes) for run, line in lines.items())
            yield Window(name, key, partial(_plot, name, lines))


def _plot(name: str, lines: Mapping[str, Drawn]) -> Message:
    most = max(2, _MOST_POINTS // len(lines))
    message = plot(name, {run: _calm(name, line, most=most) for run, line in lines.items()})
    if name == "psnr":
        # Of decibels the distance from 0 says nothing.
        message["layout"]["yaxis"]["rangemode"] = "normal"
    return message


def _calm(name: str, line: Drawn, *, most: int) -> Drawn:
    """Noisy curves as their running means: of two runs at once, the points would hide each other's
    lines.
    """
    noisy = name.startswith(_NOISY) or bool(losses({name: 0.0}))
    values = smoothed(line.values) if noisy else line.values
    stride = -(-len(line.steps) // most) or 1
    # From the end on: the newest is always there.
    return Drawn(line.steps[::-stride][::-1], values[::-stride][::-1], line.changes)
