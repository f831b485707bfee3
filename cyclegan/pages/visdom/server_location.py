"""The Visdom server of a live page: the given one, or one of our own."""

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cyclegan.pages.visdom.client import find_server
from cyclegan.pages.visdom.server import process as server_process
from cyclegan.pages.visdom.server.login import LOCALHOST

MAX_STARTS = 4  # of our own server
LOCAL_NAMES = (LOCALHOST, "localhost", "::1")


class ServerLocation:
    """The given server or, on this machine if none is there, one of our own."""

    def __init__(self, server: str, port: int, *, host: str, env_dir: Path) -> None:
        self._given = f"{server if '://' in server else f'http://{server}'}:{port}"
        self._port = port
        self._host = host
        self._env_dir = env_dir
        self._attached = False
        self.own: OwnServer | None = None
        self.starts = 0

    @property
    def is_known(self) -> bool:
        return self.own is not None or self._attached

    @property
    def shown(self) -> str:
        """The address for a browser."""
        return self.own.shown if self.own else self._given

    def connect(self, *, patient: bool) -> str:
        """The address for this process. While `patient`, it waits for somebody else's server that
        is gone.

        Raises RuntimeError if our own does not start, or has ended too often.
        """
        if self.own and self.own.alive:
            return self.own.url
        is_remote = urlsplit(self._given).hostname not in LOCAL_NAMES
        # A server that is gone may have belonged to another run, which has ended.
        if not self.own and (not self._attached or not (is_remote or patient)):
            self._attached = is_remote or find_server(self._given)
        if self._attached:
            return self._given
        if self.starts == MAX_STARTS:
            raise RuntimeError(f"our own server ended {MAX_STARTS} times")
        self.starts += 1
        # An open page reconnects only at the same address.
        port = self.own.port if self.own else self._port
        self.own = start_server(host=self._host, port=port, env_dir=self._env_dir)
        return self.own.url

    def stop(self) -> None:
        """Stops the server if it is our own."""
        if self.own:
            self.own.stop()


@dataclass(frozen=True)
class OwnServer:
    """A child process, which ends with this one even if that is killed."""

    process: subprocess.Popen[bytes]
    port: int
    host: str = LOCALHOST

    @property
    def url(self) -> str:
        """The address for this machine."""
        return _url({"0.0.0.0": LOCALHOST, "::": "::1"}.get(self.host, self.host), self.port)

    @property
    def shown(self) -> str:
        """The address for a browser, which may be on another machine."""
        is_open = self.host in ("0.0.0.0", "::")
        return _url(socket.gethostname() if is_open else self.host, self.port)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Ends it after the moment that it needs to send the last updates to open pages."""
        try:
            # Closes its standard input, for which it waits.
            self.process.communicate(timeout=10 * server_process.GRACE_PERIOD)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def start_server(
    *, port: int, env_dir: Path, host: str = LOCALHOST, timeout: float = 20.0
) -> OwnServer:
    """Starts a server on `port`, or on a free one if that is taken, with its log in `env_dir`.

    It asks for the login in the environment. Raises RuntimeError, with the end of the log, if it is
    not up within `timeout` seconds.
    """
    env_dir.mkdir(parents=True, exist_ok=True)
    log = env_dir / "server.log"
    command = [sys.executable, "-m", server_process.__name__, "--follow_parent"]
    # The child finds this package from any working directory.
    paths = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [*command, f"--host={host}", f"--port={port}", f"--env_path={env_dir}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            # Ctrl-C in the terminal ends the training, which then sends its last update.
            start_new_session=True,
        )
    alarm = threading.Timer(timeout, child.kill)
    alarm.daemon = True
    alarm.start()
    assert child.stdout is not None
    answer = child.stdout.readline().strip()
    alarm.cancel()
    if answer.isdigit():
        return OwnServer(child, port=int(answer), host=host)
    child.kill()
    child.communicate()
    reasons = ["it gave no reason", *log.read_text(errors="replace").split("\n")]
    raise RuntimeError(f"Visdom's server did not start: {list(filter(str.strip, reasons))[-1]}")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
