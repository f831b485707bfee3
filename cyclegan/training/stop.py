"""What ends a run between two steps, not in the middle of one: Ctrl-C, SIGTERM, a time limit."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType

from cyclegan.hardware.devices import process_age

# What `timeout` of the shell ends with.
TIME_IS_UP = 124

# For what comes after the last save: closing the page, ending the processes.
_LAST_SECONDS = 3.0


class StopRequest:
    """While entered, the first signal only sets `signal`; a second one ends the program at once.

    A terminal that is closed (SIGHUP) counts as well, unless nohup has seen to it.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, *, end: Callable[[int], object] | None = None) -> None:
        self.end = end or _end_at_once
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status that shells expect."""
        return TIME_IS_UP if self.signal is None else 128 + self.signal

    @property
    def why(self) -> str:
        return "out of time" if self.signal is None else signal.Signals(self.signal).name

    def __enter__(self) -> "StopRequest":
        # Python allows signal handlers in the main thread alone; elsewhere there is no Ctrl-C.
        if threading.current_thread() is threading.main_thread():
            heeded = [n for n in self.SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self.end(128 + number)
        self.signal = number


def _end_at_once(status: int) -> None:
    """Not by an exception, which may come where Python only reports it. What is half-written stays
    behind under another name.
    """
    if sys.stdout.isatty():
        # The live line had hidden the cursor.
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")
    os._exit(status)


class TimeLimit:
    """Tells when there is just time enough left to save, counted from the program's start."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds - process_age()
        self.last: float | None = None
        # Steps take longer where something is shown, measured or saved.
        self.steps: deque[float] = deque(maxlen=200)

    def is_near(self, *, saving: float) -> bool:
        """To be asked after each step; `saving`: how many seconds a save takes."""
        now = time.monotonic()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now
        if self.end is None:
            return False
        # Saving may take longer than so far: a machine may be busy just then.
        return now + max(self.steps, default=0.0) + 2 * saving + _LAST_SECONDS >= self.end
