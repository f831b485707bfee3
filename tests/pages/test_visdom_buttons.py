"""The buttons of the live page: what counts as a press, and that nothing else does."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support.pages import LOSSES, monitor, picture, running, wait_for, windows

from cyclegan.pages.visdom import buttons as listening
from cyclegan.pages.visdom.buttons import (
    BUTTONS,
    CONTROLS,
    Controls,
    clicked_button,
)
from cyclegan.pages.visdom.client import VisdomClient, find_server
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server.login import PASSWORD, USERNAME
from cyclegan.pages.visdom.server_location import OwnServer, start_server
from cyclegan.runs.artifacts import Preview

__all__ = ["monitor", "running"]

EVENT = {
    "event_type": "PropertyUpdate",
    "eid": "run",
    "target": CONTROLS,
    "propertyId": 0,
    "value": "clicked",
}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(listening, "DOUBLE_CLICK", 0.3)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def control(tmp_path: Path, asked: list[str]) -> Callable[[str], None]:
    """As the trainer has it: files in the run's folder."""

    def do(name: str) -> None:
        asked.append(name)
        if name == "go_on":
            (tmp_path / "pause").unlink()
        else:
            (tmp_path / name).touch()

    return do


@pytest.fixture
def page() -> Iterator[Callable[..., Any]]:
    """Opens the connection that a page has."""
    opened = []

    def open_page(server: OwnServer) -> Any:
        import websocket

        connection = websocket.create_connection(f"ws://127.0.0.1:{server.port}/socket", timeout=5)
        opened.append(connection)
        return connection

    yield open_page
    for connection in opened:
        connection.close()


def press(connection: Any, **event: Any) -> None:
    connection.send(json.dumps({"cmd": "forward_to_vis", "data": EVENT | event}))


def rows(server: OwnServer, env: str = "run") -> list[tuple[str, str]]:
    window = windows(server.url, env).get(CONTROLS, {"content": []})
    return [(row["name"], row["value"]) for row in window["content"]]


def start(make: Callable[..., VisdomMonitor], server: OwnServer, **options: Any) -> VisdomMonitor:
    """A monitor whose page is there and heard."""
    each = make(port=server.port, **options)
    each.scalars(1, LOSSES)
    wait_for(lambda: rows(server, options.get("env", "run")))
    controls: Any = each._controls
    wait_for(lambda: controls._socket is not None)
    time.sleep(0.2)
    return each


# What counts


@pytest.mark.parametrize("index", range(len(BUTTONS)))
def test_a_button_of_ours_counts(index: int) -> None:
    assert clicked_button(json.dumps(EVENT | {"propertyId": index}), env="run") == BUTTONS[index]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        "[" * 50_000,
        "[" * 15_000,
        b"{}",
        None,
        json.dumps(EVENT | {"eid": "other"}),
        json.dumps(EVENT | {"eid": ["run"]}),
        json.dumps(EVENT | {"target": "window_1"}),
        json.dumps(EVENT | {"event_type": "Click"}),
        json.dumps(EVENT | {"value": True}),
        *(json.dumps(EVENT | {"propertyId": i}) for i in (4, -1, 10**30, True, 1.0, "0", None)),
        json.dumps({key: EVENT[key] for key in EVENT if key != "propertyId"}),
        json.dumps(EVENT | {"pane_data": "x" * 30_000}),
        json.dumps({"command": "alive", "data": "vis_alive"}),
    ],
)
def test_nothing_else_counts(message: object) -> None:
    assert clicked_button(message, env="run") is None


# On a real server


def test_the_page_s_buttons_arrive_and_the_window_shows_the_state(
    monitor: Any, running: OwnServer, page: Any, tmp_path: Path, control: Any, asked: list[str]
) -> None:
    start(monitor, running, run_dir=tmp_path, control=control)
    assert rows(running)[0] == ("running", "pause")
    connection = page(running)
    press(connection, propertyId=0)
    wait_for(lambda: rows(running)[0] == ("the run is paused", "go on"))
    assert (tmp_path / "pause").exists()
    time.sleep(0.3)
    press(connection, propertyId=0)
    wait_for(lambda: rows(running)[0] == ("running", "pause"))
    for index in (1, 2, 3):
        press(connection, propertyId=index)
    wait_for(lambda: len(asked) == 5)
    assert asked == ["pause", "go_on", "save", "preview", "stop"]
    # The trainer takes them away as soon as it has seen them.
    for name in ("save", "preview", "stop"):
        (tmp_path / name).unlink()
    wait_for(lambda: rows(running)[1][0] == "state and weights")
    assert rows(running)[3][0] == "stops after this epoch"


def test_a_file_in_the_run_s_folder_shows_on_the_page(
    monitor: Any, running: OwnServer, tmp_path: Path, control: Any, asked: list[str]
) -> None:
    start(monitor, running, env="by_file", run_dir=tmp_path, control=control)
    (tmp_path / "pause").touch()
    wait_for(lambda: rows(running, "by_file")[0] == ("the run is paused", "go on"))
    assert asked == []


def test_a_double_click_is_one_press(
    monitor: Any, running: OwnServer, page: Any, tmp_path: Path, control: Any, asked: list[str]
) -> None:
    start(monitor, running, env="double", run_dir=tmp_path, control=control)
    connection = page(running)
    press(connection, eid="double")
    press(connection, eid="double")
    press(connection, eid="double", propertyId=1)
    wait_for(lambda: "save" in asked)
    assert asked == ["pause", "save"]


def test_other_windows_and_other_runs_press_nothing_here(
    monitor: Any, running: OwnServer, page: Any, tmp_path: Path, control: Any, asked: list[str]
) -> None:
    here = start(monitor, running, env="here", run_dir=tmp_path, control=control)
    elsewhere: list[str] = []
    (tmp_path / "there").mkdir()
    start(monitor, running, env="there", run_dir=tmp_path / "there", control=elsewhere.append)
    here.show(2, Preview(picture()))
    connection = page(running)
    press(connection, eid="there", propertyId=1)
    wait_for(lambda: elsewhere == ["save"])
    press(connection, eid="here", target="preview", propertyId=1)
    press(connection, eid="here", value="x")
    press(connection, eid="here", propertyId=9)
    press(connection, eid="here", propertyId=3)
    wait_for(lambda: asked)
    assert asked == ["stop"]


def test_a_failing_control_costs_one_line(
    monitor: Any, running: OwnServer, page: Any, tmp_path: Path, said: list[str]
) -> None:
    def broken(name: str) -> None:
        raise OSError("disk full")

    start(monitor, running, env="broken", run_dir=tmp_path, control=broken)
    press(page(running), eid="broken", propertyId=1)
    wait_for(lambda: "the page's button for save did nothing: disk full" in said)


def test_buttons_are_heard_again_after_the_server_was_gone(
    monitor: Any, page: Any, tmp_path: Path, control: Any, asked: list[str]
) -> None:
    first = start_server(port=0, env_dir=tmp_path / "first")
    start(monitor, first, run_dir=tmp_path, control=control)
    first.process.kill()
    first.stop()
    second = start_server(port=first.port, env_dir=tmp_path / "second")
    try:
        wait_for(lambda: rows(second))
        connection = page(second)

        def heard() -> bool:
            press(connection, propertyId=1)
            time.sleep(0.2)
            return bool(asked)

        wait_for(heard)
        assert set(asked) == {"save"}
    finally:
        second.stop()


def test_buttons_and_pictures_go_through_a_login(
    monitor: Any, tmp_path: Path, control: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import websocket

    monkeypatch.setenv(USERNAME, "anna")
    monkeypatch.setenv(PASSWORD, "secret")
    server = start_server(port=0, env_dir=tmp_path / "server")
    try:
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{server.url}/frame", b'{"eid": "run", "data": "/9g="}')
        each = start(monitor, server, run_dir=tmp_path, control=control)
        cookie = each._drawing.client.cookie
        assert cookie
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/socket", timeout=5, cookie=cookie
        )
        press(connection, propertyId=1)
        wait_for(lambda: asked == ["save"])
        connection.close()

        each.show(1, Preview(picture()))
        wait_for(lambda: each._drawing.preview_height)
        frame = each._slider.copy()[0]
        address = f"{server.url}/frame/run/{frame.name}.jpg"
        assert urlopen(Request(address, headers={"Cookie": cookie})).read() == frame.encode()
        assert frame.encode() not in urlopen(address).read(), "without it, that is the form"
    finally:
        server.stop()


def test_no_proxy_is_asked_for_this_machine(
    monitor: Any,
    running: OwnServer,
    page: Any,
    tmp_path: Path,
    control: Any,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert find_server(running.url)
    start(monitor, running, env="proxy", run_dir=tmp_path, control=control)
    monkeypatch.delenv("http_proxy")
    press(page(running), eid="proxy", propertyId=1)
    wait_for(lambda: asked == ["save"])


def test_without_a_control_there_are_no_buttons(
    monitor: Any, running: OwnServer, tmp_path: Path
) -> None:
    each = monitor(env="only_seen", port=running.port, run_dir=tmp_path)
    each.scalars(1, LOSSES)
    wait_for(lambda: "cycle" in windows(running.url, "only_seen"))
    assert CONTROLS not in windows(running.url, "only_seen")
    assert not any(thread.name == "visdom-buttons" for thread in threads_of(each))


def test_a_run_that_has_ended_has_no_buttons(
    monitor: Any, running: OwnServer, tmp_path: Path, control: Any
) -> None:
    each = start(monitor, running, env="ended", run_dir=tmp_path, control=control)
    each.close()
    window = windows(running.url, "ended")[CONTROLS]
    assert window["type"] == "text"
    assert "The run has ended" in window["content"]


def test_a_server_that_says_nothing_disturbs_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        controls = Controls(
            "run",
            tmp_path,
            lambda name: None,
            connect=lambda: VisdomClient(timeout=5).connect(url),
            news=lambda: None,
        )
        controls.listen()
        time.sleep(0.3)
        began = time.monotonic()
        controls.close()
        assert time.monotonic() - began < 0.1


def threads_of(monitor: VisdomMonitor) -> list[threading.Thread]:
    listener = monitor._controls._listener if monitor._controls else None
    return [thread for thread in (monitor._thread, listener) if thread]
