"""The Visdom page: real servers on free ports of this machine, and a real browser."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

import pytest
from PIL import Image

from cyclegan.monitor import Health, Monitor, Preview
from cyclegan.monitor.curves import GROUPS
from cyclegan.monitor.visdom import monitor as live
from cyclegan.monitor.visdom import place as placing
from cyclegan.monitor.visdom.app import ASSETS
from cyclegan.monitor.visdom.frames import MOST_FRAMES
from cyclegan.monitor.visdom.monitor import VisdomMonitor
from cyclegan.monitor.visdom.server import Server, find_server, post, start_server

LOSSES = {"adversarial_A": 0.5, "adversarial_B": 0.6, "cycle_A": 1.0, "cycle_A.ms_ssim": 0.2}
LOSSES |= {"identity_A": 0.4, "content_B": 0.3, "D_A": 0.25, "D_B": 0.26}
OTHERS = {"lr": 2e-4, "images_per_second": 20.0}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is there before any monitor."""
    server = start_server(port=0, env_dir=tmp_path_factory.mktemp("running"))
    yield server
    server.stop()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def monitor(tmp_path: Path, said: list[str]) -> Iterator[Callable[..., VisdomMonitor]]:
    """Makes monitors and closes them after the test."""
    made: list[VisdomMonitor] = []

    def make(**options: Any) -> VisdomMonitor:
        defaults = {"env": "run", "env_dir": tmp_path / "visdom", "say": said.append, "port": 0}
        made.append(VisdomMonitor(**(defaults | options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def windows(server_url: str, env: str = "run") -> dict[str, Any]:
    try:
        return json.loads(post(f"{server_url}/win_data", {"win": None, "eid": env}, timeout=5))
    except OSError:
        return {}


def titles(server_url: str, env: str) -> list[str]:
    """In the order in which a page shows the windows."""
    drawn = windows(server_url, env)
    return sorted(drawn, key=lambda title: drawn[title]["i"])


def captions(server_url: str, env: str = "run") -> list[str]:
    """Of the pictures on the slider, each once."""
    window = windows(server_url, env).get("preview", {})
    slider = window["content"] if window.get("type") == "image_history" else []
    return list(dict.fromkeys(frame["caption"] for frame in slider))


def points(server_url: str, title: str, name: str, env: str = "run") -> list[tuple[int, float]]:
    window = windows(server_url, env).get(title)
    traces = window["content"]["data"] if window else []
    return [p for t in traces if t["name"] == name for p in zip(t["x"], t["y"], strict=True)]


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
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


# What a server is sent


def test_it_is_a_monitor(monitor: Callable[..., VisdomMonitor]) -> None:
    each: Monitor = monitor()
    each.close()


def test_it_attaches_to_the_server_that_is_there(
    monitor: Callable[..., VisdomMonitor], said: list[str], running: Server, tmp_path: Path
) -> None:
    each = monitor(env="attached/twice+", port=running.port)
    each.scalars(1, LOSSES)
    page = f"{running.url}/env/attached_twice_"
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "attached_twice_") == [(1, 1.0)])
    assert wait_for(lambda: said) == [f"Visdom shows the run: {page}"]
    each.close()
    assert running.alive, "a server that is not ours stays"
    assert not (tmp_path / "visdom").exists()


def test_every_curve_has_its_window_and_nan_is_skipped(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    each = monitor(env="windows", port=running.port, history=[(1, LOSSES), (2, LOSSES)])
    each.scalars(3, LOSSES | OTHERS | {"D_A": float("nan"), "cycle_A": float("inf")})
    each.show(3, Preview(picture(3000, 2000)))
    each.close()
    drawn = windows(running.url, "windows")
    names = {
        title: [
            trace["name"] for trace in window["content"]["data"] if trace["name"][-4:] != "each"
        ]
        for title, window in drawn.items()
        if window["type"] == "plot"
    }
    assert names == {
        "generators against discriminators": ["adversarial_A", "adversarial_B"],
        "discriminators": ["D_A", "D_B"],
        "cycle": ["cycle_A", "cycle_A.ms_ssim"],
        "content, contrast and others": ["content_B"],
        "identity": ["identity_A"],
        "learning rate": ["lr"],
        "images per second": ["images_per_second"],
    }
    for title, name, steps in (
        ("discriminators", "D_A", [1, 2]),
        ("discriminators", "D_B", [1, 2, 3]),
        ("cycle", "cycle_A", [1, 2]),
    ):
        assert [step for step, _ in points(running.url, title, name, "windows")] == steps
    assert drawn["preview"]["type"] == "image_history"
    assert drawn["preview"]["i"] == 0, "the preview comes first on the page"
    assert captions(running.url, "windows") == ["step 3"]


def test_the_windows_of_a_run_that_begins_keep_their_places(
    monitor: Callable[..., VisdomMonitor], running: Server, tmp_path: Path
) -> None:
    each = monitor(
        env="order",
        port=running.port,
        run_dir=tmp_path,
        control=lambda name: None,
        expected=["psnr"],
    )
    each.scalars(0, {"pairs_A": 0.5})
    each.show(0, Preview(picture()))
    first = ["preview", "health", "generators against discriminators", "discriminators"]
    wait_for(lambda: titles(running.url, "order") == [*first, "controls"])
    each.scalars(1, LOSSES | OTHERS)
    wait_for(lambda: len(titles(running.url, "order")) > 10)
    each.scalars(2, {"swd": 9.0, "psnr": 20.0})
    each.show(2, Health(("fine",), ()))
    wait_for(lambda: "sliced Wasserstein distance to real B" in titles(running.url, "order"))
    each.close()
    drawn = titles(running.url, "order")
    assert drawn[:5] == [*first, "controls"]
    known = [title for title in GROUPS if title in drawn]
    unforeseen = "sliced Wasserstein distance to real B"
    in_order = [title for title in drawn if title in GROUPS]
    assert in_order == [title for title in known if title != unforeseen] + [unforeseen]
    assert "PSNR to real B, dB" in known, "it was expected"


def test_a_run_that_begins_anew_leaves_nothing_of_its_predecessor(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    first = monitor(env="again", port=running.port)
    first.scalars(1, LOSSES)
    wait_for(lambda: "identity" in windows(running.url, "again"))
    first.close()
    second = monitor(env="again", port=running.port)
    second.scalars(1, {"D_A": 0.5})
    wait_for(lambda: titles(running.url, "again") == ["preview", "health", "discriminators"])


def test_a_run_that_goes_on_takes_its_windows_over(
    monitor: Callable[..., VisdomMonitor], running: Server, tmp_path: Path
) -> None:
    (tmp_path / "previews").mkdir()
    for step in (0, 400):
        picture().save(tmp_path / "previews" / f"step_{step:08d}.png")
    first = monitor(env="on", port=running.port, run_dir=tmp_path)
    first.scalars(401, LOSSES)
    wait_for(lambda: captions(running.url, "on") == ["step 0", "step 400"])
    first.close()
    before = titles(running.url, "on")
    (tmp_path / "previews" / "step_00000800.png").write_bytes(b"no picture")
    second = monitor(env="on", port=running.port, run_dir=tmp_path, history=[(401, LOSSES)])
    second.scalars(410, LOSSES)
    second.show(500, Preview(picture()))
    wait_for(lambda: captions(running.url, "on") == ["step 0", "step 400", "step 500"])
    assert titles(running.url, "on") == before
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "on")] == [401, 410]


def test_a_run_that_goes_back_takes_everything_later_off_the_page(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    each = monitor(env="back", port=running.port)
    for step in (0, 100, 200, 300):
        each.scalars(step, LOSSES | {"swd": 1.0})
        each.show(step, Preview(picture()))
        wait_for(lambda: captions(running.url, "back")[-1:] == [f"step {step}"])
    each.scalars(150, LOSSES)
    each.show(150, Preview(picture()))
    wait_for(lambda: captions(running.url, "back") == ["step 0", "step 100", "step 150"])
    title = "sliced Wasserstein distance to real B"
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "back")] == [0, 100, 150]
    assert [step for step, _ in points(running.url, title, "swd", "back")] == [0, 100]


def test_our_server_keeps_the_pictures_of_the_slider_and_no_others(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    each = monitor(env="übung", port=running.port)
    for step in (0, 100):
        each.show(step, Preview(picture(40 + step)))
        wait_for(lambda step=step: captions(running.url, "übung")[-1:] == [f"step {step}"])
    window = windows(running.url, "übung")["preview"]
    sources = [urljoin(f"{running.url}/env/x", frame["src"]) for frame in window["content"]]
    sizes = [
        Image.open(io.BytesIO(urlopen(source).read())).size for source in dict.fromkeys(sources)
    ]
    assert sizes == [(40, 200), (140, 200)]
    each.show(0, Preview(picture(50)))
    wait_for(lambda: captions(running.url, "übung") == ["step 0"])
    for source in (sources[-1], f"{running.url}/frame/nobody/0123.jpg"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(source)


@pytest.mark.parametrize("data", [b"<script>", b"\xff\xd8" + bytes(500_000)])
def test_our_server_keeps_nothing_but_small_pictures(running: Server, data: bytes) -> None:
    message = {"eid": "run", "data": b64encode(data).decode()}
    with pytest.raises(HTTPError, match="413"):
        post(f"{running.url}/frame", message, timeout=5)


def test_our_server_keeps_a_bounded_number_of_pictures(running: Server) -> None:
    def keep(index: int) -> None:
        data = b"\xff\xd8" + index.to_bytes(2, "big")
        message = {"eid": "many", "data": b64encode(data).decode()}
        post(f"{running.url}/frame", message, timeout=5)

    for index in range(MOST_FRAMES):
        keep(index)
    with pytest.raises(HTTPError, match="413"):
        keep(MOST_FRAMES)


def test_a_server_of_visdom_s_own_shows_the_newest_picture(
    monitor: Callable[..., VisdomMonitor], tmp_path: Path
) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from visdom.server import app\n"
        "from tornado.ioloop import IOLoop\n"
        "served = app.Application(env_path=sys.argv[1]).listen(0, '127.0.0.1')\n"
        "print(next(iter(served._sockets.values())).getsockname()[1], flush=True)\n"
        "IOLoop.current().start()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        each = monitor(port=port, run_dir=tmp_path, control=lambda name: None)
        for step in (0, 100, 50):
            each.show(step, Preview(picture()))
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda step=step: captions(url) == [f"step {step}"])
        assert windows(url)["preview"]["content"][0]["src"].startswith("data:image/jpeg;base64,")
        assert len(windows(url)["preview"]["content"]) == 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_report_and_a_preview_of_one_step_are_told_together(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    each = monitor(env="both", port=running.port)
    each.scalars(400, LOSSES)
    each.show(400, Preview(picture()))
    each.scalars(400, {"pairs_A": 0.5})
    wait_for(lambda: points(running.url, "share of pairs that D tells apart", "pairs_A", "both"))
    each.close()
    assert points(running.url, "cycle", "cycle_A", "both") == [(400, 1.0)]
    assert points(running.url, "share of pairs that D tells apart", "pairs_A", "both") == [
        (400, 0.5)
    ]
    assert captions(running.url, "both") == ["step 400"]


def test_only_what_has_changed_is_sent(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    each = monitor(env="little", port=running.port)
    each.scalars(1, LOSSES | {"pairs_A": 0.5})
    each.show(1, Preview(picture()))
    pairs = "share of pairs that D tells apart"
    wait_for(lambda: captions(running.url, "little") and pairs in windows(running.url, "little"))
    time.sleep(0.5)
    before = windows(running.url, "little")
    each.scalars(2, {"D_A": 0.5})
    wait_for(lambda: len(points(running.url, "discriminators", "D_A", "little")) == 2)
    after = windows(running.url, "little")
    changed = [name for name in after if after[name]["contentID"] != before[name]["contentID"]]
    assert changed == ["discriminators"]


def test_updates_compute_for_a_small_share_of_the_time(
    monitor: Callable[..., VisdomMonitor], running: Server
) -> None:
    history = [(step, LOSSES | OTHERS) for step in range(1000)]
    each = monitor(env="cheap", port=running.port, history=history)
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "cheap"))
    wait_for(lambda: each._pause > live.INTERVAL)
    began, computed = time.monotonic(), time.process_time()
    step = 1000
    while time.monotonic() - began < 4:
        each.scalars(step, LOSSES | OTHERS)
        step += 1
        time.sleep(0.05)
    assert time.process_time() - computed < 0.05 * (time.monotonic() - began)


def test_closing_sends_the_last_point(
    monitor: Callable[..., VisdomMonitor], running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "INTERVAL", 60.0)
    each = monitor(env="last", port=running.port)
    each.scalars(1, LOSSES)
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "last"))
    each.scalars(2, LOSSES)
    began = time.monotonic()
    each.close()
    assert time.monotonic() - began < 3.5
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "last")] == [1, 2]


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert find_server("127.0.0.1", running.port)


# Servers that come, go, and hang


def test_closing_at_once_starts_no_server(
    monitor: Callable[..., VisdomMonitor], tmp_path: Path
) -> None:
    each = monitor()
    each.close()
    assert not (tmp_path / "visdom").exists()


def test_a_port_taken_by_another_program_leads_to_a_free_one(
    monitor: Callable[..., VisdomMonitor], said: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    other = subprocess.Popen(
        [*command, "--directory", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert other.stdout is not None
        port = int(other.stdout.readline().split(b"port ")[1].split()[0])
        assert not find_server("127.0.0.1", port)
        each = monitor(port=port)
        each.scalars(1, LOSSES)
        url = url_in(said)
        assert urlsplit(url).port != port
        assert points(url, "cycle", "cycle_A") == [(1, 1.0)]
    finally:
        other.kill()
        other.wait()


def test_our_own_server_is_started_again_and_shows_everything(
    monitor: Callable[..., VisdomMonitor], said: list[str]
) -> None:
    each = monitor()
    each.scalars(1, LOSSES)
    each.show(1, Preview(picture()))
    url = url_in(said)
    own = each._place.own
    assert own is not None
    os.kill(own.process.pid, signal.SIGKILL)
    own.process.wait()
    each.scalars(2, LOSSES)
    wait_for(lambda: [s for s, _ in points(url, "cycle", "cycle_A")] == [1, 2])
    wait_for(lambda: captions(url) == ["step 1"])
    each.close()
    assert not find_server("127.0.0.1", own.port), "our server ends with the monitor"


def test_our_own_server_is_not_started_for_ever(
    monitor: Callable[..., VisdomMonitor], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "MAX_STARTS", 1)
    each = monitor()
    each.scalars(1, LOSSES)
    url_in(said)
    assert each._place.own is not None
    each._place.own.process.kill()
    each._place.own.process.wait()
    each.scalars(2, LOSSES)
    wait_for(lambda: len(said) == 2)
    time.sleep(0.5)
    assert len(said) == 2
    assert "training goes on" in said[-1]


def test_a_killed_server_that_is_restarted_shows_everything(
    monitor: Callable[..., VisdomMonitor], said: list[str], tmp_path: Path
) -> None:
    first = start_server(port=0, env_dir=tmp_path / "first")
    each = monitor(port=first.port)
    each.show(1, Preview(picture()))
    for step in range(1, 6):
        each.scalars(step, LOSSES)
    wait_for(lambda: len(points(first.url, "cycle", "cycle_A")) == 5)
    os.kill(first.process.pid, signal.SIGKILL)
    first.stop()
    each.scalars(6, LOSSES)
    wait_for(lambda: "cannot be reached" in said[-1])
    second = start_server(port=first.port, env_dir=tmp_path / "second")
    try:
        assert second.port == first.port
        wait_for(lambda: len(points(second.url, "cycle", "cycle_A")) == 6)
        wait_for(lambda: captions(second.url) == ["step 1"])
        wait_for(lambda: "is back" in said[-1])
        assert len(said) == 3
    finally:
        each.close()
        second.stop()


def test_a_server_that_hangs_costs_one_line_and_no_time(
    monitor: Callable[..., VisdomMonitor], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TIMEOUT", 0.1)
    # A server elsewhere, for which none of our own is started.
    monkeypatch.setattr(placing, "LOCAL_NAMES", ())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        each = monitor(port=deaf.getsockname()[1])
        began = time.monotonic()
        for step in range(100):
            each.scalars(step, LOSSES)
            each.show(step, Preview(picture()))
        assert time.monotonic() - began < 0.5
        wait_for(lambda: said)
        time.sleep(1)
        each.close()
    assert len(said) == 1
    assert said[0] == "Visdom cannot be reached (timed out): training goes on without it"


def test_a_server_that_cannot_start_costs_one_line(
    monitor: Callable[..., VisdomMonitor], said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "visdom").write_text("a file where the folder should be")
    each = monitor()
    each.scalars(1, LOSSES)
    wait_for(lambda: said)
    time.sleep(0.5)
    assert len(said) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from cyclegan.monitor.visdom.server import start_server;"
        "server = start_server(port=0, env_dir=pathlib.Path(sys.argv[1]));"
        "print(server.port, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert find_server("127.0.0.1", port)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not find_server("127.0.0.1", port), 5)


def test_a_server_survives_ctrl_c_and_listens_on_this_machine_only(running: Server) -> None:
    assert os.getpgid(running.process.pid) != os.getpgid(0)
    assert find_server("127.0.0.1", running.port)
    elsewhere = ("127.0.0.2", running.port)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(elsewhere, timeout=2):
        pass


def test_the_server_gives_out_no_file_beside_its_own(running: Server) -> None:
    for path in ("static/%2e%2e/server.py", f"static/{Path(__file__).resolve()}"):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
            assert b"403 Forbidden" in connection.recv(100)


# The page


def test_the_assets_are_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 5_000_000


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


def test_the_page_shows_curves_and_preview_without_any_network(
    monitor: Callable[..., VisdomMonitor], said: list[str], browser: Any, tmp_path: Path
) -> None:
    history = [(step, LOSSES | OTHERS) for step in range(100, 1000, 100)]
    each = monitor(env="lr2hr_v2", history=history)
    each.show(1000, Preview(picture(800, 300)))
    each.scalars(1000, LOSSES | OTHERS)
    url = url_in(said)
    wait_for(lambda: captions(url, "lr2hr_v2") == ["step 1,000"])

    page = browser.new_page(viewport={"width": 1280, "height": 1500})
    requests: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda answer: answer.status >= 400 and wrong.append(answer.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 21")
    page.wait_for_selector("img.content-image")
    page.wait_for_timeout(500)

    names = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p.data.map(t => t.name))"
    )
    assert {name.removesuffix(", each") for name in names} == set(LOSSES | OTHERS)
    steps = page.evaluate("document.querySelector('.js-plotly-plot').data[0].x")
    assert steps == list(range(100, 1100, 100))
    size = "(image => [image.naturalWidth, image.naturalHeight])"
    assert page.evaluate(f"{size}(document.querySelector('img.content-image'))") == [800, 300]
    assert page.url == f"{url}/env/lr2hr_v2", "the front page leads to the run"
    assert not page.locator(".js-link-to-tool").first.is_visible()
    # Visdom's button for smooth curves takes the page down if a curve lacks a marker.
    page.locator("button[title='smooth lines']").first.click()
    page.locator("input[type=range]").first.fill("3")
    page.wait_for_timeout(300)

    page.screenshot(path=tmp_path / "page.png")
    assert wrong == []
    hosts = {urlsplit(request).hostname for request in requests if request.startswith("http")}
    assert hosts == {"127.0.0.1"}
