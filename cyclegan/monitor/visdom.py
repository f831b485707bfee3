"""Losses, speed and previews on a Visdom page, sent so that training never waits for it."""

from __future__ import annotations

import base64
import io
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from cyclegan.monitor import Exhibit, Preview
from cyclegan.monitor.curves import grouped
from cyclegan.monitor.visdom_login import LOCALHOST
from cyclegan.monitor.visdom_server import LOCAL_NAMES, Sender, Server, find_server, start_server

INTERVAL = 2.0  # seconds between updates, at least
TIMEOUT = 5.0  # seconds for one message
LONGEST_PAUSE = 60.0  # seconds between two attempts to reach a server that is gone
CLOSING_TIME = 3.0  # seconds that close() waits for the last update
MAX_STARTS = 4  # of our own server
# Odd, so that dropping every second point keeps the first and the newest.
MAX_POINTS = 1001

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
# Pixels. Two windows side by side fit a page 1280 wide, three a page 1920 wide.
WIDTH, HEIGHT = 615, 300
PREVIEW_WIDTH, PREVIEW_HEIGHT = 2 * WIDTH + 10, 600

Message = dict[str, Any]


class VisdomMonitor:
    """A Monitor that draws on the Visdom server named, or on one of its own if none is there, which
    listens on `host`.

    Every update draws all windows whole, so a server that lost them shows them again. `say` gets
    one line for the page's address, one when the server is gone and one when it is back; it is
    called from a thread.
    """

    def __init__(
        self,
        *,
        env: str,
        env_dir: Path,
        say: Callable[[str], None],
        server: str = "http://127.0.0.1",
        port: int = 8097,
        host: str = LOCALHOST,
        history: Iterable[tuple[int, Mapping[str, float]]] = (),
    ) -> None:
        # Visdom's page reads / and + in the name of an environment as signs of its own.
        self.env = re.sub(r"[^\w.-]", "_", env)
        self._url = f"{server if '://' in server else f'http://{server}'}:{port}"
        self._port = port
        self._host = host
        self._sender = Sender(timeout=TIMEOUT)
        self._env_dir = env_dir
        self._say = say

        self._lock = threading.Lock()
        self._curves: dict[str, Curve] = {}
        self._preview: tuple[int, Image.Image] | None = None
        for step, values in history:
            self._record(step, values)

        self._own: Server | None = None
        self._starts = 0
        self._attached = False
        self._drawn: tuple[int, Image.Image] | None = None
        self._page = ""
        self._lost = False

        self._news = threading.Event()
        self._closing = threading.Event()
        self._pause = INTERVAL
        if self._curves:
            self._news.set()
        self._thread = threading.Thread(target=self._run, name="visdom", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with self._lock:
            self._record(step, values)
        self._news.set()

    def show(self, step: int, exhibit: Exhibit) -> None:
        if not isinstance(exhibit, Preview):
            return
        with self._lock:
            self._preview = step, exhibit.image
        self._news.set()

    def close(self) -> None:
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSING_TIME)

    def _record(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._curves.setdefault(name, Curve()).add(step, value)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._news.clear()
            if not self._closing.is_set() and not self._update():
                self._news.set()
            self._closing.wait(self._pause)
        # No server is started for the last update alone: it would end with us.
        if self._own or self._attached:
            self._update()
        if self._own:
            self._own.stop()

    def _update(self) -> bool:
        try:
            url = self._connect()
            began = time.monotonic()
            self._draw(url)
        # Whatever goes wrong here is the page's misfortune, never the training's.
        except Exception as error:
            if not self._lost:
                reason = getattr(error, "reason", error)
                self._say(f"Visdom cannot be reached ({reason}): training goes on without it")
            self._lost = True
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        page = f"{self._own.shown if self._own else url}/env/{self.env}"
        if self._lost or page != self._page:
            self._say(f"Visdom {'is back' if self._lost else 'shows the run'}: {page}")
        self._page, self._lost = page, False
        # A slow connection gets fewer updates: they may take a twentieth of the time.
        self._pause = max(INTERVAL, 20 * (time.monotonic() - began))
        return True

    def _connect(self) -> str:
        """The address of the server named; on this machine, if none is there, of one of ours."""
        if self._own and self._own.alive:
            return self._own.url
        host = urlsplit(self._url).hostname or ""
        if not self._own and not self._attached:
            self._attached = host not in LOCAL_NAMES or find_server(host, self._port)
        elif self._attached and host in LOCAL_NAMES and self._pause == LONGEST_PAUSE:
            # Somebody's server on this machine that stays away: another run's, now ended, maybe.
            self._attached = find_server(host, self._port)
        if self._attached:
            return self._url
        if self._starts == MAX_STARTS:
            raise RuntimeError(f"our own server ended {MAX_STARTS} times")
        self._starts += 1
        # An open page finds a server that comes back only under its old address.
        port, self._page = self._own.port if self._own else self._port, ""
        self._own = start_server(host=self._host, port=port, env_dir=self._env_dir)
        return self._own.url

    def _draw(self, url: str) -> None:
        with self._lock:
            preview = self._preview
            curves = {name: curve.copy() for name, curve in self._curves.items()}
        if preview is not self._drawn or not self._has_preview(url):
            self._send(url, _picture(*preview) if preview else _notice())
            self._drawn = preview
        for title, names in grouped(curves).items():
            self._send(url, _plot(title, {name: curves[name] for name in names}))

    def _has_preview(self, url: str) -> bool:
        question = {"win": "preview", "eid": self.env}
        return self._sender.post(url, "win_exists", question) == "true"

    def _send(self, url: str, message: Message) -> None:
        answer = self._sender.post(url, "events", message | {"eid": self.env})
        if answer != message["win"]:
            raise ConnectionError(f"the program at {url} is not Visdom")


class Curve:
    """Points at rising steps; each time there are MAX_POINTS of them, every second one goes."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self._stride = 1
        self._seen = 0
        self._passing = False

    def add(self, step: int, value: float) -> None:
        # A run that went back to a checkpoint takes its steps again.
        while self._passing or (self.steps and self.steps[-1] >= step):
            self._passing = False
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(float(f"{value:.5g}"))
        # A point off the stride stays only while it is the newest.
        self._passing = self._seen % self._stride != 0
        self._seen += 1
        if len(self.steps) == MAX_POINTS and not self._passing:
            del self.steps[1::2], self.values[1::2]
            self._stride *= 2

    def copy(self) -> tuple[list[int], list[float]]:
        return self.steps.copy(), self.values.copy()


def _plot(title: str, curves: Mapping[str, tuple[list[int], list[float]]]) -> Message:
    axis = {
        "gridcolor": "#eeeeee",
        "linecolor": "#cccccc",
        "zeroline": False,
        "exponentformat": "e",
    }
    return {
        "win": title,
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": steps,
                "y": values,
                "line": {"width": 1.5, "color": COLOURS[i % len(COLOURS)]},
                # The page's smoothing button expects a marker's line, even on curves without.
                "marker": {"line": {"width": 0}},
            }
            for i, (name, (steps, values)) in enumerate(sorted(curves.items()))
        ],
        "layout": {
            "title": {"text": title, "x": 0.02, "y": 0.96, "font": {"size": 15}},
            "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
            "showlegend": True,
            "hovermode": "x unified",
            "margin": {"l": 60, "r": 16, "t": 48, "b": 48},
            "xaxis": axis | {"title": {"text": "step", "standoff": 4}},
            # From zero, because a rate that stays at 2e-4 would get an axis from -1 to 1.
            "yaxis": axis | {"rangemode": "tozero"},
        },
        "opts": {"title": title, "width": WIDTH, "height": HEIGHT},
    }


def _picture(step: int, image: Image.Image) -> Message:
    small = image.convert("RGB")
    small.thumbnail((PREVIEW_WIDTH, 4 * PREVIEW_WIDTH), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
    scale = min(PREVIEW_WIDTH / small.width, PREVIEW_HEIGHT / small.height)
    return {
        "win": "preview",
        "data": [{"type": "image", "content": {"src": source}}],
        "opts": {
            "title": f"preview at step {step}",
            "width": round(small.width * scale),
            "height": round(small.height * scale),
        },
    }


def _notice() -> Message:
    # It holds the first place on the page, where the preview belongs.
    return {
        "win": "preview",
        "data": [{"type": "text", "content": "The first preview will appear here."}],
        "opts": {"title": "preview", "width": PREVIEW_WIDTH, "height": PREVIEW_HEIGHT},
    }
