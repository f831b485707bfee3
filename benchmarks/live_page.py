"""Load-tests the live page: python benchmarks/live_page.py --out benchmarks/results/live-page.json

The page gets the reports of a one-day run as fast as it draws them: a report every 10 s, a preview
with metrics and health every 40 s, and at times histograms and hard examples. One client reads all
of it; another keeps its connection open and reads nothing. Measured are the memory of the server
and of the training process, the size of the updates, the time until a browser shows every window
and the slider, and how the browser's memory grows.
"""

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
import websocket
from common import report
from PIL import Image, ImageDraw

from cyclegan.config.logs import log_to
from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom.client import VisdomClient
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.runs.artifacts import (
    Alarm,
    HardImage,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)

STEPS_A_SECOND = 10
# The size of a preview of four images of each domain.
SHEET = (1304, 1900)
HISTOGRAMS_EVERY = 1800  # seconds
LAYERS = {"G_AB": 26, "G_BA": 26, "D_A": 5, "D_B": 5}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# True once all windows exist, all curves are drawn and the slider shows the newest picture.
COMPLETE = """count => {
  const windows = [...document.querySelectorAll('.window')];
  const plots = [...document.querySelectorAll('.plotly-graph-div')];
  const picture = document.querySelector('img.content-image');
  const slider = document.querySelector('.widget input[type=range]');
  return windows.length >= count && plots.every(plot => plot.querySelector('.main-svg'))
    && picture && picture.complete && picture.naturalWidth > 0 && slider && slider.max > 1; }"""


def main() -> None:
    options = _options()
    # No limit on the rate of updates; without news the page rests and leaves the machine to the
    # browser.
    live.INTERVAL, live.SHARE, live.COMPUTING_SHARE = 0.01, 1e9, 1e9
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(Path(folder), options)
    figures["within_bounds"] = figures["server_mb"]["most"] < 500 and all(
        seconds < 3 for seconds in figures.get("opens_s", [])
    )
    report(figures, torch.device("cpu"), out=options.out)


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    said: list[str] = []
    log_to(said.append)
    sheet = _sheet()
    own_before = _megabytes("self")
    monitor = VisdomMonitor(
        env="day",
        env_dir=folder / "visdom",
        port=0,
        run_dir=folder,
        control=lambda name: None,
    )
    day = Day(monitor, sheet, options)
    try:
        day.tell(0)
        while not said:
            time.sleep(0.1)
        address = said[0].split()[-1]
        server = address.split("/env/")[0]
        own: Any = monitor._location.own
        pages = [Page(server, "day", reads=True), Page(server, "day", reads=False)]
        figures = day.run(memory=lambda: _megabytes(own.process.pid))
        figures["own_mb"] = round(_megabytes("self") - own_before, 1)
        figures["page_mb"] = round(_weight(server) / 1e6, 2)
        figures["updates_read_mb"] = round(pages[0].read / 1e6)
        for page in pages:
            page.close()
        if CHROMIUM is not None:
            figures |= _look(address, day, options)
    finally:
        monitor.close()
    return figures


class Day:
    """The reports and previews of a day, in order."""

    def __init__(
        self, monitor: VisdomMonitor, sheet: Image.Image, options: argparse.Namespace
    ) -> None:
        self.monitor = monitor
        self.sheet = sheet
        self.options = options
        self.random = random.Random(0)
        self.second = 0
        self.drawn = threading.Semaphore(0)
        update = monitor._update

        def counted() -> bool:
            done = update()
            self.drawn.release()
            return done

        monitor._update = counted  # type: ignore[method-assign]

    def run(self, *, memory: Callable[[], float]) -> dict[str, Any]:
        """Reports the whole day, and waits for each update until --limit_s."""
        options, waited, most = self.options, 0, 0.0
        began, early = time.monotonic(), 0.0
        end = int(3600 * options.hours)
        for self.second in range(options.report_s, end + 1, options.report_s):
            self.tell(self.second)
            if time.monotonic() - began < options.limit_s:
                waited += self.drawn.acquire(timeout=30)
            if self.second % (20 * options.report_s) == 0:
                most = max(most, memory())
            if not early and self.second >= end / 4:
                early = memory()
        seconds = time.monotonic() - began
        last = memory()
        return {
            "hours": options.hours,
            "reports": end // options.report_s,
            "previews": end // options.preview_s,
            "updates_waited_for": waited,
            "ms_an_update": round(1000 * seconds / max(1, waited), 1),
            "server_mb": {"most": round(max(most, last)), "at_a_quarter": round(early)}
            | {"last": round(last)},
        }

    def tell(self, second: int) -> None:
        step, monitor = second * STEPS_A_SECOND, self.monitor
        part = second / (3600 * self.options.hours)
        looks = second % self.options.preview_s == 0
        monitor.scalars(step, self._losses(part) | (self._measured(part) if looks else {}))
        if looks:
            monitor.show(step, Preview(self._picture(step)))
            monitor.show(step, self._health(step))
        if second % HISTOGRAMS_EVERY == 0:
            monitor.show(step, self._histograms())
            monitor.show(step, self._hard_images())

    def _losses(self, part: float) -> dict[str, float]:
        noise = self.random.gauss
        fall = math.exp(-5 * part)
        told = {"lr": 2e-4 * min(1.0, 2 - 2 * part), "data_wait": abs(noise(0.002, 1e-3))}
        told |= {"images_per_second": noise(20, 1), "memory": 5.2}
        for domain in "AB":
            for name in ("adversarial", "D", "cycle", "cycle.l1", "identity", "content"):
                stem, _, term = name.partition(".")
                key = f"{stem}_{domain}" + (f".{term}" if term else "")
                told[key] = (0.2 + fall) * math.exp(noise(0, 0.2))
        return told | {f"gradient_{name}": math.exp(noise(0, 0.5)) for name in LAYERS}

    def _measured(self, part: float) -> dict[str, float]:
        names = ("pairs", "score_real", "score_fake", "contrast", "colour", "diversity")
        names += ("correlation", "change", "error")
        noise = self.random.gauss
        told = {f"{name}_{d}": 0.5 + part / 4 + noise(0, 0.02) for name in names for d in "AB"}
        return told | {f"ratio_{name}": 1e-3 * math.exp(noise(0, 0.2)) for name in LAYERS}

    def _picture(self, step: int) -> Image.Image:
        image = self.sheet.copy()
        ImageDraw.Draw(image).text((20, 20), f"{step}", fill="white", stroke_fill="black")
        return image

    def _health(self, step: int) -> Health:
        lines = tuple(f"{name} is as it should be at {step}" for name in ("D_A", "D_B", "cycle"))
        alarm = Alarm("D wins", "D_B", "100 % of pairs", "G learns nothing", "lower --lr of D")
        return Health(lines, (alarm,) if step % 800 == 0 else ())

    def _histograms(self) -> Histograms:
        kinds = ("weights", "gradients", "activations")
        counts = [int(1e4 * math.exp(-((i - 32) ** 2) / 100)) for i in range(64)]
        of = {
            f"{kind}/{network}/blocks.{layer}.conv": Histogram(tuple(counts), -1.0, 1.0)
            for network, layers in LAYERS.items()
            for kind in kinds
            for layer in range(layers)
        }
        return Histograms(of)

    def _hard_images(self) -> HardImages:
        thumbnail = self.sheet.crop((0, 0, 96, 96))
        worst = tuple(HardImage(f"trainA/{i:05}.png", 40.0 - i, thumbnail) for i in range(12))
        spread = Histogram(tuple(range(40)), 0.0, 80.0)
        return HardImages({"A": spread, "B": spread}, {"A": worst, "B": worst})


class Page:
    """The connection of a page to the server."""

    def __init__(self, server: str, env: str, *, reads: bool) -> None:
        self.socket = websocket.create_connection(f"ws{server.removeprefix('http')}/socket")
        sid = json.loads(self.socket.recv())["data"]
        VisdomClient(timeout=5).post(server, f"env/{quote(env)}", {"sid": sid})
        self.read = 0
        if reads:
            threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self.socket.abort()

    def _listen(self) -> None:
        try:
            while message := self.socket.recv():
                self.read += len(message)
        except (websocket.WebSocketException, OSError):
            return


def _look(address: str, day: Day, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds until a browser without a cache shows the whole page, and the growth of its memory
    over more reports.
    """
    from playwright.sync_api import sync_playwright

    count = len(_windows(address.split("/env/")[0]))
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for _ in range(options.rounds):
            page = browser.new_context(viewport={"width": 1300, "height": 1000}).new_page()
            began = time.monotonic()
            page.goto(address)
            page.wait_for_function(COMPLETE, arg=count, polling=50)
            seconds.append(round(time.monotonic() - began, 2))
            if len(seconds) < options.rounds:
                page.close()
        if options.picture is not None:
            page.wait_for_timeout(1000)
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": 1300, "height": height})
            page.wait_for_timeout(2000)
            page.screenshot(path=options.picture)
            page.set_viewport_size({"width": 1300, "height": 1000})
        heaps = [_heap(page)]
        for _ in range(2):
            for _ in range(options.grow_reports):
                day.second += options.report_s
                day.tell(day.second)
                day.drawn.acquire(timeout=30)
            page.wait_for_timeout(5000)
            heaps.append(_heap(page))
        browser.close()
    return {
        "windows": count,
        "opens_s": seconds,
        "opens_median_s": statistics.median(seconds),
        # The first reports also fill buffers of a fixed size.
        "browser_mb": {
            "opened": heaps[0],
            f"after_{options.grow_reports}_reports": heaps[1],
            f"after_{2 * options.grow_reports}": heaps[2],
        },
    }


def _heap(page: Any) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    found = session.send("Performance.getMetrics")["metrics"]
    session.detach()
    return round(next(m["value"] for m in found if m["name"] == "JSHeapUsedSize") / 1e6, 1)


def _windows(server: str) -> dict[str, Any]:
    windows: dict[str, Any] = json.loads(
        VisdomClient(timeout=10).post(server, "win_data", {"win": None, "eid": "day"})
    )
    return windows


def _weight(server: str) -> int:
    """Bytes of all windows, as they are sent to a page."""
    return len(json.dumps(_windows(server)))


def _sheet() -> Image.Image:
    """An image of soft shapes with grain, as hard to compress as photographs."""
    soft = Image.effect_noise((40, 58), 160).convert("RGB").resize(SHEET, Image.Resampling.BICUBIC)
    colours = Image.radial_gradient("L").resize(SHEET)
    grain = Image.effect_noise(SHEET, 12)
    return Image.merge("RGB", (soft.getchannel(0), Image.blend(colours, grain, 0.5), grain))


def _megabytes(pid: int | str) -> float:
    """The resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load-tests the live page.")
    parser.add_argument("--hours", type=float, default=24.0, help="of the run")
    parser.add_argument("--report_s", type=int, default=10, help="seconds between reports")
    parser.add_argument("--preview_s", type=int, default=40, help="seconds between previews")
    parser.add_argument(
        "--limit_s",
        type=float,
        default=1200.0,
        help="seconds after which it no longer waits for updates",
    )
    parser.add_argument("--rounds", type=int, default=5, help="times that a browser opens the page")
    parser.add_argument(
        "--grow_reports", type=int, default=60, help="reports between looks at the browser's memory"
    )
    parser.add_argument("--picture", type=Path, help="a file for a picture of the page")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
