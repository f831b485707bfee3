"""The losses of each step on their way from the device, and what is made of them: running means,
throughput, and a guard against values that are not finite.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.training.step import GRADIENT

# A GPU may be this many steps behind the program.
LAG = 2

# The run rolls back after this many steps in a row without an update.
MAX_NONFINITE_STEPS = 3

# GradScaler overflows while it searches for a scale; more than this many in a row is a fault.
MAX_OVERFLOWS = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepMetrics:
    """The losses and gradient norms of a step; by domain, the index of each of its images in the
    data and the image's cycle error.
    """

    step: int
    values: dict[str, float]
    errors: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class PendingTransfer:
    """One row of numbers on its way to the host."""

    step: int
    names: tuple[str, ...]
    indices: dict[str, tuple[int, ...]]
    row: Tensor
    arrived: torch.Event | None

    def read(self) -> StepMetrics:
        if self.arrived is not None:
            self.arrived.synchronize()
        numbers = iter(self.row.tolist())
        values = {name: next(numbers) for name in self.names}
        errors = {d: [(i, next(numbers)) for i in each] for d, each in self.indices.items()}
        return StepMetrics(self.step, values, errors)


class AsyncMetrics:
    """Copies metrics to the host without waiting for the step that computes them."""

    def __init__(self, device: torch.device) -> None:
        self.lag = LAG if device.type == "cuda" else 0
        self.pending: deque[PendingTransfer] = deque()

    def put(
        self,
        step: int,
        values: Mapping[str, Tensor],
        errors: Mapping[str, tuple[Sequence[int], Tensor]] | None = None,
    ) -> Iterator[StepMetrics]:
        """Starts the copy of a step's scalars and, by domain, of its images' indices and errors of
        shape (N,); yields the metrics that have arrived.
        """
        errors = errors or {}
        numbers = [value.reshape(1) for value in values.values()]
        numbers += [each for _, each in errors.values()]
        if numbers:
            indices = {domain: tuple(each) for domain, (each, _) in errors.items()}
            row, arrived = _to_host(torch.cat(numbers))
            self.pending.append(PendingTransfer(step, tuple(values), indices, row, arrived))
        while len(self.pending) > self.lag:
            yield self.pending.popleft().read()

    def flush(self) -> Iterator[StepMetrics]:
        """Waits for all pending metrics."""
        while self.pending:
            yield self.pending.popleft().read()

    def reset(self) -> None:
        self.pending.clear()


class NonFiniteGuard:
    """Warns of metrics that are not finite. `TrainingStep.minimize` has skipped the update by then.

    single_process: several ranks share gradients but not losses, so that a gradient may overflow
    by the loss of another rank.
    """

    def __init__(self, *, fp16: bool, single_process: bool) -> None:
        self.fp16 = fp16
        self.single_process = single_process
        self.nonfinite_steps = 0
        self.overflows = 0

    def must_roll_back(self, metrics: StepMetrics) -> bool:
        names = [name for name, value in metrics.values.items() if not math.isfinite(value)]
        if not names:
            self.reset()
            return False
        overflow = not self.single_process or all(name.startswith(GRADIENT) for name in names)
        if self.fp16 and overflow and self.overflows < MAX_OVERFLOWS:
            self.overflows += 1
            return False
        self.nonfinite_steps += 1
        # The gradients of a non-finite loss are not finite either.
        named = [name for name in names if not name.startswith(GRADIENT)] or names
        logger.warning(
            "step %d: %s: not a finite number; its weights are left as they were",
            metrics.step,
            ", ".join(named),
        )
        return self.nonfinite_steps >= MAX_NONFINITE_STEPS

    def reset(self) -> None:
        self.nonfinite_steps = self.overflows = 0


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


def nonfinite_weights(model: nn.Module) -> list[str]:
    """The first few weights, or running statistics, that hold NaN or infinity."""
    return [
        f"weights of {name}"
        for name, value in model.state_dict().items()
        if not torch.isfinite(value).all()
    ][:3]


def _to_host(row: Tensor) -> tuple[Tensor, torch.Event | None]:
    if row.device.type != "cuda":
        return row.cpu(), None
    host = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
    host.copy_(row, non_blocking=True)
    arrived = torch.Event(row.device)
    arrived.record()
    return host, arrived
