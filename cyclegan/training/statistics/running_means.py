"""Means of the losses, and images per second, between two reports."""

import math
import time
from collections.abc import Mapping
from typing import Any


class RunningMeans:
    """Means of the values since the last `read`, over the steps at which each was finite."""

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


class Throughput:
    """Images per second between two reports, previews and saves included, and the time spent
    waiting for data.
    """

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
        """images_per_second, data_wait in seconds per step, and data_share of the time, 0 to 1."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        return {
            "images_per_second": (position - self.position) / seconds,
            "data_wait": self.waited / max(self.steps, 1),
            "data_share": self.waited / seconds,
        }
