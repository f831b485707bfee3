"""The losses of each step on their way from the device, and what they say of its health."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cyclegan.training.step import GRADIENT

# Steps that a GPU may be behind the program that tells it what to do.
LAG = 2

# After so many steps in a row without an update, the run goes back.
MOST_FAULTS = 3

# In fp16 a gradient past the range is how the scale is found; so many in a row are no search.
LONGEST_SEARCH = 20


@dataclass(frozen=True)
class Reading:
    """The losses of a step, and the lengths of its gradients; by domain, the places of its images
    and the cycle error of each.
    """

    step: int
    values: dict[str, float]
    errors: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sent:
    """What is under way."""

    step: int
    names: tuple[str, ...]
    places: dict[str, tuple[int, ...]]
    row: Tensor
    arrived: torch.Event | None

    def read(self) -> Reading:
        if self.arrived is not None:
            self.arrived.synchronize()
        numbers = iter(self.row.tolist())
        values = {name: next(numbers) for name in self.names}
        errors = {d: [(place, next(numbers)) for place in of] for d, of in self.places.items()}
        return Reading(self.step, values, errors)


class Readings:
    """Brings values to the host without waiting for the step that is under way."""

    def __init__(self, device: torch.device) -> None:
        self.lag = LAG if device.type == "cuda" else 0
        self.under_way: deque[_Sent] = deque()

    def put(
        self,
        step: int,
        values: Mapping[str, Tensor],
        errors: Mapping[str, tuple[Sequence[int], Tensor]] | None = None,
    ) -> Iterator[Reading]:
        """A step's values on the device, and by domain its images' places and errors, of shape
        (N,); gives the readings that have come by now.
        """
        errors = errors or {}
        numbers = [value.reshape(1) for value in values.values()]
        numbers += [each for _, each in errors.values()]
        if numbers:
            places = {domain: tuple(of) for domain, (of, _) in errors.items()}
            sent = _sent(torch.cat(numbers))
            self.under_way.append(_Sent(step, tuple(values), places, *sent))
        while len(self.under_way) > self.lag:
            yield self.under_way.popleft().read()

    def rest(self) -> Iterator[Reading]:
        """Waits for all that is still under way."""
        while self.under_way:
            yield self.under_way.popleft().read()

    def forget(self) -> None:
        self.under_way.clear()


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
        searches = not self.alone or all(name.startswith(GRADIENT) for name in names)
        if self.fp16 and searches and self.searching < LONGEST_SEARCH:
            self.searching += 1
            return False
        self.in_a_row += 1
        # With a loss its gradients go as a matter of course.
        told = [name for name in names if not name.startswith(GRADIENT)] or names
        self.say(
            f"warning: step {reading.step}: {', '.join(told)}: not a finite number; "
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
