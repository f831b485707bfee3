"""Curves drawn as SVG: the values as they were told faint, their running means strong."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from cyclegan.monitor.health.curves import grouped, smoothed

# The drawing is so many units wide and high, whatever its size on the page.
UNITS = 1000
COLOURS, DASHES = 8, 4
_OWN_COLOURS = {"_G_AB": 0, "_G_BA": 1, "_D_A": 2, "_D_B": 3, "_A": 0, "_B": 1}
# A curve needs no more points than it has pixels.
_MOST_POINTS = 400
# Below that a running mean would lag behind more than it would calm.
_ENOUGH_TO_SMOOTH = 100
# Of the values at either end so many are rare: they do not flatten the rest.
_RARE = 0.01


class Line(Protocol):
    """A curve: its values, at rising steps."""

    @property
    def steps(self) -> Sequence[int]: ...

    @property
    def values(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class Span:
    """What an axis shows, and the round numbers on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """From 0 to 1, or beyond where the value lies beyond."""
        return (value - self.low) / (self.high - self.low)


def charts(curves: Mapping[str, Line]) -> Iterator[str]:
    """A figure for each group of curves that there are any of."""
    if not curves:
        return
    first = min(curve.steps[0] for curve in curves.values())
    last = max(curve.steps[-1] for curve in curves.values())
    steps = _span(first, max(last, first + 1), most=6, whole=True)
    for title, names in grouped(curves).items():
        yield _chart(title, {name: curves[name] for name in names}, steps)


def _chart(title: str, curves: Mapping[str, Line], steps: Span) -> str:
    means = {name: _means(curve.values) for name, curve in curves.items()}
    values = _range([curve.values for curve in curves.values()], list(means.values()))
    lines, legend = [], []
    for (name, curve), look in zip(curves.items(), _looks(curves), strict=True):
        told = _line(curve.steps, curve.values, steps, values)
        mean = _line(curve.steps, means[name], steps, values) if means[name] else told
        faint = f'<polyline class="told" points="{told}"/>' if means[name] else ""
        lines.append(f'<g class="{look}">{faint}<polyline points="{mean}"/></g>')
        newest = _three((means[name] or curve.values)[-1])
        legend.append(f'<li class="{look}">{escape(name)}<b>{newest}</b></li>')
    return (
        f'<figure class="chart" data-x="{steps.low:.6g} {steps.high:.6g}" '
        f'data-y="{values.low:.6g} {values.high:.6g}">'
        f'<figcaption><h3>{escape(title)}</h3><ul class="legend">{"".join(legend)}</ul>'
        f'</figcaption><div class="plot"><svg viewBox="0 0 {UNITS} {UNITS}" '
        f'preserveAspectRatio="none" aria-hidden="true">{_grid(values)}{"".join(lines)}</svg>'
        f"{_labels(steps, values)}</div></figure>"
    )


def _looks(names: Iterable[str]) -> Iterator[str]:
    """The classes of report.css: a domain, or a network, has the same colour in all figures, and
    what shares a colour is told apart by its dashes.
    """
    seen: Counter[int] = Counter()
    for name in names:
        whose = name.partition(".")[0]
        colour = next((c for end, c in _OWN_COLOURS.items() if whose.endswith(end)), None)
        if colour is None:
            colour = next(c for c in range(COLOURS) if not seen[c] or c == COLOURS - 1)
        yield f"c{colour} d{seen[colour] % DASHES}"
        seen[colour] += 1


def _means(values: Sequence[float]) -> list[float]:
    return smoothed(values) if len(values) >= _ENOUGH_TO_SMOOTH else []


def _range(told: Sequence[Sequence[float]], means: Sequence[Sequence[float]]) -> Span:
    """Wide enough for every mean, and for all values but the rarest."""
    lows, highs = [], []
    for values, mean in zip(told, means, strict=True):
        ordered = sorted(values)
        rare = int(_RARE * len(ordered)) if mean else 0
        lows.append(min([ordered[rare], *mean]))
        highs.append(max([ordered[-1 - rare], *mean]))
    low, high = min(lows), max(highs)
    # What comes near to 0 is shown from there on: how near is half of what a loss tells.
    if 0 < low < high / 2:
        low = 0.0
    return _span(low, high, most=5)


def _span(low: float, high: float, *, most: int, whole: bool = False) -> Span:
    """An axis from `low` to `high`, a little beyond where these are not round themselves."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        # A curve that does not move lies in the middle.
        room = 0.5 * abs(high) or 0.5
        low, high = low - room, high + room
    width = _round_up((high - low) / most)
    width = max(1.0, round(width)) if whole else width
    if not whole:
        margin = 0.04 * (high - low)
        low, high = (low if low == 0 else low - margin), high + margin
    begin, end = math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9)
    return Span(low, high, tuple(number * width for number in range(begin, end + 1)))


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    power = 10.0 ** math.floor(math.log10(width))
    steps = (1, 2, 5, 10)
    return steps[min(3, bisect_left(steps, width / power - 1e-9))] * power


def _line(at: Sequence[int], values: Sequence[float], x: Span, y: Span) -> str:
    """Of the thinned curve every so many points, and the newest."""
    stride = -(-len(at) // _MOST_POINTS)
    at, values = [*at[::-stride]][::-1], [*values[::-stride]][::-1]
    wide, tall = UNITS / (x.high - x.low), UNITS / (y.high - y.low)
    left, top = x.low, y.high
    # A little beyond the edge is enough for a line that leaves the drawing.
    points = [
        "%d,%d" % ((step - left) * wide, min(1100, max(-100, (top - value) * tall)))  # noqa: UP031
        for step, value in zip(at, values, strict=True)
    ]
    # A single point is drawn as the round end of a line without length.
    return " ".join(points if len(points) > 1 else points * 2)


def _grid(values: Span) -> str:
    lines = "".join(f"M0 {UNITS * (1 - values.place(tick)):.0f}H{UNITS}" for tick in values.ticks)
    return f'<path class="grid" d="{lines}"/>'


def _labels(steps: Span, values: Span) -> str:
    up = zip(values.ticks, _rounded(values.ticks), strict=True)
    along = zip(steps.ticks, _rounded(steps.ticks), strict=True)
    return "".join(
        f'<span class="y" style="bottom:{100 * values.place(tick):.1f}%">{name}</span>'
        for tick, name in up
    ) + "".join(
        f'<span class="x" style="left:{100 * steps.place(tick):.1f}%">{name}</span>'
        for tick, name in along
    )


def _rounded(ticks: Sequence[float]) -> list[str]:
    """As they stand on an axis, in one unit: 0, 0.25, 0.5; 5k, 10k; 2e-4."""
    largest = max(map(abs, ticks), default=0.0)
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if largest >= size:
            unit = 1e3 if letter == "k" else size
            return [f"{tick / unit:.4g}{letter}" if tick else "0" for tick in ticks]
    if 0 < largest < 1e-3:
        return [_scientific(tick) if tick else "0" for tick in ticks]
    return [f"{tick:.4g}" for tick in ticks]


def _scientific(value: float) -> str:
    mantissa, _, power = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def _three(value: float) -> str:
    """Three digits that say something, all of them of a large number; as report.js tells it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return _scientific(float(f"{value:.3g}")) if 0 < abs(value) < 1e-3 else f"{value:.3g}"
