"""Faults that only the program itself can have, in losses and penalties of the user's own.

Each is what it stands for, bit for bit, until the step that it is told, and only where FAULTS is
set in the environment: a run that goes on without it is a whole one. `benchmarks/faults.py` names
them, as in --cycle_A "10*fault_inside.Wrong(value='nan', first=12)".
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
    """The L1 loss; `strikes` says whether this call, from the step `first` on, is to go wrong."""

    def __init__(self, *, first: int = 12, count: int = 1) -> None:
        """count: of calls that go wrong; 0: all from then on."""
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
    """Gives `value`, which is not finite, and a gradient of it."""

    def __init__(self, *, value: str = "nan", first: int = 12, count: int = 1) -> None:
        super().__init__(first=first, count=count)
        self.value = float(value)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss = super().forward(input, target)
        return loss * self.value if self.strikes() else loss


class OutOfMemory(_Faulty):
    """Asks for more memory than there is."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 EiB.")
        return super().forward(input, target)


class Raises(_Faulty):
    """Fails as a mistake in somebody's loss does."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            raise RuntimeError("shapes (3, 32) and (32, 3)\ndo not fit")
        return super().forward(input, target)


class Sleeps(_Faulty):
    """Takes its time."""

    def __init__(self, *, seconds: float, first: int = 12, count: int = 1) -> None:
        super().__init__(first=first, count=count)
        self.seconds = seconds

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            time.sleep(self.seconds)
        return super().forward(input, target)


class ClockJumps(_Faulty):
    """The clock of the wall goes a day ahead, later two days back; time goes on as before."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.strikes():
            truth, ahead = time.time, DAY if self.struck == 1 else -2 * DAY
            time.time = lambda: truth() + ahead
        return super().forward(input, target)


class DriveHiccups(nn.L1Loss):
    """From the run's beginning on, of seven calls that open an image two fail, of those that read
    one does.
    """

    def __init__(self) -> None:
        super().__init__()
        if ARMED in os.environ:
            os.open = _hiccups(os.open, errno.EIO, times=2, concerns=_is_image)
            os.pread = _hiccups(os.pread, errno.ESTALE, times=1, concerns=lambda _: True)


class PenaltyFails(R1):
    """R1, whose call at the step `first` fails as `kind` says, so often: by then the generators
    have learned from this step.
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
    """The step that is being computed, 1, 2 ...; 0 where parts are only tried."""
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
