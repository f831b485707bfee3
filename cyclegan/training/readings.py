"""The losses of each step on their way from the device, and what they say of its health."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Steps that a GPU may be behind the program that tells it what to do.
LAG = 2

# After so many steps in a row without an update, the run goes back.
MOST_FAULTS = 3

# In fp16 a gradient past the range is how the scale is found; so many in a row are no search.
LONGEST_SEARCH = 20

# What `minimize` calls the length of a gradient, beside the losses.
GRADIENTS = ("gradient_G", "gradient_D")


@dataclass(frozen=True)
class Reading:
    """The losses of a step, and the lengths of its gradients."""

    step: int
    values: dict[str, float]


class Readings:
    """Brings values to the host without waiting for the step that is under way."""

    def __init__(self, device: torch.device) -> None:
        self.lag = LAG if device.type == "cuda" else 0
        self.under_way: deque[tuple[int, tuple[str, ...], Tensor, torch.Event | None]] = deque()

    def put(self, step: int, values: Mapping[str, Tensor]) -> Iterator[Reading]:
        """A step's values on the device; gives the readings that have come by now."""
        if values:
            self.under_way.append((step, tuple(values), *_sent(torch.stack(list(values.values())))))
        while len(self.under_way) > self.lag:
            yield self._next()

    def rest(self) -> Iterator[Reading]:
        """Waits for all that is still under way."""
        while self.under_way:
            yield self._next()

    def forget(self) -> None:
        self.under_way.clear()

    def _next(self) -> Reading:
        step, names, row, arrived = self.under_way.popleft()
        if arrived is not None:
            arrived.synchronize()
        return Reading(step, dict(zip(names, row.tolist(), strict=True)))


class Guard:
    """Names what is not a finite number. No update was made by then: `Stepper.minimize` sees to
    that by itself.
    """

    def __init__(self, *, fp16: bool, alone: bool, say: Callable[[str], object]) -> None:
        """alone: in one process; several have gradients in common, but not losses."""
        self.fp16 = fp16
        self.alone = alone
        self.say = say
        self.in_a_row = 0
        self.searching = 0

    def look(self, reading: Reading) -> bool:
        """Whether it is time to go back to what was saved."""
        names = not_finite(reading.values)
        if not names:
            self.forget()
            return False
        searches = not self.alone or all(name in GRADIENTS for name in names)
        if self.fp16 and searches and self.searching < LONGEST_SEARCH:
            self.searching += 1
            return False
        self.in_a_row += 1
        self.say(
            f"warning: step {reading.step}: {', '.join(names)}: not a finite number; "
            "its weights are left as they were"
        )
        return self.in_a_row >= MOST_FAULTS

    def forget(self) -> None:
        self.in_a_row = self.searching = 0


def not_finite(values: Mapping[str, float]) -> list[str]:
    """The names whose values are NaN or infinite."""
    return [name for name, value in values.items() if not math.isfinite(value)]


def _sent(row: Tensor) -> tuple[Tensor, torch.Event | None]:
    if row.device.type != "cuda":
        return row.cpu(), None
    there = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
    there.copy_(row, non_blocking=True)
    arrived = torch.Event(row.device)
    arrived.record()
    return there, arrived
