"""Curves as SVG charts."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from cyclegan.monitor.health.curves import grouped
from cyclegan.monitor.health.history import CurvePoints
from cyclegan.pages.plots import Line, lines_of

# Width and height of a drawing in its own coordinates, whatever its size on the page.
UNITS = 1000
_MIN_SMOOTHED = 100  # a running mean of fewer points lags behind more than it smooths
_OUTLIERS = 0.01  # fraction of a curve's values, at either end, that its axis may leave out


@dataclass(frozen=True)
class Axis:
    """The range of an axis and the round numbers on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        """0 at the low end and 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def charts(curves: Mapping[str, CurvePoints]) -> Iterator[str]:
    """A figure for each group of curves."""
    if not curves:
        return
    first = min(curve.steps[0] for curve in curves.values())
    last = max(curve.steps[-1] for curve in curves.values())
    steps = _axis(first, max(last, first + 1), max_ticks=6, integer=True)
    for title, names in grouped(curves).items():
        chosen = {name: curves[name] for name in names}
        lines = lines_of(chosen, smooth=lambda name, values: len(values) >= _MIN_SMOOTHED)
        yield _chart(title, list(lines), steps)


def _chart(title: str, lines: Sequence[Line], x: Axis) -> str:
    y = _value_axis(lines)
    drawn, legend = "", ""
    for line in lines:
        style = f"c{line.colour} d{line.dash}"
        main = _points(line.steps, line.means or line.values, x, y)
        faint = _points(line.steps, line.values, x, y) if line.means else ""
        faint = f'<polyline class="faint" points="{faint}"/>' if faint else ""
        drawn += f'<g class="{style}">{faint}<polyline points="{main}"/></g>'
        newest = _three_digits((line.means or line.values)[-1])
        legend += f'<li class="{style}">{escape(line.name)}<b>{newest}</b></li>'
    grid = "".join(f"M0 {UNITS * (1 - y.position(tick)):.0f}H{UNITS}" for tick in y.ticks)
    return (
        f'<figure class="chart" data-x="{x.low:.6g} {x.high:.6g}" '
        f'data-y="{y.low:.6g} {y.high:.6g}">'
        f'<figcaption><h3>{escape(title)}</h3><ul class="legend">{legend}</ul></figcaption>'
        f'<div class="plot"><svg viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path class="grid" d="{grid}"/>{drawn}</svg>'
        f"{_tick_labels(y, 'y', 'bottom')}{_tick_labels(x, 'x', 'left')}</div></figure>"
    )


def _value_axis(lines: Sequence[Line]) -> Axis:
    """Includes every mean, and every value but the outliers of curves with means."""
    lows, highs = [], []
    for line in lines:
        ordered = sorted(line.values)
        outliers = int(_OUTLIERS * len(ordered)) if line.means else 0
        lows.append(min([ordered[outliers], *line.means]))
        highs.append(max([ordered[-1 - outliers], *line.means]))
    low, high = min(lows), max(highs)
    # A range that comes near 0 begins there, so that relative changes can be seen.
    return _axis(0.0 if 0 < low < high / 2 else low, high, max_ticks=5)


def _axis(low: float, high: float, *, max_ticks: int, integer: bool = False) -> Axis:
    """An axis from `low` to `high`, with a small margin if its numbers are not integers."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        # A constant curve lies in the middle.
        margin = 0.5 * abs(high) or 0.5
        low, high = low - margin, high + margin
    width = _round_up((high - low) / max_ticks)
    if integer:
        width = max(1.0, round(width))
    else:
        margin = 0.04 * (high - low)
        low, high = (low if low == 0 else low - margin), high + margin
    begin, end = math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9)
    return Axis(low, high, tuple(number * width for number in range(begin, end + 1)))


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    power = 10.0 ** math.floor(math.log10(width))
    steps = (1, 2, 5, 10)
    return steps[min(3, bisect_left(steps, width / power - 1e-9))] * power


def _points(steps: Sequence[int], values: Sequence[float], x: Axis, y: Axis) -> str:
    """The points of a polyline."""
    width, height = UNITS / (x.high - x.low), UNITS / (y.high - y.low)
    left, top = x.low, y.high
    # Slightly beyond the edge is enough for a line that leaves the drawing.
    points = [
        f"{int((step - left) * width)},{int(min(1100, max(-100, (top - value) * height)))}"
        for step, value in zip(steps, values, strict=True)
    ]
    # A line from a point to itself is drawn as its round end.
    return " ".join(points if len(points) > 1 else points * 2)


def _tick_labels(axis: Axis, name: str, side: str) -> str:
    return "".join(
        f'<span class="{name}" style="{side}:{100 * axis.position(tick):.1f}%">{label}</span>'
        for tick, label in zip(axis.ticks, _labels(axis.ticks), strict=True)
    )


def _labels(ticks: Sequence[float]) -> list[str]:
    """All in the same unit: 0, 0.25, 0.5; 5k, 10k; 2e-4."""
    largest = max(map(abs, ticks), default=0.0)
    for limit, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if largest >= limit:
            return [f"{tick / unit:.4g}{letter}" if tick else "0" for tick in ticks]
    if 0 < largest < 1e-3:
        return [_scientific(tick) if tick else "0" for tick in ticks]
    return [f"{tick:.4g}" for tick in ticks]


def _scientific(value: float) -> str:
    mantissa, _, power = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def _three_digits(value: float) -> str:
    """Three significant digits, or all digits of a large integer; report.js does the same."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return _scientific(float(f"{value:.3g}")) if 0 < abs(value) < 1e-3 else f"{value:.3g}"
