"""Messages to a Visdom server.

Visdom's own client imports seconds' worth of packages, has no time-out for answers, reports a
refused message as a success, and does not log in again after a server has restarted.
"""

import json
import socket
import urllib.request
from email.message import Message
from functools import cache
from http.cookies import SimpleCookie
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cyclegan.pages.visdom.server.login import COOKIE, PASSWORD, USERNAME, is_loopback, login


class VisdomClient:
    """Sends messages to one server, and logs in if it asks for that."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self.cookie = ""

    def post(self, server: str, path: str, message: dict[str, Any]) -> str:
        """The server's answer. Raises OSError if it does not answer or refuses the message."""
        url = f"{server}/{path}"
        try:
            return self._send(url, message)[0]
        except HTTPError as error:
            error.close()
            # Without a login Visdom 0.2 answers 400, Visdom 0.3 401, our own server 403.
            if error.code not in (400, 401, 403):
                raise
        self.log_in(server)
        return self._send(url, message)[0]

    def log_in(self, server: str) -> None:
        """Raises PermissionError if the environment has no login, or the server refuses it."""
        message = login()
        if message is None:
            raise PermissionError(f"it asks for a login: set {USERNAME} and {PASSWORD}")
        try:
            _, headers = self._send(f"{server}/", message)
        except HTTPError as error:
            error.close()
            raise PermissionError(f"it does not take the login of {USERNAME}") from None
        cookies = SimpleCookie("; ".join(headers.get_all("Set-Cookie", [])))
        self.cookie = f"{COOKIE}={cookies[COOKIE].coded_value}" if COOKIE in cookies else ""

    def connect(self, server: str) -> Any:
        """A WebSocket on which the server reports clicks."""
        import websocket

        options: dict[str, Any] = {}
        address = urlsplit(server)
        if _is_local(server) and address.scheme == "http":
            # By itself, the library would ask a proxy even for this machine.
            local = address.hostname, address.port or 80
            options["socket"] = socket.create_connection(local, self.timeout)
        connection = websocket.create_connection(
            f"ws{server.removeprefix('http')}/vis_socket",
            timeout=self.timeout,
            cookie=self.cookie or None,
            suppress_origin=True,
            # Another server, to which this one redirects, must not get the cookie.
            redirect_limit=0,
            # Validation takes seconds for a long message, and long messages are ignored.
            skip_utf8_validation=True,
            **options,
        )
        connection.settimeout(None)
        return connection

    def _send(self, url: str, message: dict[str, Any]) -> tuple[str, Message]:
        request = urllib.request.Request(url, data=json.dumps(message).encode())
        # Another server, to which this one redirects, must not get the cookie.
        request.add_unredirected_header("Cookie", self.cookie)
        with _opener(is_local=_is_local(url)).open(request, timeout=self.timeout) as answer:
            return answer.read().decode(), answer.headers


def find_server(server: str) -> bool:
    """Whether a Visdom server answers at the address within two seconds, and lets us in."""
    try:
        names = json.loads(VisdomClient(timeout=2.0).post(server, "env_state", {}))
    except Exception:  # whatever answers may break HTTP and JSON in any way
        return False
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


@cache
def _opener(*, is_local: bool) -> urllib.request.OpenerDirector:
    """Cached, because a new one reads the system's certificates: 20 ms as of Python 3.12."""
    proxies = urllib.request.ProxyHandler({} if is_local else None)
    return urllib.request.build_opener(proxies)


def _is_local(url: str) -> bool:
    """A proxy cannot reach this machine by its local name."""
    return is_loopback(urlsplit(url).hostname or "")
