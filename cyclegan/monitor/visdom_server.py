"""A Visdom server without downloads, on this machine only: the child process and its parent's side.

python -m cyclegan.monitor.visdom_server --port 8097 --env_path ./checkpoints/visdom
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

ASSETS = Path(__file__).resolve().parent / "assets"
LOCALHOST = "127.0.0.1"
LOCAL_NAMES = (LOCALHOST, "localhost", "::1")
LAST_WORDS = 0.2  # seconds a server lives on after its parent


@dataclass(frozen=True)
class Server:
    """A server that runs as our child, and ends with us even if we are killed."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

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


def start_server(*, port: int, env_dir: Path, timeout: float = 20.0) -> Server:
    """Start a server on `port`, or on a free one where that is taken; its log is in `env_dir`.

    Raises RuntimeError, with the end of the log, if it is not up within `timeout` seconds.
    """
    env_dir.mkdir(parents=True, exist_ok=True)
    log = env_dir / "server.log"
    command = [sys.executable, "-m", __name__, "--follow_parent"]
    # The child finds this package wherever the parent was started from.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--env_path", str(env_dir)],
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
    server = Server(process, port=int(answer) if answer.strip().isdigit() else 0)
    if not server.port:
        server.stop()
        raise RuntimeError(f"Visdom's server did not start: {_last_line(log)}")
    return server


def find_server(host: str, port: int) -> bool:
    """Whether a Visdom server, not just any server, answers there within two seconds."""
    try:
        names = json.loads(post(f"http://{host}:{port}/env_state", {}, timeout=2.0))
    except Exception:  # whatever answers may break HTTP and JSON in any way it likes
        return False
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def post(url: str, message: dict[str, Any], *, timeout: float) -> str:
    """Send one message of Visdom's protocol; every failure raises, unlike in Visdom's client."""
    # A proxy named in the environment could not reach this machine by its local name.
    local = urlsplit(url).hostname in LOCAL_NAMES
    proxies = urllib.request.ProxyHandler({} if local else None)
    request = urllib.request.Request(url, data=json.dumps(message).encode())
    with urllib.request.build_opener(proxies).open(request, timeout=timeout) as answer:
        return str(answer.read().decode())


def main() -> None:
    options = argparse.ArgumentParser(description="Show saved Visdom environments.")
    options.add_argument("--port", type=int, default=8097)
    options.add_argument("--env_path", type=Path, required=True)
    options.add_argument("--follow_parent", action="store_true", help="end when stdin closes")
    chosen = options.parse_args()
    report = sys.stdout
    # Nobody reads our standard output after the port, and a full pipe would block the server.
    sys.stdout = sys.stderr
    if chosen.follow_parent:
        threading.Thread(target=_exit_at_end_of, args=(sys.stdin.buffer,), daemon=True).start()
    serve(port=chosen.port, env_dir=chosen.env_path, report=report)


def serve(*, port: int, env_dir: Path, report: IO[str]) -> None:
    """Serve until killed; the port goes to `report` once the server listens."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    warnings.simplefilter("ignore")
    # Visdom imports torch where it can, which costs seconds and memory that a server never uses.
    sys.modules["torch"] = None  # type: ignore[assignment]
    # Tornado and Visdom load here, not above: the parent imports this module as well.
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop
    from tornado.netutil import bind_sockets

    try:
        sockets = bind_sockets(port, LOCALHOST)
    except OSError:
        sockets = bind_sockets(0, LOCALHOST)
    port = sockets[0].getsockname()[1]
    HTTPServer(_application(port=port, env_dir=env_dir)).add_sockets(sockets)
    report.write(f"{port}\n")
    report.flush()
    with suppress(KeyboardInterrupt):
        IOLoop.current().start()


def _application(*, port: int, env_dir: Path) -> Any:
    from visdom.server import app

    env_dir.mkdir(parents=True, exist_ok=True)
    # Visdom asks for Tornado's debug mode, which restarts the server when a source file changes.
    app.tornado_settings.update(autoreload=False, serve_traceback=False)
    app.tornado_settings["static_handler_class"] = _static_files()
    build: Any = app.Application
    application = build(port=port, env_path=str(env_dir))
    application.settings["debug"] = False
    # The link "Edit" in every plot would send its curves to a public site.
    application.user_settings["user_css"] += ".js-link-to-tool { display: none !important; }\n"
    application.add_handlers(".*", [("/", _front_page(application.state))])
    return application


def _front_page(environments: Mapping[str, Any]) -> type[Any]:
    from tornado.web import RequestHandler

    class FrontPage(RequestHandler):
        """Shows the newest run, where Visdom shows the environment "main", which stays empty."""

        def get(self) -> None:
            names = [name for name in environments if name != "main"]
            self.redirect(f"/env/{quote(names[-1] if names else 'main')}")

    return FrontPage


def _static_files() -> type[Any]:
    from tornado.web import StaticFileHandler

    class StaticFiles(StaticFileHandler):
        """Our own assets first, then what Visdom ships."""

        @classmethod
        def get_absolute_path(cls, root: str, path: str) -> str:
            ours = (ASSETS / path).resolve()
            return str(ours) if ours.is_file() else super().get_absolute_path(root, path)

        def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
            ours = Path(absolute_path).is_relative_to(ASSETS)
            return super().validate_absolute_path(str(ASSETS) if ours else root, absolute_path)

        @classmethod
        def get_version(cls, settings: dict[str, Any], path: str) -> str | None:
            # Visdom's page names ../user/style.css as static, where newer Tornados see a break-out.
            return None

    return StaticFiles


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
