"""A run's numbers, as far as they may be held against it."""

import math
from collections.abc import Iterator, Mapping, Sequence

Points = Sequence[tuple[int, Mapping[str, float]]]

# The beginning, of which nothing is held against a run, and the stretch over which all measurements
# must agree: shares of the run, and at most so many steps.
BEGINNING, LONGEST_BEGINNING = 0.1, 2000
STRETCH, LONGEST_STRETCH = 0.1, 8000
FEWEST = 4


class Record:
    """The numbers of a run by name, in the order of steps; what is not finite is passed over.

    A run of days has tens of thousands of points: most is read from their end.
    """

    def __init__(self, points: Points, *, total_steps: int) -> None:
        self.points = points
        last = points[-1][0] if points else 0
        self.begun = min(BEGINNING * total_steps, LONGEST_BEGINNING)
        self.since = last - min(STRETCH * total_steps, LONGEST_STRETCH)

    def all(self, name: str) -> list[float]:
        return [
            values[name]
            for _, values in self.points
            if name in values and math.isfinite(values[name])
        ]

    def latest(self, name: str) -> float | None:
        return next((value for _, value in self._backwards(name)), None)

    def recent(self, name: str) -> list[float]:
        """The values of the stretch, at least FEWEST of them; none while there are not so many past
        the beginning.
        """
        found: list[float] = []
        for step, value in self._backwards(name):
            if step < self.begun or (step < self.since and len(found) >= FEWEST):
                break
            found.append(value)
        return found[::-1] if len(found) >= FEWEST else []

    def _backwards(self, name: str) -> Iterator[tuple[int, float]]:
        for step, values in reversed(self.points):
            value = values.get(name)
            if value is not None and math.isfinite(value):
                yield step, value
