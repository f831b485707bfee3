"""Running means of the losses, kept on the device until somebody asks."""

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Meter:
    """`update` costs no synchronization; `read` does, and starts over. A loss that is not due at
    every step is averaged over the steps that it was.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def update(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        means = self.peek()
        self.sums, self.counts = {}, {}
        return means

    def peek(self) -> dict[str, float]:
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}


class Interval:
    """Speed between two reports. Previews and saves count; waiting for images is told apart."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.steps = 0
        self.waited = 0.0
        self.began = self.idle_since = time.monotonic()

    def batch_arrived(self) -> None:
        self.waited += time.monotonic() - self.idle_since
        self.steps += 1

    def step_done(self) -> None:
        self.idle_since = time.monotonic()

    def read(self, position: int) -> dict[str, float]:
        """images_per_second, data_wait in seconds a step, and data_share of the time, 0 to 1."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        return {
            "images_per_second": (position - self.position) / seconds,
            "data_wait": self.waited / max(self.steps, 1),
            "data_share": self.waited / seconds,
        }


def not_finite(values: Mapping[str, float]) -> list[str]:
    """The names whose values are NaN or infinite."""
    return [name for name, value in values.items() if not math.isfinite(value)]


def broken_networks(model: nn.Module) -> list[str]:
    """The parameters that hold NaN or infinity."""
    return [
        f"weights of {name}"
        for name, parameter in model.named_parameters()
        if not torch.isfinite(parameter).all()
    ][:3]
