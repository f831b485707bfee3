"""Who may open the live page: real servers on free ports of this machine."""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.pages import LOSSES, browser, picture, url_in, wait_for

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.monitor.selection import check_monitors
from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom.client import VisdomClient, find_server
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server import login as logins
from cyclegan.pages.visdom.server.login import PASSWORD, USERNAME, is_loopback
from cyclegan.pages.visdom.server_location import OwnServer, start_server
from cyclegan.runs.artifacts import Preview
from cyclegan.training.build.build_run import RunBuilder

ROOT = Path(__file__).resolve().parents[2]
LOGIN = {USERNAME: "anna", PASSWORD: "correct horse ü"}
ASKED = ("env_state", "win_data", "events", "update", "save", "delete_env", "fork_env", "close")

__all__ = ["browser"]


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(USERNAME, raising=False)
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setattr(live, "INTERVAL", 0.05)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server on all addresses, with a login."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOGIN.items():
            patch.setenv(name, value)
        server = start_server(port=0, env_dir=tmp_path_factory.mktemp("closed"), host="0.0.0.0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server as it is by default: on this machine, without a login."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(USERNAME, raising=False)
        server = start_server(port=0, env_dir=tmp_path_factory.mktemp("local"))
    yield server
    server.stop()


def ask(
    server: OwnServer,
    method: str,
    path: str,
    *,
    body: object = None,
    host: str = "127.0.0.1",
    **more,
) -> tuple[int, str]:
    """Status and text of the answer, nothing followed."""
    connection = http.client.HTTPConnection(host, server.port, timeout=10)
    connection.request(method, path, None if body is None else json.dumps(body), more)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text + str(answer.headers)


def websocket_status(server: OwnServer, path: str, **headers: str) -> int:
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", **key, **headers}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=upgrade)
    answer = connection.getresponse()
    # Visdom takes a socket that closes before its first words for one that is still there.
    last_words = b"vis_alive" if path == "/vis_socket" else b"env_update"
    said = b""
    while answer.status == 101 and last_words not in said:
        said += answer.fp.read1()
    connection.close()
    return answer.status


# Before a run begins


def check_page(host: str, **options: Any) -> None:
    settings = TrainSettings(display_host=host, **options)
    check_monitors(RunBuilder(settings)._shown_monitors(), page_host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gpu7.example", "0", "127.1"])
def test_an_address_that_others_reach_needs_a_login(host: str) -> None:
    with pytest.raises(UserError, match=f"{USERNAME} and {PASSWORD}") as said:
        check_page(host)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("missing", [USERNAME, PASSWORD])
def test_half_a_login_is_none(login: None, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(missing, "")
    with pytest.raises(UserError, match="opens the page to other machines"):
        check_page("0.0.0.0")


def test_with_a_login_the_page_may_be_open_to_all(login: None) -> None:
    check_page("0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_alone_needs_no_login(host: str) -> None:
    check_page(host)


@pytest.mark.parametrize("host", ["", "192.0.2.1", "no such name", "a\0b", "\udc80", "x" * 300])
def test_an_address_of_another_machine_is_refused(login: None, host: str) -> None:
    with pytest.raises(UserError, match="is no address of this machine"):
        check_page(host)


@pytest.mark.parametrize("off", [{"display_id": 0}, {"monitor": "none"}])
def test_without_the_page_its_address_does_not_matter(off: dict[str, Any]) -> None:
    check_page("0.0.0.0", **off)


def test_only_addresses_that_never_leave_the_machine_are_loopback() -> None:
    here = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost"]
    elsewhere = ["", "0.0.0.0", "::", "10.0.0.1", "1", "127.0.0.1.evil.example", "localhost.x"]
    assert all(map(is_loopback, here))
    assert not any(map(is_loopback, elsewhere))


def test_a_server_started_by_hand_refuses_as_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cyclegan.pages.visdom.server.process", "--host=0.0.0.0"]
    done = subprocess.run(
        [*command, "--port=0", f"--env_path={tmp_path / 'env'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--host 0.0.0.0 opens the page to other machines" in done.stderr
    assert not (tmp_path / "env").exists()


# A server with a login


def test_without_the_login_every_question_is_refused(closed: OwnServer) -> None:
    for path in (*ASKED, "socket_wrap", "vis_socket_wrap", "env/main", "compare/a+b"):
        status, text = ask(closed, "POST", f"/{path}", body={"eid": "main", "win": None})
        assert status == 403, path
        assert "main" not in text
    assert not find_server(closed.url)


def test_without_the_login_every_page_is_the_form(closed: OwnServer) -> None:
    for path in ("/env/main", "/compare/a", "/nothing", "/socket_wrap", "//", "/index.html"):
        status, text = ask(closed, "GET", path)
        assert (status, "Location: /\n" in text) == (302, True), path
    status, text = ask(closed, "GET", "/")
    assert status == 200
    assert "Visdom Login" in text


@pytest.mark.parametrize("path", ["/socket", "/vis_socket"])
def test_without_the_login_no_socket_is_opened(closed: OwnServer, path: str) -> None:
    assert websocket_status(closed, path) == 403
    cookie = log_in_as_anna(closed)
    assert websocket_status(closed, path, Cookie=cookie) == 101


def log_in_as_anna(server: OwnServer) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOGIN.items():
            patch.setenv(name, value)
        client = VisdomClient(timeout=10)
        client.log_in(server.url)
        return client.cookie


def test_a_wrong_password_and_a_made_up_cookie_do_not_help(
    closed: OwnServer, login: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "correct horse")
    with pytest.raises(PermissionError, match="does not take the login"):
        VisdomClient(timeout=10).log_in(closed.url)
    cookie = log_in_as_anna(closed)
    for forged in ("user_password=1", f'{cookie[:-3]}00"', "user_password=", "nonsense"):
        assert ask(closed, "POST", "/env_state", body={}, Cookie=forged)[0] == 403, forged
    assert ask(closed, "POST", "/env_state", body={}, Cookie=cookie)[0] == 200


def test_a_sender_logs_in_again_where_the_server_has_forgotten_it(
    closed: OwnServer, login: None
) -> None:
    sender = VisdomClient(timeout=10)
    sender.cookie = "user_password=stale"
    assert "main" in json.loads(sender.post(closed.url, "env_state", {}))


def test_a_sender_without_a_login_says_what_is_wanted(closed: OwnServer) -> None:
    with pytest.raises(PermissionError, match=f"it asks for a login: set {USERNAME}"):
        VisdomClient(timeout=10).post(closed.url, "env_state", {})


def test_a_run_arrives_at_a_server_that_asks_for_the_login(
    closed: OwnServer, login: None, tmp_path: Path, said: list[str]
) -> None:
    monitor = VisdomMonitor(env="run", env_dir=tmp_path / "visdom", port=closed.port)
    monitor.scalars(1, LOSSES)
    assert url_in(said) == closed.url
    monitor.close()
    drawn = json.loads(
        VisdomClient(timeout=10).post(closed.url, "win_data", {"win": None, "eid": "run"})
    )
    assert "cycle" in drawn
    assert not (tmp_path / "visdom").exists()


def test_a_server_of_visdom_own_start_takes_our_login(login: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / ".visdom").mkdir()
    program = "import visdom.server.run_server as run; run.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "-port", str(port), "-enable_login", "-bind_local"],
        env=os.environ
        | {"VISDOM_USE_ENV_CREDENTIALS": "1", "VISDOM_COOKIE": "salt", "HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: find_server(f"http://127.0.0.1:{port}"))
        assert ask(OwnServer(process, port), "POST", "/env_state", body={})[0] in (400, 401)
    finally:
        process.kill()
        process.wait()


def test_our_own_server_listens_where_it_is_told_and_keeps_no_secret(
    login: None, tmp_path: Path, said: list[str]
) -> None:
    sent = logins.login()
    assert sent is not None
    monitor = VisdomMonitor(env="run", env_dir=tmp_path, port=0, host="127.0.0.2")
    try:
        monitor.show(1, Preview(Image.new("RGB", (8, 8))))
        assert url_in(said).startswith("http://127.0.0.2:")
        own = monitor._location.own
        assert own is not None
        with pytest.raises(ConnectionRefusedError):
            ask(own, "GET", "/")
        assert ask(own, "POST", "/env_state", body={}, host="127.0.0.2")[0] == 403
        ask(own, "POST", "/", body={"username": "anna"}, host="127.0.0.2")
        ask(own, "POST", "/", body=sent | {"username": "x"}, host="127.0.0.2")
    finally:
        monitor.close()
    kept = hashlib.sha256(sent["password"].encode()).hexdigest()
    for secret in (LOGIN[PASSWORD], sent["password"], kept):
        for path in filter(Path.is_file, tmp_path.rglob("*")):
            assert secret not in path.read_text(), path


def test_a_login_in_the_environment_closes_the_page_on_this_machine_too(
    login: None, tmp_path: Path
) -> None:
    server = start_server(port=0, env_dir=tmp_path)
    try:
        assert ask(server, "POST", "/env_state", body={})[0] == 403
        assert find_server(server.url)
    finally:
        server.stop()


# Pages of others in a browser on this machine


@pytest.mark.parametrize("name", ["evil.example", "192.0.2.1", "127.0.0.1.evil.example", "0.0.0.0"])
def test_a_server_on_this_machine_answers_to_no_other_name(local: OwnServer, name: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/env/main"), ("POST", "/env_state")):
        assert ask(local, method, path, body={}, Host=f"{name}:{local.port}")[0] == 403
    assert websocket_status(local, "/socket", Host=f"{name}:{local.port}") == 403


@pytest.mark.parametrize("name", ["127.0.0.1:1", "localhost:9000", "LOCALHOST", "[::1]:8097"])
def test_a_tunnel_may_come_in_at_any_port(local: OwnServer, name: str) -> None:
    host = {"Host": name}
    assert ask(local, "POST", "/env_state", body={}, Origin=f"http://{name}", **host)[0] == 200
    assert websocket_status(local, "/socket", Origin=f"http://{name}", **host) == 101


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_a_page_of_another_site_can_neither_post_nor_listen(local: OwnServer, origin: str) -> None:
    message = {"win": "w", "eid": "planted", "data": [], "layout": {}, "opts": {}}
    assert ask(local, "POST", "/events", body=message, Origin=origin)[0] == 403
    assert websocket_status(local, "/socket", Origin=origin) == 403
    assert "planted" not in ask(local, "POST", "/env_state", body={})[1]


def test_a_browser_sees_the_run_after_the_login(
    closed: OwnServer, login: None, tmp_path: Path, browser: Any, said: list[str]
) -> None:
    monitor = VisdomMonitor(env="seen", env_dir=tmp_path, port=closed.port)
    monitor.show(1, Preview(picture()))
    monitor.scalars(1, LOSSES)
    url_in(said)
    monitor.close()
    page = browser.new_context(viewport={"width": 1280, "height": 1500}).new_page()
    wrong: list[str] = []
    page.on("requestfailed", lambda r: "ABORTED" in str(r.failure) or wrong.append(r.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{closed.url}/env/seen")
    page.fill("#inputUsername", LOGIN[USERNAME])
    page.fill("#inputPassword", LOGIN[PASSWORD])
    page.click("#submitButton")
    page.wait_for_url(f"{closed.url}/env/seen")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
    page.wait_for_selector("img.content-image")
    page.context.close()
    assert wrong == []
