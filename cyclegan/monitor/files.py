"""The run as files: metrics.jsonl for programs, loss_log.txt for readers of the classic log, every
preview as a picture, the training images that are learned worst, and index.html of all of them.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cyclegan.config import parts
from cyclegan.config.errors import explain
from cyclegan.config.expressions import Term
from cyclegan.monitor.health.curves import losses
from cyclegan.monitor.health.history import Curves
from cyclegan.runs.artifacts import Exhibit, HardImages, Health, Preview
from cyclegan.runs.hard_example_files import write_hard_images
from cyclegan.runs.metrics_log import (
    Tail,
    append_line,
    append_point,
    each_point,
    write_metrics,
)
from cyclegan.runs.preview_files import keep_preview

# The page is a side room: it is found by its import path.
REPORT = "cyclegan.pages.report.report_page.write_report"

# Of the time between two, what it took to write index.html is at most this.
_LARGEST_SHARE = 0.01

# Pictures wait in memory until a slow disk takes them, but not any number of them.
_MOST_PENDING = 12


class Files:
    """Appends to the run's logs, keeps every preview, and renews the run's index.html.

    Pictures and pages are written by a thread. A disk that takes nothing more costs one line
    through `say`, never the run.
    """

    def __init__(
        self, run_dir: Path, *, title: str, steps_per_epoch: int, say: Callable[[str], None]
    ) -> None:
        self.run_dir = run_dir
        self.title = title
        self.steps_per_epoch = steps_per_epoch
        self.say = say
        self.write_report = parts.find(Term(REPORT), {})
        self.failed = False
        self.last_report = time.monotonic()
        self.curves = Curves()
        self.last_step = -1
        self.health: Health | None = None
        self.renew_at = 0.0
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="files")
        self.pending: deque[Future[None]] = deque()
        self._remember()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step < self.last_step:
            # The run went back, and makes later points again.
            self._guarded(lambda: self._forget(step))
        self.last_step = step
        self.curves.add(step, values)
        self._guarded(lambda: append_point(self.run_dir, step, values))
        self._guarded(
            lambda: append_line(self.run_dir / "loss_log.txt", self._classic_line(step, values))
        )

    def show(self, step: int, exhibit: Exhibit) -> None:
        if isinstance(exhibit, Health):
            self.health = exhibit
        elif isinstance(exhibit, HardImages):
            self._later(lambda: write_hard_images(self.run_dir, step, exhibit))
        elif isinstance(exhibit, Preview):
            self._later(lambda: keep_preview(self.run_dir, step, exhibit))
            if time.monotonic() >= self.renew_at:
                self._renew()

    def close(self) -> None:
        if self.health is not None:
            self._renew()
        else:
            # A run that went on for less than a preview is judged by the points before.
            self._later(lambda: self.write_report(self.run_dir, title=self.title))
        self.settle()
        self.worker.shutdown()

    def settle(self) -> None:
        """Waits for all that is still to be written."""
        while self.pending:
            self.pending.popleft().result()

    def _renew(self) -> None:
        """With the curves and the health of now."""
        curves, health = self.curves.copy(), self.health

        def write() -> None:
            began = time.monotonic()
            self.write_report(self.run_dir, title=self.title, curves=curves, health=health)
            now = time.monotonic()
            self.renew_at = now + (now - began) / _LARGEST_SHARE

        self._later(write)

    def _later(self, write: Callable[[], object]) -> None:
        while self.pending and (len(self.pending) > _MOST_PENDING or self.pending[0].done()):
            self.pending.popleft().result()
        self.pending.append(self.worker.submit(self._guarded, write))

    def _remember(self) -> None:
        """Of a long run not every point: a page has not so many pixels."""
        self.curves, self.last_step = Curves(), -1
        for step, values in each_point(self.run_dir):
            self.curves.add(step, values)
            self.last_step = step

    def _forget(self, step: int) -> None:
        # Not each_point: of a file that cannot be read now, nothing may be lost.
        write_metrics(self.run_dir, (p for p in Tail(self.run_dir).more() if p[0] < step))
        self._remember()

    def _classic_line(self, step: int, values: Mapping[str, float]) -> str:
        now = time.monotonic()
        seconds, self.last_report = now - self.last_report, now
        epoch, place = divmod(max(0, step - 1), self.steps_per_epoch)
        told = " ".join(f"{name}: {value:.3f}" for name, value in losses(values).items())
        wait = values.get("data_wait", 0.0)
        head = f"(epoch: {epoch + 1}, iters: {place + 1}, time: {seconds:.3f}, data: {wait:.3f})"
        return f"{head} {told}"

    def _guarded(self, write: Callable[[], object]) -> None:
        try:
            write()
        # What goes wrong with a picture or a page may be anything.
        except Exception as error:
            if not self.failed:
                why = error if isinstance(error, OSError) else explain(error)
                self.say(f"warning: {self.run_dir}: {why}; training goes on without its logs")
            self.failed = True
