"""What is told of a run between two reports: means of its losses, its speed."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Meter:
    """Means of values since the last `read`: over the steps that each was due at, and where it was
    a finite number.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def update(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


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


def broken_networks(model: nn.Module) -> list[str]:
    """The first few weights, or running statistics, that hold NaN or infinity."""
    return [
        f"weights of {name}"
        for name, value in model.state_dict().items()
        if not torch.isfinite(value).all()
    ][:3]


def is_sound(model: nn.Module) -> bool:
    """Whether there are weights to save: after some errors a GPU answers nothing any more."""
    try:
        return not broken_networks(model)
    except RuntimeError:
        return False
