"""The losses of each step on their way from the device, without a synchronization."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# A GPU may be this many steps behind the program.
LAG = 2


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


def _to_host(row: Tensor) -> tuple[Tensor, torch.Event | None]:
    if row.device.type != "cuda":
        return row.cpu(), None
    host = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
    host.copy_(row, non_blocking=True)
    arrived = torch.Event(row.device)
    arrived.record()
    return host, arrived
