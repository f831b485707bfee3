"""Where a run's live page is: on the server named, or on one of our own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from cyclegan.pages.visdom.server.process import (
    LOCAL_NAMES,
    Server,
    find_server,
    start_server,
)

MAX_STARTS = 4  # of our own server


class Place:
    """The server that is there, or, on this machine where none is, one of our own."""

    def __init__(self, server: str, port: int, *, host: str, env_dir: Path) -> None:
        self._named = f"{server if '://' in server else f'http://{server}'}:{port}"
        self._port = port
        self._host = host
        self._env_dir = env_dir
        self._attached = False
        self.own: Server | None = None
        self.starts = 0

    @property
    def is_known(self) -> bool:
        return self.own is not None or self._attached

    @property
    def shown(self) -> str:
        """The address for a browser."""
        return self.own.shown if self.own else self._named

    def reach(self, *, patient: bool) -> str:
        """The address for us; a server of somebody else's that is gone is waited for while
        `patient`.

        Raises RuntimeError where our own does not start, or ended too often.
        """
        if self.own and self.own.alive:
            return self.own.url
        host = urlsplit(self._named).hostname or ""
        elsewhere = host not in LOCAL_NAMES
        if not self.own and not self._attached:
            self._attached = elsewhere or find_server(host, self._port)
        elif self._attached and not elsewhere and not patient:
            # Another run's, now ended, maybe.
            self._attached = find_server(host, self._port)
        if self._attached:
            return self._named
        if self.starts == MAX_STARTS:
            raise RuntimeError(f"our own server ended {MAX_STARTS} times")
        self.starts += 1
        # An open page finds a server that comes back only under its old address.
        port = self.own.port if self.own else self._port
        self.own = start_server(host=self._host, port=port, env_dir=self._env_dir)
        return self.own.url

    def stop(self) -> None:
        """Ends the server if it is our own."""
        if self.own:
            self.own.stop()
