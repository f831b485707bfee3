"""A run and its live page, brought up to date from the run's files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import UnreadableImage
from cyclegan.monitor.health.history import Curves
from cyclegan.monitor.health.summary import judge
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server.process import Server
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.control_files import ask
from cyclegan.runs.hard_example_files import HARD_IMAGES_FILE, read_hard_images
from cyclegan.runs.metrics_log import Point, Tail, read_metrics
from cyclegan.runs.preview_files import preview_path, preview_steps, read_preview
from cyclegan.runs.record import is_held, total_steps

# Seconds. To judge a run takes all of its points, of which a run of days has many.
JUDGE_EVERY = 10.0


class Watched:
    """Its files are only read, but for those by which a run that goes on is controlled."""

    def __init__(
        self, folder: Path, env: str, *, server: Server, env_dir: Path, say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.env = env
        self.curves = Curves()
        self._tail = Tail(folder)
        self._told: set[tuple[int, int]] = set()
        self._step = -1
        history = list(self._new_points())
        self._judge_at = 0.0 if history else float("inf")
        self._hard_images = 0
        self._previews = self._stamps()
        self._page = VisdomMonitor(
            env=env,
            env_dir=env_dir,
            server=server.url.rpartition(":")[0],
            port=server.port,
            history=history,
            run_dir=folder,
            control=self._control if is_held(folder) else None,
            say=say,
        )
        # The page reads the pictures there are by itself, but for one of the step that it is told
        # of first: that is shown with the rest.
        self._previews.pop(self._step, None)
        # What is shown at an earlier step than another thing makes the page go back.
        self._now = max([self._step, *self._previews])

    @property
    def is_empty(self) -> bool:
        return self._now < 0

    def look(self) -> None:
        """Tells the page what is new in the files."""
        # Points first: a preview is there before the points of later steps are.
        points = list(self._new_points())
        previews = self._new_previews()
        for step, values in points:
            self._show_previews(previews, before=step)
            self._page.scalars(step, values)
            self._now = step
        self._show_previews(previews, before=float("inf"))
        if points and self._judge_at == float("inf"):
            self._judge_at = time.monotonic() + JUDGE_EVERY
        if time.monotonic() >= self._judge_at:
            self._judge_at = float("inf")
            self._judge()
        self._show_hard_images()

    def _new_points(self) -> Iterator[Point]:
        """Those that were not there before; a file that was written anew has many that were."""
        try:
            for step, values in self._tail.more():
                mark = step, hash(repr(values))
                if mark in self._told:
                    continue
                if step < self._step:
                    self._told = {told for told in self._told if told[0] < step}
                    self.curves.forget(step)
                self._told.add(mark)
                self._step = step
                self.curves.add(step, values)
                yield step, values
        except OSError:
            # A folder on a network may be away for a moment.
            return

    def _stamps(self) -> dict[int, int]:
        """When each preview was written."""
        stamps = {}
        # A folder on a network may be away for a moment.
        with suppress(OSError):
            for step in preview_steps(self.folder):
                with suppress(OSError):
                    stamps[step] = preview_path(self.folder, step).stat().st_mtime_ns
        return stamps

    def _new_previews(self) -> list[int]:
        before, self._previews = self._previews, self._stamps()
        return [step for step, stamp in self._previews.items() if before.get(step) != stamp]

    def _show_previews(self, steps: list[int], *, before: float) -> None:
        """Takes from `steps` those that are shown."""
        while steps and steps[0] < before:
            step = steps.pop(0)
            # An earlier one than what the page was told of would make it go back.
            if step >= self._now:
                # It is read here: one that is half copied is not the newest yet.
                with suppress(UnreadableImage):
                    self._page.show(step, Preview(read_preview(self.folder, step)))
                    self._now = step

    def _judge(self) -> None:
        points = read_metrics(self.folder)
        health = judge(points, total_steps=total_steps(self.folder, points))
        if health is not None:
            self._page.show(self._now, health)

    def _show_hard_images(self) -> None:
        try:
            stamp = (self.folder / HARD_IMAGES_FILE).stat().st_mtime_ns
        except OSError:
            return
        if stamp != self._hard_images and (images := read_hard_images(self.folder)) is not None:
            self._page.show(self._now, images)
        self._hard_images = stamp

    def _control(self, what: str) -> None:
        if not is_held(self.folder):
            raise UserError(f"{self.folder.name} has ended: nothing is asked of it any more")
        ask(self.folder, what)
