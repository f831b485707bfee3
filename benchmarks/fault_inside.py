"""Faults inside the program, as losses and penalties of the user's own.

Each equals the part that it replaces, bit for bit, until a given step, and always if FAULTS is not
set in the environment. `benchmarks/faults.py` uses them in options such as
--cycle_A "10*fault_inside.Wrong(value='nan', first=12)".
"""

import errno
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cyclegan.losses.penalties import R1
from cyclegan.losses.weighted import Clock

ARMED = "FAULTS"
DAY = 86_400.0

T = TypeVar("T")


class _Faulty(nn.L1Loss):
    """The L1 loss. `strikes` is true for the calls that fail, from the step `first` on."""

    def __init__(self, *, first: int = 12, count: int = 1) -> None:
        """count: the number of calls that fail; 0: all later calls."""
        super().__init__()
        self.first = first
        self.count = count
        self.struck = 0

    def strikes(self) -> bool:
        if ARMED not in os.environ or _step() < self.first or self.struck == self.count > 0:
            return False
        self.struck += 1
        return True


class Wrong(_Faulty):
    """Returns the loss times `value`, which is not finite, with its gradient."""

    def __init__(self, *, value: str = "nan", first: int = 12, count: int = 1) -> None:
        super().__init__(first=first, count=count)
        self.value = float(value)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss = super().forward(input, target)
        return loss * self.value if self.strikes() else loss


class OutOfMemory(_Faulty):
    """Raises torch.OutOfMemoryError."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 EiB.")
        return super().forward(input, target)


class Raises(_Faulty):
    """Raises RuntimeError, like a mistake in a loss."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            raise RuntimeError("shapes (3, 32) and (32, 3)\ndo not fit")
        return super().forward(input, target)


class Sleeps(_Faulty):
    """Sleeps before it returns."""

    def __init__(self, *, seconds: float, first: int = 12, count: int = 1) -> None:
        super().__init__(first=first, count=count)
        self.seconds = seconds

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            time.sleep(self.seconds)
        return super().forward(input, target)


class ClockJumps(_Faulty):
    """Sets time.time a day ahead, and later two days back; time.monotonic is unchanged."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            truth, ahead = time.time, DAY if self.struck == 1 else -2 * DAY
            time.time = lambda: truth() + ahead
        return super().forward(input, target)


class DriveHiccups(nn.L1Loss):
    """Makes 2 of 7 calls that open an image fail, and 1 of 7 that read, from the start on."""

    def __init__(self) -> None:
        super().__init__()
        if ARMED in os.environ:
            os.open = _hiccups(os.open, errno.EIO, times=2, concerns=_is_image)
            os.pread = _hiccups(os.pread, errno.ESTALE, times=1, concerns=lambda _: True)


class PenaltyFails(R1):
    """R1 that fails `count` times from the step `first` on, after the generators' update: `kind` is
    memory, raises, or a number by which the penalty is multiplied.
    """

    def __init__(self, *, kind: str, first: int = 12, count: int = 1) -> None:
        super().__init__(every=1)
        self.kind = kind
        self.fault = _Faulty(first=first, count=count)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        penalty = super().__call__(discriminator, fake, real)
        if not self.fault.strikes():
            return penalty
        if self.kind == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 EiB.")
        if self.kind == "raises":
            raise RuntimeError("no such thing")
        return penalty * float(self.kind)


def _step() -> int:
    """The number of the current step, from 1; 0 in a trial of the parts."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        clock = frame.f_locals.get("clock")
        if frame.f_code.co_name == "evaluate" and isinstance(clock, Clock):
            return clock.step + 1
        frame = frame.f_back
    return 0


def _hiccups(
    call: Callable[..., T], number: int, *, times: int, concerns: Callable[[Any], bool]
) -> Any:
    calls = 0

    def made(first: Any, *others: Any, **more: Any) -> T:
        nonlocal calls
        if concerns(first):
            calls += 1
            if 1 <= calls % 7 <= times:
                raise OSError(number, os.strerror(number), str(first))
        return call(first, *others, **more)

    return made


def _is_image(path: Any) -> bool:
    return str(path).endswith((".png", ".tar"))
