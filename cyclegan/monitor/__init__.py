"""Monitors: where a run's numbers and pictures go. Each is three methods, and none can stop it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from cyclegan.runs.artifacts import Exhibit


class Monitor(Protocol):
    """Something that is told how a run goes. Steps rise, but for a run that went back to an
    earlier one: what was told of that step and later ones is then told again.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """The curves' values at a step; `curves.GROUPS` tells what they are."""

    def show(self, step: int, exhibit: Exhibit) -> None:
        """Something to look at; a monitor passes over what it has no way to show."""

    def close(self) -> None:
        """The run ends: write out what is still held back."""


class Monitors:
    """Tells several monitors; with none, it is the monitor that does nothing."""

    def __init__(self, monitors: Iterable[Monitor] = ()) -> None:
        self.monitors = list(monitors)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for monitor in self.monitors:
            monitor.scalars(step, values)

    def show(self, step: int, exhibit: Exhibit) -> None:
        for monitor in self.monitors:
            monitor.show(step, exhibit)

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.close()
