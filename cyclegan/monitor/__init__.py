"""Monitors: where a run's numbers and pictures go. Each is three methods, and none can stop it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from PIL import Image


class Monitor(Protocol):
    """Something that is told how a run goes."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """The curves' values at a step: losses by name, lr, images_per_second."""

    def preview(self, step: int, image: Image.Image) -> None:
        """What the generators now make of the run's fixed images, as one picture."""

    def close(self) -> None:
        """The run ends: write out what is still held back."""


class Monitors:
    """Tells several monitors; with none, it is the monitor that does nothing."""

    def __init__(self, monitors: Iterable[Monitor] = ()) -> None:
        self.monitors = list(monitors)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for monitor in self.monitors:
            monitor.scalars(step, values)

    def preview(self, step: int, image: Image.Image) -> None:
        for monitor in self.monitors:
            monitor.preview(step, image)

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.close()
