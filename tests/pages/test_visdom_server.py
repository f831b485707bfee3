"""Servers that come, go and hang, and what ours gives out."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from support.pages import (
    LOSSES,
    OTHERS,
    browser,
    captions,
    monitor,
    picture,
    points,
    running,
    url_in,
    wait_for,
)

from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom import server, server_location
from cyclegan.pages.visdom.client import find_server
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server_location import OwnServer, start_server
from cyclegan.runs.artifacts import Health, Preview

__all__ = ["browser", "monitor", "running"]


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
        assert not find_server(f"http://127.0.0.1:{port}")
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
    own = each._location.own
    assert own is not None
    os.kill(own.process.pid, signal.SIGKILL)
    own.process.wait()
    each.scalars(2, LOSSES)
    wait_for(lambda: [s for s, _ in points(url, "cycle", "cycle_A")] == [1, 2])
    wait_for(lambda: captions(url) == ["step 1"])
    each.close()
    assert not find_server(own.url), "our server ends with the monitor"


def test_our_own_server_is_not_started_for_ever(
    monitor: Callable[..., VisdomMonitor], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_location, "MAX_STARTS", 1)
    each = monitor()
    each.scalars(1, LOSSES)
    url_in(said)
    assert each._location.own is not None
    each._location.own.process.kill()
    each._location.own.process.wait()
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
    monkeypatch.setattr(server_location, "LOCAL_NAMES", ())
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
        "import pathlib, sys, time; from cyclegan.pages.visdom.server_location import start_server;"
        "server = start_server(port=0, env_dir=pathlib.Path(sys.argv[1]));"
        "print(server.port, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert find_server(f"http://127.0.0.1:{port}")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not find_server(f"http://127.0.0.1:{port}"), 5)


def test_a_server_survives_ctrl_c_and_listens_on_this_machine_only(running: OwnServer) -> None:
    assert os.getpgid(running.process.pid) != os.getpgid(0)
    assert find_server(running.url)
    elsewhere = ("127.0.0.2", running.port)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(elsewhere, timeout=2):
        pass


def test_the_server_gives_out_no_file_beside_its_own(running: OwnServer) -> None:
    for path in ("static/%2e%2e/server.py", f"static/{Path(__file__).resolve()}"):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
            assert b"403 Forbidden" in connection.recv(100)


def test_a_page_may_be_opened_before_its_run_has_sent_anything(running: OwnServer) -> None:
    with urlopen(f"{running.url}/env/later") as answer:
        assert b"<title>later</title>" in answer.read()


def test_the_assets_are_small() -> None:
    assets = Path(server.__path__[0], "assets")
    assert sum(path.stat().st_size for path in assets.rglob("*") if path.is_file()) < 5_000_000


def test_the_page_shows_curves_and_preview_without_any_network(
    monitor: Callable[..., VisdomMonitor], said: list[str], browser: Any, tmp_path: Path
) -> None:
    history = [(step, LOSSES | OTHERS) for step in range(100, 1000, 100)]
    each = monitor(env="lr2hr_v2", history=history)
    each.show(1000, Preview(picture(800, 300)))
    each.show(1000, Health(tuple(f"line {i}" for i in range(100)), ()))
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
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => !window.isSeen})")
    page.goto(url)
    page.wait_for_selector("img.content-image")
    page.wait_for_selector("text=line 99")
    assert not page.query_selector(".main-svg"), "nothing is drawn while the page is hidden"
    page.evaluate("window.isSeen = true; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 21")
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
    scrolled = "[...document.querySelectorAll('.window *')].some(part => part.scrollTop > 0)"
    assert not page.evaluate(scrolled), "a text is shown from its beginning"

    page.screenshot(path=tmp_path / "page.png")
    assert wrong == []
    hosts = {urlsplit(request).hostname for request in requests if request.startswith("http")}
    assert hosts == {"127.0.0.1"}


def test_two_runs_of_one_server_are_laid_over_each_other_without_any_network(
    monitor: Callable[..., VisdomMonitor], said: list[str], browser: Any
) -> None:
    first = monitor(env="one")
    first.scalars(100, LOSSES)
    first.scalars(200, LOSSES)
    url = url_in(said)
    second = monitor(env="two", port=int(url.rpartition(":")[2]))
    second.scalars(100, LOSSES)
    second.scalars(200, LOSSES)
    wait_for(lambda: all(points(url, "cycle", "cycle_A", env)[1:] for env in ("one", "two")))

    page = browser.new_page(viewport={"width": 1280, "height": 1500})
    wrong: list[str] = []
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda answer: answer.status >= 400 and wrong.append(answer.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{url}/compare/one+two")
    # Visdom 0.2 numbers the runs in the names of their curves, Visdom 0.3 names them.
    cycle = (
        "[...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p.data.map(t => t.name))"
    )
    page.wait_for_function(f"{cycle}.some(name => /^(1|two)_cycle_A$/.test(name))")
    assert page.evaluate(f"{cycle}.some(name => /^(0|one)_cycle_A$/.test(name))")
    assert wrong == []
