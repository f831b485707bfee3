"""The curves of a run so far, in bounded memory."""

import math
from collections.abc import Mapping
from typing import NamedTuple

# Odd, so that dropping every second point keeps the first and the newest.
MAX_POINTS = 501


class CurvePoints(NamedTuple):
    """A copy of a curve; `changes` counts its changes, and tells whether another copy is newer."""

    steps: list[int]
    values: list[float]
    changes: int = 0


class BoundedCurve:
    """Points at rising steps. As often as there are MAX_POINTS, every second one is dropped."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self.changes = 0
        self._stride = 1
        self._added = 0
        self._is_temporary = False

    def add(self, step: int, value: float) -> None:
        if self._is_temporary:
            self._pop()
        self.forget(step)
        self.steps.append(step)
        self.values.append(float(f"{value:.5g}"))
        # A point off the stride stays only while it is the newest.
        self._is_temporary = self._added % self._stride != 0
        self._added += 1
        self.changes += 1
        if len(self.steps) == MAX_POINTS and not self._is_temporary:
            del self.steps[1::2], self.values[1::2]
            self._stride *= 2

    def forget(self, step: int) -> None:
        """Drops the points at that step and later ones."""
        while self.steps and self.steps[-1] >= step:
            self._pop()

    def copy(self) -> CurvePoints:
        return CurvePoints(self.steps.copy(), self.values.copy(), self.changes)

    def _pop(self) -> None:
        self.steps.pop()
        self.values.pop()
        self.changes += 1
        self._is_temporary = False


class Curves:
    """All curves of a run, by name."""

    def __init__(self) -> None:
        self._curves: dict[str, BoundedCurve] = {}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._curves.setdefault(name, BoundedCurve()).add(step, value)

    def forget(self, step: int) -> None:
        for curve in self._curves.values():
            curve.forget(step)

    def copy(self) -> dict[str, CurvePoints]:
        return {name: curve.copy() for name, curve in self._curves.items() if curve.steps}
