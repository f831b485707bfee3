"""The live page of a run on Visdom, drawn from a thread so that training never waits for it."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cyclegan.monitor.health.history import Curves
from cyclegan.pages.visdom.buttons import Controls
from cyclegan.pages.visdom.drawing import Drawing
from cyclegan.pages.visdom.live_page import page
from cyclegan.pages.visdom.server.login import LOCALHOST
from cyclegan.pages.visdom.server_location import ServerLocation
from cyclegan.pages.visdom.slider import PreviewSlider
from cyclegan.runs.artifacts import Artifact, Preview

logger = logging.getLogger(__name__)

# Seconds.
INTERVAL = 2.0  # between two updates, at least
TIMEOUT = 5.0  # for one message
LONGEST_PAUSE = 60.0  # between two attempts to reach a server that is gone
CLOSING_TIME = 3.0  # that close() waits for the last update
# Upper bounds on the page's share of wall-clock time and of CPU time, since Python computes in one
# thread at a time.
SHARE, COMPUTING_SHARE = 1 / 20, 1 / 100


class VisdomMonitor:
    """A Monitor that draws on the given Visdom server or, if there is none, starts its own, which
    listens on `host`. A server that has lost the windows is sent them again.

    `history` has the run's earlier points, and `run_dir` its earlier previews. With `control` the
    page has buttons: a thread calls it with "pause", "go_on", "save", "preview" or "stop", and the
    page shows which of these files are in `run_dir`. Curves whose names are `expected` have windows
    from the start.
    """

    def __init__(
        self,
        *,
        env: str,
        env_dir: Path,
        server: str = "http://127.0.0.1",
        port: int = 8097,
        host: str = LOCALHOST,
        history: Iterable[tuple[int, Mapping[str, float]]] = (),
        run_dir: Path | None = None,
        control: Callable[[str], None] | None = None,
        expected: Iterable[str] = (),
    ) -> None:
        # Visdom's page gives / and + in the name of an environment a meaning of their own.
        self.env = re.sub(r"[^\w.-]", "_", env)
        self._lock = threading.Lock()
        self._curves = Curves()
        self._slider = PreviewSlider(run_dir)
        self._artifacts: dict[type, tuple[int, Any]] = {}
        # The newest step, and the first one that is not part of the history.
        self._last_step, self._first_step = -1, float("inf")
        for step, values in history:
            self._go_to(step)
            self._curves.add(step, values)
        self._first_step = float("inf")

        self._location = ServerLocation(server, port, host=host, env_dir=env_dir)
        self._drawing = Drawing(self.env, timeout=TIMEOUT)
        self._is_new_run = self._last_step < 0
        self._address, self._is_lost = "", False
        self._news, self._hurry, self._closing = (threading.Event() for _ in range(3))
        self._pause = INTERVAL
        self._controls: Controls | None = None
        if control is not None and run_dir is not None:
            self._controls = Controls(
                self.env, run_dir, control, connect=self._drawing.connect, news=self._wake
            )
        self._page = partial(page, controls=self._controls, expected=tuple(expected))
        self._thread = threading.Thread(target=self._run, name="visdom", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with self._lock:
            self._go_to(step)
            self._curves.add(step, values)
        self._news.set()

    def show(self, step: int, artifact: Artifact) -> None:
        with self._lock:
            self._go_to(step)
            if isinstance(artifact, Preview):
                self._slider.add(step, artifact)
            else:
                self._artifacts[type(artifact)] = step, artifact
        self._news.set()

    def close(self) -> None:
        if self._controls:
            self._controls.close()
        self._closing.set()
        self._wake()
        self._thread.join(CLOSING_TIME)

    def _go_to(self, step: int) -> None:
        """An earlier step than the last one means a rollback: what came after it is removed."""
        if step < self._last_step:
            self._curves.forget(step)
            self._slider.forget(step)
        self._last_step = step
        self._first_step = min(step, self._first_step)

    def _wake(self) -> None:
        """Updates the page without waiting for the end of the pause."""
        self._news.set()
        self._hurry.set()

    def _run(self) -> None:
        self._read_previews()
        while not self._closing.is_set():
            # Control files appear and vanish without a notification.
            news = self._news.wait(INTERVAL if self._controls else None)
            if news or (self._controls and self._controls.have_changed()):
                self._news.clear()
                if not self._closing.is_set() and not self._update():
                    self._news.set()
                self._hurry.wait(self._pause)
                self._hurry.clear()
        # A server started for the last update alone would end right after it.
        if self._location.is_known:
            self._update()
        self._location.stop()

    def _read_previews(self) -> None:
        try:
            # Without the lock, because the disk may be slow.
            steps = self._slider.find()
        except OSError as error:
            logger.info(f"earlier previews are not shown ({error.strerror})")
            return
        with self._lock:
            last = self._slider.prepend(steps, before=self._first_step)
            self._is_new_run = self._is_new_run and last < 0
            self._last_step = max(self._last_step, last)
        if self._last_step >= 0:
            self._news.set()

    def _update(self) -> bool:
        try:
            url = self._location.connect(patient=self._pause < LONGEST_PAUSE)
            pause = self._draw(url)
        # No fault of the page may disturb the training.
        except Exception as error:
            if not self._is_lost:
                reason = getattr(error, "reason", error)
                logger.info(f"Visdom cannot be reached ({reason}): training goes on without it")
            self._is_lost = True
            self._drawing.forget()
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        address = f"{self._location.shown}/env/{self.env}"
        if self._is_lost or address != self._address:
            logger.info(f"Visdom {'is back' if self._is_lost else 'shows the run'}: {address}")
        self._address, self._is_lost = address, False
        self._pause = pause
        if self._controls and not self._closing.is_set():
            self._controls.listen()
        return True

    def _draw(self, url: str) -> float:
        """Sends what the server lacks; returns the seconds to pause after that."""
        drawing = self._drawing
        if self._is_new_run:
            drawing.clear(url)
            self._is_new_run = False
        drawing.check(url)
        began, computed = time.monotonic(), time.thread_time()
        with self._lock:
            curves, artifacts = self._curves.copy(), dict(self._artifacts)
            frames = self._slider.copy()
        drawing.begin_slider(frames)
        drawing.draw(self._page(curves, artifacts, preview_height=drawing.preview_height))
        elapsed, computed = time.monotonic() - began, time.thread_time() - computed
        # Not included: previews are rare, and cost the training itself far more.
        drawing.draw_slider(frames)
        return min(LONGEST_PAUSE, max(INTERVAL, elapsed / SHARE, computed / COMPUTING_SHARE))
