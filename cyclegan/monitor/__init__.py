"""Monitors receive a run's numbers and pictures. Each has three methods, and none can stop it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from cyclegan.runs.artifacts import (
    Alarm,
    Artifact,
    HardImage,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)

__all__ = ["Alarm", "Artifact", "HardImage", "HardImages", "Health", "Histogram", "Histograms"]
__all__ += ["Monitor", "Monitors", "Preview"]


class Monitor(Protocol):
    """Receives what a run reports. Steps rise, except after a rollback: then the points of the
    step that the run returns to, and of later ones, come again.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Receives the values of the curves; `health.curves.GROUPS` explains their names."""

    def show(self, step: int, artifact: Artifact) -> None:
        """Receives something to look at; a monitor ignores the kinds that it cannot show."""

    def close(self) -> None:
        """Writes what is still held back, at the end of the run."""


class Monitors:
    """Passes everything on to several monitors, or to none."""

    def __init__(self, monitors: Iterable[Monitor] = ()) -> None:
        self.monitors = list(monitors)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for monitor in self.monitors:
            monitor.scalars(step, values)

    def show(self, step: int, artifact: Artifact) -> None:
        for monitor in self.monitors:
            monitor.show(step, artifact)

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.close()
