"""The login of the live page, and the addresses that its server may listen on."""

import hashlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from cyclegan.config.errors import UserError

LOCALHOST = "127.0.0.1"
USERNAME, PASSWORD = "VISDOM_USERNAME", "VISDOM_PASSWORD"
COOKIE = "user_password"  # Visdom's name for it


@dataclass(frozen=True)
class Login:
    """A user name and a password, of which only the hash is sent."""

    username: str
    password: str = field(repr=False)

    def message(self) -> dict[str, str]:
        """What Visdom's login page sends."""
        digest = hashlib.sha256(self.password.encode(errors="surrogateescape")).hexdigest()
        return {"username": self.username, "password": digest}


def login_from(environment: Mapping[str, str] = os.environ) -> Login | None:
    """The login in the environment; None if a part is missing or empty."""
    username, password = environment.get(USERNAME), environment.get(PASSWORD)
    return Login(username, password) if username and password else None


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine alone. No name but localhost is."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, *, option: str = "--display_host") -> None:
    """Raises UserError if a server cannot listen there, or if it would be open to everybody."""
    if host == LOCALHOST:
        return
    if not is_loopback(host) and login_from() is None:
        raise UserError(
            f"{option} {host} opens the page to other machines: set {USERNAME} and "
            f"{PASSWORD} in the environment, which it then asks for"
        )
    try:
        if not host:
            raise ValueError  # bind() would take it for every address
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name"
        raise UserError(
            f"{option} {host} is no address of this machine ({reason}): "
            "use 127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
