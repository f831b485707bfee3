"""The live page in a browser, of made-up runs and of a training."""

import contextlib
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from support.pages import browser
from support.pages import wait_for as until
from support.running import TINY, train, wait_for

from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.windows import POSITIONS
from cyclegan.runs.artifacts import (
    Alarm,
    HardImage,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)

__all__ = ["browser"]

CURVES = "[...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p.data.map(t => t.name))"
NEWEST = """Math.max(...[...document.querySelectorAll('.js-plotly-plot')].flatMap(
  p => p.data.filter(t => t.name === 'lr').map(t => t.x.at(-1))))"""
# All that is visible: titles, texts, and the last point of each curve.
SEEN = """[...document.querySelectorAll('.window')].map(w => {
  const plot = w.querySelector('.js-plotly-plot');
  const points = plot ? plot.data.map(t => [t.name, t.x && t.x.length, t.y && t.y.at(-1)]) : [];
  return JSON.stringify([w.querySelector('.bar').innerText.trim(), points,
    plot ? '' : w.querySelector('.content').innerText]);
}).sort()"""

LOSSES = {"adversarial_A": 0.5, "adversarial_B": 0.6, "cycle_A": 1.0, "D_A": 0.25, "D_B": 0.26}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page; fails if a script on it does."""
    context = browser.new_context(viewport={"width": 1300, "height": 1600})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    yield opened
    context.close()
    assert wrong == []


class Run:
    """A made-up run with its page, the requests of its buttons, and what was logged."""

    def __init__(self, run_dir: Path, said: list[str]) -> None:
        self.run_dir = run_dir
        self.requests: list[str] = []
        self.said = said
        (run_dir / "previews").mkdir()
        self.monitor = VisdomMonitor(
            env="seen",
            env_dir=run_dir / "visdom",
            port=free_port(),
            run_dir=run_dir,
            control=self.control,
        )

    def control(self, name: str) -> None:
        self.requests.append(name)
        if name == "go_on":
            (self.run_dir / "pause").unlink()
        else:
            (self.run_dir / name).touch()

    def preview(self, step: int) -> None:
        # Each is brighter than the one before, and of the same size.
        image = Image.new("RGB", (652, 300), (40 + step // 10, 40, 40))
        image.save(self.run_dir / "previews" / f"step_{step:08d}.png")
        self.monitor.show(step, Preview(image))

    def address(self) -> str:
        until(lambda: self.said and "http://" in self.said[-1])
        return self.said[-1].split()[-1]


@pytest.fixture
def run(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(live, "INTERVAL", 0.1)
    made = Run(tmp_path, said)
    yield made
    made.monitor.close()


@pytest.fixture
def seen(run: Run, page: Any) -> Run:
    """The run after a few steps, shown on the page."""
    for step in range(100, 600, 100):
        run.monitor.scalars(step, LOSSES | {"pairs_A": 0.6, "lr": 2e-4})
        run.preview(step)
        until(lambda step=step: run.monitor._slider.copy()[-1].data)
    page.goto(run.address())
    page.wait_for_function(f"{CURVES}.includes('lr')")
    page.wait_for_selector(".widget >> text=step 500")
    return run


def colour(page: Any) -> int:
    """The red of the picture that is shown."""
    return page.evaluate(
        """() => { const image = document.querySelector('img.content-image');
        const canvas = document.createElement('canvas');
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.getContext('2d').getImageData(2, 2, 1, 1).data[0]; }"""
    )


def slide(page: Any, index: int) -> None:
    page.locator("input[type=range]").first.fill(str(index))


@pytest.mark.slow
def test_the_slider_covers_the_whole_run_and_grows(seen: Run, page: Any) -> None:
    methods: list[str] = []
    page.on("request", lambda request: methods.append(request.method))
    assert abs(colour(page) - 90) < 4
    slide(page, 0)
    page.wait_for_selector(".widget >> text=step 100")
    until(lambda: abs(colour(page) - 50) < 4)
    seen.preview(600)
    time.sleep(1)
    assert page.locator(".widget >> text=step 100").count() == 1, "an earlier preview stays"
    slide(page, POSITIONS - 1)
    page.wait_for_selector(".widget >> text=step 600")
    until(lambda: abs(colour(page) - 100) < 4)
    assert "POST" not in methods, "the page accepts the new picture as it is"


@pytest.mark.slow
def test_an_alarm_is_shown_as_text_and_a_reload_loses_nothing(seen: Run, page: Any) -> None:
    page.wait_for_selector("text=How the run is doing is said here as soon as it can be told.")
    hostile = "<img src=x onerror='document.title=1'>"
    alarm = Alarm("D wins", "D_B", "100 % of pairs", hostile, "lower --lr")
    seen.monitor.show(500, Health(("cycle error falls",), (alarm,)))
    box = page.wait_for_selector(".alarm")
    assert box.is_visible()
    assert "D wins D_B" in box.inner_text()
    assert hostile in box.inner_text()
    red, green, _ = map(
        int, re.findall(r"\d+", box.evaluate("b => getComputedStyle(b).backgroundColor"))
    )
    assert red > green
    box = page.locator(".alarm").bounding_box()
    assert box["y"] + box["height"] < 1000, "without scrolling"
    seen.monitor.show(500, Health(("cycle error falls",), ()))
    page.wait_for_selector(".healthy")
    assert page.title() == "seen"
    before = page.evaluate(SEEN)
    page.reload()
    page.wait_for_function(f"{CURVES}.includes('lr')")
    page.wait_for_selector("text=cycle error falls")
    until(lambda: page.evaluate(SEEN) == before)
    slide(page, POSITIONS // 3)
    page.wait_for_selector(".widget >> text=step 200")


@pytest.mark.slow
def test_the_buttons_work_and_show_the_state(seen: Run, page: Any) -> None:
    page.wait_for_selector("text=running")
    time.sleep(0.3)
    page.get_by_role("button", name="pause").click()
    page.wait_for_selector("text=the run is paused")
    assert seen.requests == ["pause"]
    time.sleep(1.1)
    page.get_by_role("button", name="go on").click()
    page.wait_for_selector("text=running")
    for name in ("save now", "preview now", "stop"):
        page.get_by_role("button", name=name).click()
    until(lambda: len(seen.requests) == 5)
    assert seen.requests == ["pause", "go_on", "save", "preview", "stop"]
    page.wait_for_selector("text=stops after this epoch")


@pytest.mark.slow
def test_new_layers_hard_images_and_points_appear(seen: Run, page: Any) -> None:
    of = {f"weights/G_AB/layer {i}": Histogram((1, 3, 1), -1.0, 1.0) for i in range(30)}
    of |= {f"gradients/G_AB/layer {i}": Histogram((1, 3, 1), -0.1, 0.1) for i in range(30)}
    seen.monitor.show(500, Histograms(of))
    page.wait_for_function(f"{CURVES}.includes('gradients')")
    labels = page.locator(".js-plotly-plot .ytick text").all_text_contents()
    assert {f"layer {i}" for i in range(30)} <= set(labels)

    image = HardImage("trainA/<b>worst</b>.png", 31.5, Image.new("RGB", (96, 96), "green"))
    seen.monitor.show(500, HardImages({"A": Histogram((4, 2), 0.0, 40.0)}, {"A": (image,)}))
    picture = page.wait_for_selector(".hard img")
    small = picture.bounding_box()["height"]
    picture.click()
    name = page.get_by_text("trainA/<b>worst</b>.png")
    name.wait_for()
    assert picture.bounding_box()["height"] > 2 * small
    # It stays open when the next report comes.
    seen.monitor.scalars(600, LOSSES)
    page.wait_for_function("document.querySelector('.js-plotly-plot').data[0].x.at(-1) === 600")
    assert name.is_visible()


@pytest.mark.slow
def test_a_page_reconnects_to_a_server_that_was_killed_and_restarted(seen: Run, page: Any) -> None:
    before = page.evaluate(SEEN)
    own = seen.monitor._location.own
    assert own is not None
    os.kill(own.process.pid, signal.SIGKILL)
    page.wait_for_selector("text=offline")
    # Without a click or a report, as the run may be paused.
    page.wait_for_selector("text=online", timeout=60_000)
    until(lambda: page.evaluate(SEEN) == before)
    seen.monitor.scalars(600, LOSSES)
    page.wait_for_function("document.querySelector('.js-plotly-plot').data[0].x.at(-1) === 600")
    fresh = page.context.new_page()
    fresh.goto(seen.address())
    fresh.wait_for_function(f"{CURVES}.includes('lr')")
    fresh.wait_for_selector(".widget >> text=step 500")

    def heard() -> bool:
        fresh.get_by_role("button", name="save now").click()
        time.sleep(0.3)
        return "save" in seen.requests

    until(heard)


@pytest.mark.slow
def test_a_training_is_watched_paused_and_stopped_in_a_browser(dataroot, tmp_path, browser):
    """The generators hardly learn, so D wins."""
    options = [option for option in TINY if not option.startswith(("--monitor", "--preview"))]
    process = train(
        tmp_path,
        *(f"--dataroot={dataroot}", "--name=seen", "--steps=4000", "--preview_every=40", "--quiet"),
        *(*options, "--lr=1e-9", "--lr_D=2e-3", f"--display_port={free_port()}"),
        popen=True,
    )
    run_dir = tmp_path / "runs" / "seen"
    metrics = run_dir / "metrics.jsonl"
    requests: list[str] = []
    try:
        wait_for(metrics, process)
        said = next(line for line in process.stdout if "Visdom shows the run" in line)
        address = said.split()[-1]
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_function(f"{CURVES}.includes('lr')", timeout=90_000)
        page.wait_for_function(f"{CURVES}.includes('pairs_A')", timeout=90_000)
        names = set(page.evaluate(CURVES))

        first = page.evaluate(NEWEST)
        until(lambda: page.evaluate(NEWEST) > first, 60)
        page.wait_for_selector("img[src*='/frame/']", timeout=90_000)
        newest = page.locator("img.content-image").first.get_attribute("src")
        slide(page, 0)
        page.wait_for_selector(".widget >> text=step 0")
        assert page.locator("img.content-image").first.get_attribute("src") != newest
        page.wait_for_selector(".window >> text=D wins", timeout=240_000)

        page.get_by_role("button", name="pause").click()
        page.wait_for_selector("text=the run is paused", timeout=60_000)
        until(lambda: _stands_still(metrics), 60)
        # On a busy machine an update may come a minute later.
        until(lambda: page.evaluate(NEWEST) == _last_step(metrics), 90)
        until(lambda: page.evaluate(SEEN) == (time.sleep(3), page.evaluate(SEEN))[1], 60)
        before = page.evaluate(SEEN)
        page.reload()
        until(lambda: page.evaluate(SEEN) == before, 60)

        os.kill(_server_of(process.pid), signal.SIGKILL)
        page.wait_for_selector("text=offline", timeout=60_000)
        page.wait_for_selector("text=online", timeout=90_000)
        until(lambda: page.evaluate(SEEN) == before, 90)

        size = metrics.stat().st_size
        until(lambda: _pressed(page, "go on") and metrics.stat().st_size > size, 60)
        last = _last_step(metrics)
        until(lambda: page.evaluate(NEWEST) > last, 60)
        until(lambda: _pressed(page, "stop") and process.poll() is not None, 120)
        process.communicate()
        page.close()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    values = json.loads(metrics.read_text().splitlines()[0])
    assert values.keys() - {"step", "data_share"} <= names
    assert {urlsplit(url).hostname for url in requests if url.startswith("http")} == {"127.0.0.1"}
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(address, timeout=5)
    _read_from_disk(run_dir / "index.html", browser)


def _read_from_disk(report: Path, browser: Any) -> None:
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert "D wins" in page.inner_text("body")
    shown = "[...document.images].find(i => i.checkVisibility()).dataset.step"
    assert page.evaluate(shown) != "0"
    slide(page, 0)
    until(lambda: page.evaluate(shown) == "0")
    page.close()
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]


def _last_step(metrics: Path) -> int:
    return max(json.loads(line)["step"] for line in metrics.read_text().splitlines())


def _pressed(page: Any, name: str) -> bool:
    """A button may vanish at any moment, once its request is fulfilled."""
    page.evaluate(
        """name => [...document.querySelectorAll('.window button')]
        .find(button => button.textContent === name)?.click()""",
        name,
    )
    time.sleep(1)
    return True


def _server_of(pid: int) -> int:
    """The process of the server that a run has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and b"visdom.server" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise AssertionError("the run has no server")


def _stands_still(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(1.5)
    return path.stat().st_size == before
