"""The metrics of a run as series, and the part of each that alarms are based on."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence

Points = Sequence[tuple[int, Mapping[str, float]]]

# Alarms ignore the beginning of a run, and need agreement over a recent window. Both are fractions
# of the run, limited to a number of steps. The window has at least MIN_VALUES.
BEGINNING, MAX_BEGINNING = 0.1, 2000
WINDOW, MAX_WINDOW = 0.1, 8000
MIN_VALUES = 4


class MetricSeries:
    """The finite values of each metric, in the order of steps.

    A run of days has tens of thousands of points, so most methods read them from the end.
    """

    def __init__(self, points: Points, *, total_steps: int) -> None:
        self.points = points
        self.suffix = ""
        last = points[-1][0] if points else 0
        self.beginning = min(BEGINNING * total_steps, MAX_BEGINNING)
        self.window_start = last - min(WINDOW * total_steps, MAX_WINDOW)

    def of(self, suffix: str) -> "MetricSeries":
        """The metrics of one domain or network, whose names lack that suffix; of "" all metrics."""
        part = copy.copy(self)
        part.suffix = f"_{suffix}" if suffix else ""
        return part

    def all(self, name: str) -> list[float]:
        name += self.suffix
        return [v[name] for _, v in self.points if name in v and math.isfinite(v[name])]

    def latest(self, name: str) -> float:
        """NaN without any value."""
        return next((value for _, value in self._backwards(name)), math.nan)

    def recent(self, name: str) -> list[float]:
        """The values of the window; none until MIN_VALUES follow the beginning."""
        found: list[float] = []
        for step, value in self._backwards(name):
            if step < self.beginning or (step < self.window_start and len(found) >= MIN_VALUES):
                break
            found.append(value)
        return found[::-1] if len(found) >= MIN_VALUES else []

    def highest(self, name: str) -> float:
        """The largest recent value; NaN, which compares as false, if there is none."""
        return max(self.recent(name), default=math.nan)

    def lowest(self, name: str) -> float:
        return min(self.recent(name), default=math.nan)

    def earlier(self, name: str) -> list[float]:
        """The values before the recent ones, if there are at least three."""
        values = self.all(name)
        before = values[: len(values) - len(self.recent(name))]
        return before if len(before) >= 3 else []

    def _backwards(self, name: str) -> Iterator[tuple[int, float]]:
        name += self.suffix
        for step, values in reversed(self.points):
            value = values.get(name)
            if value is not None and math.isfinite(value):
                yield step, value
