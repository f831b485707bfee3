"""What stops a run between two steps: Ctrl-C, SIGTERM, a time limit, a request by a file."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType

from cyclegan.hardware.devices import process_age
from cyclegan.runs.control_files import ControlFiles, Request
from cyclegan.training.run import Run

# The exit status of the shell's `timeout`.
TIME_IS_UP = 124

# Time for what follows the last save: closing the page, ending the workers.
_LAST_SECONDS = 3.0


class StopRequest:
    """While entered, the first signal sets `signal`, and a second one ends the program at once.

    SIGHUP of a closed terminal counts too, unless nohup ignores it.
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
        # Only the main thread may set signal handlers.
        if threading.current_thread() is threading.main_thread():
            handled = [n for n in self.SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self.end(128 + number)
        self.signal = number


def _end_at_once(status: int) -> None:
    """Exits without an exception, which Python might only report. A half-written file stays behind
    under another name.
    """
    if sys.stdout.isatty():
        # The live table has hidden the cursor.
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")
    os._exit(status)


class TimeLimit:
    """Tells when there is just enough time left to save, counted from the program's start."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds - process_age()
        self.last: float | None = None
        # Steps with a preview, a measurement or a save take longer.
        self.steps: deque[float] = deque(maxlen=200)

    def is_near(self, *, saving: float) -> bool:
        """Call it after each step; `saving` is how many seconds a save takes."""
        now = time.monotonic()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now
        if self.end is None:
            return False
        # The last save may take longer than the earlier ones.
        return now + max(self.steps, default=0.0) + 2 * saving + _LAST_SECONDS >= self.end


class Requests:
    """What a run is asked to do, by files in its folder, by signals and by its time limit."""

    def __init__(self, run: Run) -> None:
        self.process_group, self.writer = run.process_group, run.writer
        self.files = ControlFiles(run.run_dir)
        self.time_limit = TimeLimit(run.time_limit)

    def clear(self) -> None:
        """Forgets requests from before the run."""
        if self.process_group.is_main:
            self.files.clear()

    def poll(self, stop: StopRequest) -> Request:
        """The requests to any rank. Call it after each step, on all ranks."""
        is_main = self.process_group.is_main
        requests = self.files.pending_requests() if is_main else Request.NONE
        if stop or self.time_limit.is_near(saving=self.writer.longest_seconds):
            requests |= Request.STOP_NOW
        return Request(self.process_group.any_rank(requests))
