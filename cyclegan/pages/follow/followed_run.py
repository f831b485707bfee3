"""A run and its live page, which is updated from the run's files."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import UnreadableImage
from cyclegan.monitor.health.history import Curves
from cyclegan.monitor.health.summary import summarize_health
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server_location import OwnServer
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.control_files import send_request
from cyclegan.runs.folder import is_locked, total_steps
from cyclegan.runs.hard_example_files import HARD_IMAGES_FILE, read_hard_images
from cyclegan.runs.metrics_log import MetricsReader, Point, read_metrics
from cyclegan.runs.preview_files import preview_path, preview_steps, read_preview

# Seconds. Health is computed from all points, of which a run of days has many.
HEALTH_INTERVAL = 10.0


class FollowedRun:
    """Writes nothing in the run's folder but the files that control a run in training."""

    def __init__(self, run_dir: Path, env: str, *, server: OwnServer, env_dir: Path) -> None:
        self.run_dir = run_dir
        self.env = env
        self.curves = Curves()
        self._reader = MetricsReader(run_dir)
        self._seen: set[tuple[int, int]] = set()
        self._last_step = -1
        history = list(self._new_points())
        self._health_due = 0.0 if history else float("inf")
        self._hard_images = 0
        self._previews = self._preview_times()
        self._page = VisdomMonitor(
            env=env,
            env_dir=env_dir,
            server=server.url.rpartition(":")[0],
            port=server.port,
            history=history,
            run_dir=run_dir,
            control=self._control if is_locked(run_dir) else None,
        )
        # The page itself reads the previews before its first step; that step's is shown here.
        self._previews.pop(self._last_step, None)
        # The page takes a step before the last one it was given for a rollback.
        self._shown_step = max([self._last_step, *self._previews])

    @property
    def is_empty(self) -> bool:
        return self._shown_step < 0

    def update(self) -> None:
        """Sends the page what is new in the files."""
        # Points first: a preview is written before the points of later steps.
        points = list(self._new_points())
        previews = self._new_previews()
        for step, values in points:
            self._show_previews(previews, before=step)
            self._page.scalars(step, values)
            self._shown_step = step
        self._show_previews(previews, before=float("inf"))
        if points and self._health_due == float("inf"):
            self._health_due = time.monotonic() + HEALTH_INTERVAL
        if time.monotonic() >= self._health_due:
            self._health_due = float("inf")
            self._show_health()
        self._show_hard_images()

    def _new_points(self) -> Iterator[Point]:
        """The points not seen before; a file that was rewritten repeats many."""
        # A folder on a network may be away for a moment.
        with suppress(OSError):
            for step, values in self._reader.read_new():
                mark = step, hash(repr(values))
                if mark in self._seen:
                    continue
                if step < self._last_step:
                    self._seen = {seen for seen in self._seen if seen[0] < step}
                    self.curves.forget(step)
                self._seen.add(mark)
                self._last_step = step
                self.curves.add(step, values)
                yield step, values

    def _preview_times(self) -> dict[int, int]:
        """The steps of the previews, and when each was written."""
        times = {}
        with suppress(OSError):
            for step in preview_steps(self.run_dir):
                with suppress(OSError):
                    times[step] = preview_path(self.run_dir, step).stat().st_mtime_ns
        return times

    def _new_previews(self) -> list[int]:
        before, self._previews = self._previews, self._preview_times()
        return [step for step, written in self._previews.items() if before.get(step) != written]

    def _show_previews(self, steps: list[int], *, before: float) -> None:
        """Removes from `steps` those that it shows."""
        while steps and steps[0] < before:
            step = steps.pop(0)
            if step >= self._shown_step:
                # Read here, because a half-copied file must not become the newest preview.
                with suppress(UnreadableImage):
                    self._page.show(step, Preview(read_preview(self.run_dir, step)))
                    self._shown_step = step

    def _show_health(self) -> None:
        points = read_metrics(self.run_dir)
        health = summarize_health(points, total_steps=total_steps(self.run_dir, points))
        if health is not None:
            self._page.show(self._shown_step, health)

    def _show_hard_images(self) -> None:
        try:
            written = (self.run_dir / HARD_IMAGES_FILE).stat().st_mtime_ns
        except OSError:
            return
        if written != self._hard_images and (images := read_hard_images(self.run_dir)) is not None:
            self._page.show(self._shown_step, images)
        self._hard_images = written

    def _control(self, request: str) -> None:
        if not is_locked(self.run_dir):
            raise UserError(f"{self.run_dir.name} has ended and takes no more requests")
        send_request(self.run_dir, request)
