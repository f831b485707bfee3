"""Who may open the live page: a login as Visdom has it, and no page of another site.

Bound to this machine alone, a server answers to this machine's own names only: a browser here may
hold a page of anybody's, whose name may be made to point here (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cyclegan.config.errors import UserError

LOCALHOST = "127.0.0.1"
USERNAME, PASSWORD = "VISDOM_USERNAME", "VISDOM_PASSWORD"
COOKIE = "user_password"  # Visdom's name for it

# What the login page itself is made of.
_OPEN_PATHS = ("/static/", "/user/style.css")


@dataclass(frozen=True)
class Login:
    """A user's name and password; Visdom's login page sends the password's SHA-256."""

    username: str
    password: str = field(repr=False)

    def message(self) -> dict[str, str]:
        digest = hashlib.sha256(self.password.encode(errors="surrogateescape")).hexdigest()
        return {"username": self.username, "password": digest}


def login_from(environment: Mapping[str, str] = os.environ) -> Login | None:
    """The login that the environment names; None where a part is missing or empty."""
    username, password = environment.get(USERNAME), environment.get(PASSWORD)
    return Login(username, password) if username and password else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; names but localhost count as elsewhere."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, *, option: str = "--display_host") -> None:
    """Raises UserError where a server could not listen there, or would let anybody in."""
    if host == LOCALHOST:
        return
    if not is_loopback(host) and login_from() is None:
        raise UserError(
            f"{option} {host} opens the page to other machines: set {USERNAME} and "
            f"{PASSWORD} in the environment, which it then asks for"
        )
    if why := _why_not_bound(host):
        raise UserError(
            f"{option} {host} is no address of this machine ({why}): "
            "use 127.0.0.1, or 0.0.0.0 for all of them"
        )


def guarded(application: type[Any], *, host: str) -> type[Any]:
    """Visdom's application, which asks these questions before any of its handlers is chosen: its
    own sockets act on messages of those whom they have just turned away.
    """
    from tornado.web import ErrorHandler, RedirectHandler
    from visdom.utils.server_utils import hash_password

    login, local = login_from(), is_loopback(host)

    class Guarded(application):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if login is not None:
                # Not through Visdom's constructor, which reads the secret from a file.
                self.login_enabled = True
                message = login.message()
                self.user_credential = message | {"password": hash_password(message["password"])}
                self.settings["cookie_secret"] = secrets.token_hex(32)

        def find_handler(self, request: Any, **keywords: Any) -> Any:
            if _is_foreign(request, local=local):
                return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})
            if self.login_enabled and not _may_enter(request, self.settings["cookie_secret"]):
                if request.method == "GET" and "Upgrade" not in request.headers:
                    to_login = {"url": "/", "permanent": False}
                    return self.get_handler_delegate(request, RedirectHandler, to_login)
                return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})
            return super().find_handler(request, **keywords)

    return Guarded


def _may_enter(request: Any, cookie_secret: str) -> bool:
    from tornado.web import decode_signed_value

    # There Visdom shows the form, or takes what was filled in.
    if request.path == "/" or request.path.startswith(_OPEN_PATHS):
        return True
    cookie = request.cookies.get(COOKIE)
    return bool(cookie and decode_signed_value(cookie_secret, COOKIE, cookie.value))


def _is_foreign(request: Any, *, local: bool) -> bool:
    """Whether the request came under another machine's name, or from a page of another site."""
    if local and not is_loopback(request.host_name):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()


def _why_not_bound(host: str) -> str | None:
    # To the system the empty name means every address.
    if not host:
        return "it is empty"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or "it is no name"
    return None
