"""The files of a run that change while it trains: metrics.jsonl for programs, loss_log.txt in the
classic format, previews, hard images, and index.html about all of them.
"""

import logging
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
from cyclegan.runs import metrics_log
from cyclegan.runs.artifacts import Artifact, HardImages, Health, Preview
from cyclegan.runs.hard_example_files import write_hard_images
from cyclegan.runs.preview_files import save_preview

# The page is a side room: it is found by its import path.
REPORT = Term("cyclegan.pages.report.index_page.write_report")

# The largest share of the wall-clock time that goes into writing index.html.
_MAX_SHARE = 0.01

# Pictures that wait in memory for a slow disk.
_MAX_PENDING = 12

logger = logging.getLogger(__name__)


class FileMonitor:
    """Writes the files, pictures and pages in a thread. The first failure is logged, and the run
    goes on.
    """

    def __init__(self, run_dir: Path, *, steps_per_epoch: int) -> None:
        self.run_dir = run_dir
        self.steps_per_epoch = steps_per_epoch
        self.write_report = parts.find(REPORT, {})
        self.failed = False
        self.last_report = time.monotonic()
        self.health: Health | None = None
        self.next_page_at = 0.0
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="files")
        self.pending: deque[Future[None]] = deque()
        self.last_step = -1
        self._read_curves()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step < self.last_step:
            # After a rollback, later points come again.
            self._guard(lambda: self._forget(step))
        self.last_step = step
        self.curves.add(step, values)
        line = self._classic_line(step, values)
        self._guard(lambda: metrics_log.append_point(self.run_dir, step, values))
        self._guard(lambda: metrics_log.append_line(self.run_dir / "loss_log.txt", line))

    def show(self, step: int, artifact: Artifact) -> None:
        if isinstance(artifact, Health):
            self.health = artifact
        elif isinstance(artifact, HardImages):
            self._submit(lambda: write_hard_images(self.run_dir, step, artifact))
        elif isinstance(artifact, Preview):
            self._submit(lambda: save_preview(self.run_dir, step, artifact))
            if time.monotonic() >= self.next_page_at:
                self._write_page()

    def close(self) -> None:
        if self.health is not None:
            self._write_page()
        else:
            # The report reads the health of a run without a preview from the points on the disk.
            self._submit(lambda: self.write_report(self.run_dir))
        self.flush()
        self.worker.shutdown()

    def flush(self) -> None:
        """Waits until everything is written."""
        while self.pending:
            self.pending.popleft().result()

    def _write_page(self) -> None:
        curves, health = self.curves.copy(), self.health

        def write() -> None:
            began = time.monotonic()
            self.write_report(self.run_dir, curves=curves, health=health)
            now = time.monotonic()
            self.next_page_at = now + (now - began) / _MAX_SHARE

        self._submit(write)

    def _submit(self, write: Callable[[], object]) -> None:
        while self.pending and (len(self.pending) > _MAX_PENDING or self.pending[0].done()):
            self.pending.popleft().result()
        self.pending.append(self.worker.submit(self._guard, write))

    def _read_curves(self) -> None:
        self.curves = Curves()
        self.last_step = -1
        for step, values in metrics_log.read_points(self.run_dir):
            self.curves.add(step, values)
            self.last_step = step

    def _forget(self, step: int) -> None:
        # Unlike read_points, this raises if the file cannot be read now: nothing may be lost.
        points = metrics_log.MetricsReader(self.run_dir).read_new()
        metrics_log.write_metrics(self.run_dir, (point for point in points if point[0] < step))
        self._read_curves()

    def _classic_line(self, step: int, values: Mapping[str, float]) -> str:
        now = time.monotonic()
        seconds, self.last_report = now - self.last_report, now
        epoch, batch = divmod(max(0, step - 1), self.steps_per_epoch)
        shown = " ".join(f"{name}: {value:.3f}" for name, value in losses(values).items())
        wait = values.get("data_wait", 0.0)
        head = f"(epoch: {epoch + 1}, iters: {batch + 1}, time: {seconds:.3f}, data: {wait:.3f})"
        return f"{head} {shown}"

    def _guard(self, write: Callable[[], object]) -> None:
        try:
            write()
        # Drawing a picture or a page may raise anything.
        except Exception as error:
            if not self.failed:
                why = error if isinstance(error, OSError) else explain(error)
                logger.warning("%s: %s; training goes on without its logs", self.run_dir, why)
            self.failed = True
