"""The login of the live page, and the addresses that its server may listen on."""

import hashlib
import ipaddress
import os
import socket

from cyclegan.config.errors import UserError

LOCALHOST = "127.0.0.1"
USERNAME, PASSWORD = "VISDOM_USERNAME", "VISDOM_PASSWORD"
COOKIE = "user_password"  # Visdom's name for it


def login() -> dict[str, str] | None:
    """The login in the environment, as Visdom's login page sends it: the user name, and the hash of
    the password. None if a part is missing or empty.
    """
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if not username or not password:
        return None
    digest = hashlib.sha256(password.encode(errors="surrogateescape")).hexdigest()
    return {"username": username, "password": digest}


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
    if not is_loopback(host) and login() is None:
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
