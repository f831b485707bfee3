"""A Visdom server without downloads, on this machine only unless told otherwise: the child process
and its parent's side.

python -m cyclegan.pages.visdom.server.process --port 8097 --env_path ./checkpoints/visdom
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cyclegan.config.errors import one_line_errors
from cyclegan.pages.visdom.server.app import application
from cyclegan.pages.visdom.server.login import (
    COOKIE,
    LOCALHOST,
    PASSWORD,
    USERNAME,
    check_host,
    is_loopback,
    login_from,
)

LOCAL_NAMES = (LOCALHOST, "localhost", "::1")
LAST_WORDS = 0.2  # seconds a server lives on after its parent


@dataclass(frozen=True)
class Server:
    """A server that runs as our child, and ends with us even if we are killed."""

    process: subprocess.Popen[bytes]
    port: int
    host: str = LOCALHOST

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        return _url({"0.0.0.0": LOCALHOST, "::": "::1"}.get(self.host, self.host), self.port)

    @property
    def shown(self) -> str:
        """Where a browser does; of a server on all addresses, by the name of this machine."""
        return _url(
            socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host, self.port
        )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """End it, a moment after what it still has for open pages has gone out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10 * LAST_WORDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def start_server(
    *, port: int, env_dir: Path, host: str = LOCALHOST, timeout: float = 20.0
) -> Server:
    """Start a server on `port`, or on a free one where that is taken; its log is in `env_dir`.

    It asks for the login that the environment names, without which it listens on this machine only.

    Raises RuntimeError, with the end of the log, if it is not up within `timeout` seconds.
    """
    env_dir.mkdir(parents=True, exist_ok=True)
    log = env_dir / "server.log"
    command = [sys.executable, "-m", __name__, "--follow_parent"]
    # The child finds this package wherever the parent was started from.
    paths = [str(Path(__file__).resolve().parents[4]), os.environ.get("PYTHONPATH", "")]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, f"--host={host}", f"--port={port}", f"--env_path={env_dir}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            # Ctrl-C in the terminal is for the training, which then sends its last update.
            start_new_session=True,
        )
    alarm = threading.Timer(timeout, process.kill)
    alarm.daemon = True
    alarm.start()
    assert process.stdout is not None
    answer = process.stdout.readline()
    alarm.cancel()
    server = Server(process, port=int(answer) if answer.strip().isdigit() else 0, host=host)
    if not server.port:
        server.stop()
        raise RuntimeError(f"Visdom's server did not start: {_last_line(log)}")
    return server


def find_server(host: str, port: int) -> bool:
    """Whether a Visdom server, not just any server, answers there within two seconds, and lets us
    in.
    """
    try:
        names = json.loads(Sender(timeout=2.0).post(_url(host, port), "env_state", {}))
    except Exception:  # whatever answers may break HTTP and JSON in any way it likes
        return False
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


class Sender:
    """Sends messages to one server, and logs in where it asks for that."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self.cookie = ""

    def post(self, server: str, path: str, message: dict[str, Any]) -> str:
        url = f"{server}/{path}"
        try:
            return post(url, message, timeout=self.timeout, cookie=self.cookie)
        except HTTPError as error:
            error.close()
            # To strangers Visdom 0.2 answers 400, Visdom 0.3 401, our own server 403.
            if error.code not in (400, 401, 403):
                raise
        self.cookie = log_in(server, timeout=self.timeout)
        return post(url, message, timeout=self.timeout, cookie=self.cookie)


def log_in(server: str, *, timeout: float) -> str:
    """The cookie for the login that the environment names; raises PermissionError without one."""
    login = login_from()
    if login is None:
        raise PermissionError(f"it asks for a login: set {USERNAME} and {PASSWORD}")
    try:
        with _open(f"{server}/", login.message(), timeout=timeout) as answer:
            cookies = SimpleCookie("; ".join(answer.headers.get_all("Set-Cookie", [])))
    except HTTPError as error:
        error.close()
        raise PermissionError(f"it does not take the login of {USERNAME}") from None
    return f"{COOKIE}={cookies[COOKIE].coded_value}" if COOKIE in cookies else ""


def post(url: str, message: dict[str, Any], *, timeout: float, cookie: str = "") -> str:
    """Send one message of Visdom's protocol; every failure raises, unlike in Visdom's client."""
    with _open(url, message, timeout=timeout, cookie=cookie) as answer:
        return str(answer.read().decode())


def _open(url: str, message: dict[str, Any], *, timeout: float, cookie: str = "") -> Any:
    # A proxy named in the environment could not reach this machine by its local name.
    local = is_loopback(urlsplit(url).hostname or "")
    proxies = urllib.request.ProxyHandler({} if local else None)
    request = urllib.request.Request(url, data=json.dumps(message).encode())
    # Where a server sends us on to another one, that is not to learn the cookie.
    request.add_unredirected_header("Cookie", cookie)
    return urllib.request.build_opener(proxies).open(request, timeout=timeout)


def main() -> None:
    options = argparse.ArgumentParser(description="Show saved Visdom environments.")
    options.add_argument("--host", default=LOCALHOST, help="address to listen on")
    options.add_argument("--port", type=int, default=8097)
    options.add_argument("--env_path", type=Path, required=True)
    options.add_argument("--follow_parent", action="store_true", help="end when stdin closes")
    chosen = options.parse_args()
    with one_line_errors():
        check_host(chosen.host, option="--host")
    report = sys.stdout
    # Nobody reads our standard output after the port, and a full pipe would block the server.
    sys.stdout = sys.stderr
    if chosen.follow_parent:
        threading.Thread(target=_exit_at_end_of, args=(sys.stdin.buffer,), daemon=True).start()
    serve(host=chosen.host, port=chosen.port, env_dir=chosen.env_path, report=report)


def serve(*, host: str, port: int, env_dir: Path, report: IO[str]) -> None:
    """Serve until killed; the port goes to `report` once the server listens."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    warnings.simplefilter("ignore")
    # Visdom imports these if it can: seconds and memory that a server never needs.
    sys.modules |= dict.fromkeys(("torch", "openTSNE"))  # type: ignore[arg-type]
    # Tornado loads here, not above: the parent imports this module as well.
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop
    from tornado.netutil import bind_sockets

    try:
        sockets = bind_sockets(port, host)
    except OSError:
        sockets = bind_sockets(0, host)
    port = sockets[0].getsockname()[1]
    HTTPServer(application(host=host, port=port, env_dir=env_dir)).add_sockets(sockets)
    report.write(f"{port}\n")
    report.flush()
    with suppress(KeyboardInterrupt):
        IOLoop.current().start()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it gave no reason")


def _exit_at_end_of(stream: IO[bytes]) -> None:
    # The parent never writes: the stream ends when it closes its side, or is killed.
    stream.read()
    time.sleep(LAST_WORDS)
    os._exit(0)


if __name__ == "__main__":
    main()
