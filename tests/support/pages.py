"""Monitors with real servers on free ports of this machine, what these hold, and a browser."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom.client import VisdomClient
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server_location import OwnServer, start_server

LOSSES = {"adversarial_A": 0.5, "adversarial_B": 0.6, "cycle_A": 1.0, "cycle_A.ms_ssim": 0.2}
LOSSES |= {"identity_A": 0.4, "content_B": 0.3, "D_A": 0.25, "D_B": 0.26}
OTHERS = {"lr": 2e-4, "images_per_second": 20.0}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server that is there before any monitor."""
    server = start_server(port=0, env_dir=tmp_path_factory.mktemp("running"))
    yield server
    server.stop()


@pytest.fixture
def monitor(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., VisdomMonitor]]:
    """Makes monitors that do not take their time, and closes them after the test."""
    monkeypatch.setattr(live, "INTERVAL", 0.05)
    made: list[VisdomMonitor] = []

    def make(**options: Any) -> VisdomMonitor:
        defaults = {"env": "run", "env_dir": tmp_path / "visdom", "port": 0}
        made.append(VisdomMonitor(**(defaults | options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def post(server_url: str, path: str, message: dict[str, Any]) -> str:
    return VisdomClient(timeout=5).post(server_url, path, message)


def windows(server_url: str, env: str = "run") -> dict[str, Any]:
    try:
        return json.loads(post(server_url, "win_data", {"win": None, "eid": env}))
    except OSError:
        return {}


def titles(server_url: str, env: str) -> list[str]:
    """In the order in which a page shows the windows."""
    drawn = windows(server_url, env)
    return sorted(drawn, key=lambda title: drawn[title]["i"])


def captions(server_url: str, env: str = "run") -> list[str]:
    """The captions of the slider's pictures, each once."""
    window = windows(server_url, env).get("preview", {})
    slider = window["content"] if window.get("type") == "image_history" else []
    return list(dict.fromkeys(frame["caption"] for frame in slider))


def points(server_url: str, title: str, name: str, env: str = "run") -> list[tuple[int, float]]:
    window = windows(server_url, env).get(title)
    traces = window["content"]["data"] if window else []
    return [p for t in traces if t["name"] == name for p in zip(t["x"], t["y"], strict=True)]


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return result


def url_in(said: list[str]) -> str:
    """The address of the server whose page was announced last."""
    page = wait_for(lambda: said and "http://" in said[-1] and said[-1].split()[-1])
    return page.split("/env/")[0]


def picture(width: int = 300, height: int = 200) -> Image.Image:
    return Image.new("RGB", (width, height), (200, 80, 40))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    switches = "--no-sandbox --disable-gpu --disable-background-networking --disable-sync"
    switches += " --disable-component-update --no-first-run"
    # No other host has an address: the browser of a machine without a network.
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=program, args=[*switches.split(), offline]
        )
        yield chromium
        chromium.close()
