"""The curves of a run so far, bounded however long it is."""

import math
from collections.abc import Mapping
from typing import NamedTuple

# Odd, so that dropping every second point keeps the first and the newest.
MAX_POINTS = 501


class Drawn(NamedTuple):
    """A curve as it is now; the number of its changes tells it from what was drawn before."""

    steps: list[int]
    values: list[float]
    changes: int = 0


class Curve:
    """Points at rising steps; each time there are MAX_POINTS of them, every second one goes."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self.changes = 0
        self._stride = 1
        self._seen = 0
        self._passing = False

    def add(self, step: int, value: float) -> None:
        if self._passing:
            self._pop()
        self.forget(step)
        self.steps.append(step)
        self.values.append(float(f"{value:.5g}"))
        # A point off the stride stays only while it is the newest.
        self._passing = self._seen % self._stride != 0
        self._seen += 1
        self.changes += 1
        if len(self.steps) == MAX_POINTS and not self._passing:
            del self.steps[1::2], self.values[1::2]
            self._stride *= 2

    def forget(self, step: int) -> None:
        """Drops the points at that step and later ones."""
        while self.steps and self.steps[-1] >= step:
            self._pop()

    def copy(self) -> Drawn:
        return Drawn(self.steps.copy(), self.values.copy(), self.changes)

    def _pop(self) -> None:
        self.steps.pop()
        self.values.pop()
        self.changes += 1
        self._passing = False


class Curves:
    """All curves of a run, by name."""

    def __init__(self) -> None:
        self._of: dict[str, Curve] = {}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._of.setdefault(name, Curve()).add(step, value)

    def forget(self, step: int) -> None:
        for curve in self._of.values():
            curve.forget(step)

    def copy(self) -> dict[str, Drawn]:
        return {name: curve.copy() for name, curve in self._of.items() if curve.steps}
