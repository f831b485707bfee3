"""The live page of a run on Visdom, drawn from a thread so that training never waits for it."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclegan.monitor.health.history import Curves
from cyclegan.pages.visdom.buttons import Controls
from cyclegan.pages.visdom.drawing import Drawing
from cyclegan.pages.visdom.live_page import page
from cyclegan.pages.visdom.server.login import LOCALHOST
from cyclegan.pages.visdom.server_location import Place
from cyclegan.pages.visdom.slider import PreviewSlider, SliderFrame
from cyclegan.runs.artifacts import Artifact, Preview

logger = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between updates, at least
TIMEOUT = 5.0  # seconds for one message
LONGEST_PAUSE = 60.0  # seconds between two attempts to reach a server that is gone
CLOSING_TIME = 3.0  # seconds that close() waits for the last update
# What of the time updates may take, and what of it they may compute: Python computes in one thread
# at a time.
SHARE, COMPUTING_SHARE = 1 / 20, 1 / 100


class VisdomMonitor:
    """A Monitor that draws on the Visdom server named, or on one of its own if none is there, which
    listens on `host`.

    `history` are the run's points so far, and `run_dir` its folder: the slider begins with the
    pictures in its previews/. With `control` the page has buttons: it is called with "pause",
    "go_on", "save", "preview" or "stop", and the page shows which of these files are in `run_dir`.
    Curves whose names are `expected` have their windows from the start.

    A server that lost the windows is sent them again. One message tells the page's address, one
    that the server is gone, and one that it is back. `control` is called from a thread.
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
        # Visdom's page reads / and + in the name of an environment as signs of its own.
        self.env = re.sub(r"[^\w.-]", "_", env)
        self._lock = threading.Lock()
        self._curves = Curves()
        self._slider = PreviewSlider(run_dir)
        self._artifacts: dict[type, tuple[int, Any]] = {}
        # The newest step told, and the first that a monitor of this run was told by the run itself.
        self._told, self._first = -1, float("inf")
        for step, values in history:
            self._go_to(step)
            self._curves.add(step, values)
        self._first = float("inf")

        self._place = Place(server, port, host=host, env_dir=env_dir)
        self._drawing = Drawing(self.env, timeout=TIMEOUT)
        self._begins = self._told < 0
        self._address = ""
        self._lost = False

        self._news = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._pause = INTERVAL
        self._controls: Controls | None = None
        self._expected = tuple(expected)
        if control is not None and run_dir is not None:
            self._controls = Controls(
                self.env, run_dir, control, where=self._where, news=self._now
            )
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
        self._now()
        self._thread.join(CLOSING_TIME)

    def _go_to(self, step: int) -> None:
        """Before a step already told, the run went back: what came later is not to be seen."""
        if step < self._told:
            self._curves.forget(step)
            self._slider.forget(step)
        self._told = step
        self._first = min(step, self._first)

    def _now(self) -> None:
        """There is news that does not wait for the end of the pause."""
        self._news.set()
        self._hurry.set()

    def _run(self) -> None:
        self._read_previews()
        while not self._closing.is_set():
            # The files that ask something of the run come and go without a word.
            heard = self._news.wait(INTERVAL if self._controls else None)
            if heard or (self._controls and self._controls.have_changed()):
                self._news.clear()
                if not self._closing.is_set() and not self._update():
                    self._news.set()
                self._hurry.wait(self._pause)
                self._hurry.clear()
        # No server is started for the last update alone: it would end with us.
        if self._place.is_known:
            self._update()
        self._place.stop()

    def _read_previews(self) -> None:
        try:
            # Not under the lock: a disk may take its time.
            found = self._slider.find()
        except OSError as error:
            logger.info(f"earlier previews are not shown ({error.strerror})")
            return
        with self._lock:
            last = self._slider.prepend(found, before=self._first)
            self._begins = self._begins and last < 0
            self._told = max(self._told, last)
        if self._told >= 0:
            self._news.set()

    def _update(self) -> bool:
        try:
            url = self._place.reach(patient=self._pause < LONGEST_PAUSE)
            pause = self._draw(url)
        # Whatever goes wrong here is the page's misfortune, never the training's.
        except Exception as error:
            if not self._lost:
                reason = getattr(error, "reason", error)
                logger.info(f"Visdom cannot be reached ({reason}): training goes on without it")
            self._lost = True
            self._drawing.forget()
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        address = f"{self._place.shown}/env/{self.env}"
        if self._lost or address != self._address:
            logger.info(f"Visdom {'is back' if self._lost else 'shows the run'}: {address}")
        self._address, self._lost = address, False
        self._pause = pause
        if self._controls and not self._closing.is_set():
            self._controls.listen()
        return True

    def _where(self) -> tuple[str, str]:
        return self._drawing.url, self._drawing.sender.cookie

    def _draw(self, url: str) -> float:
        """Sends what the server does not have yet; gives the seconds to rest after that."""
        if self._begins:
            self._drawing.clear(url)
            self._begins = False
        self._drawing.look(url)
        began, computed = time.monotonic(), time.thread_time()
        with self._lock:
            curves, artifacts = self._curves.copy(), dict(self._artifacts)
            frames = self._slider.copy()
        self._drawing.begin_slider(frames, drop=self._drop)
        self._drawing.draw(
            page(
                curves,
                artifacts,
                controls=self._controls,
                expected=self._expected,
                preview_height=self._drawing.preview_height,
            )
        )
        lasted, computed = time.monotonic() - began, time.thread_time() - computed
        # Not counted here: pictures come seldom, and take the training itself far longer.
        self._drawing.fill_slider(frames, drop=self._drop)
        return max(INTERVAL, min(LONGEST_PAUSE, max(lasted / SHARE, computed / COMPUTING_SHARE)))

    def _drop(self, frame: SliderFrame) -> None:
        with self._lock:
            self._slider.drop(frame)
