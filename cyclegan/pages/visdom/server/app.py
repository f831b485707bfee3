"""Visdom's application with our files, access rules, style and limits."""

import json
import re
import secrets
import time
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.web import ErrorHandler, RedirectHandler, StaticFileHandler, decode_signed_value
from visdom.server import app as visdom_app
from visdom.server.handlers import socket_handlers, web_handlers
from visdom.utils.server_utils import hash_password

from cyclegan.pages.visdom.server.frames import EventHandler, FrameHandler, Frames
from cyclegan.pages.visdom.server.login import COOKIE, is_loopback, login

FOLDER = Path(__file__).resolve().parent
ASSETS = FOLDER / "assets"
SCRIPT = b"<script>%s</script></body>" % (FOLDER / "live_page.js").read_bytes()
# Visdom's script contains React, and MathJax would search every text for formulas.
UNUSED = re.compile(rb"<script[^>]*/js/(mathjax/|react-)[^>]*></script>")
# The login page needs these.
OPEN_PATHS = ("/static/", "/user/style.css")

# Bytes that may wait for a page that does not read. One that sleeps in a background tab or on a
# closed laptop stays connected, and all updates of a day would wait for it.
MAX_WAITING = 64_000_000
SAME_QUESTION = 0.1  # seconds in which a page's second request for all windows is ignored


class PageApplication(visdom_app.Application):
    """Checks every request before a handler is chosen: Visdom's own sockets obey messages of those
    whom they have just turned away.

    A server on this machine alone answers to this machine's own names only: a browser here may hold
    anybody's page, whose name may be made to point here (DNS rebinding).
    """

    def __init__(self, *, host: str, port: int, env_dir: Path) -> None:
        # Visdom asks for Tornado's debug mode, which restarts a server when a source file changes.
        visdom_app.tornado_settings.update(
            autoreload=False, serve_traceback=False, static_handler_class=StaticFiles
        )
        super().__init__(port=port, env_path=str(env_dir))
        self.settings["debug"] = False
        self.user_settings["user_css"] += (FOLDER / "live_page.css").read_text(encoding="utf-8")
        self.is_local = is_loopback(host)
        if (expected := login()) is not None:
            # Visdom's constructor would read the secret from a file.
            self.login_enabled = True
            self.user_credential = expected | {"password": hash_password(expected["password"])}
            self.settings["cookie_secret"] = secrets.token_hex(32)
        app: dict[str, Any] = {"app": self}
        frames: dict[str, Frames] = {"frames": {}}
        self.add_handlers(
            ".*",
            [
                ("/", FrontPage, app),
                ("/env/(.*)", RunPage, app),
                ("/compare/(.*)", ComparePage, app),
                ("/socket", PageSocket, app),
                ("/events", EventHandler, app | frames),
                ("/frame", FrameHandler, frames),
                ("/frame/([^/]+)/([0-9a-f]+)[.]jpg", FrameHandler, frames),
            ],
        )

    def find_handler(self, request: Any, **keywords: Any) -> Any:
        allowed = not self.is_foreign(request)
        if allowed and self.may_enter(request):
            return super().find_handler(request, **keywords)
        if allowed and request.method == "GET" and "Upgrade" not in request.headers:
            to_login = {"url": "/", "permanent": False}
            return self.get_handler_delegate(request, RedirectHandler, to_login)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})

    def is_foreign(self, request: Any) -> bool:
        """Whether the request has another machine's name, or comes from another site's page."""
        if self.is_local and not is_loopback(request.host_name):
            return True
        origin = request.headers.get("Origin")
        return origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()

    def may_enter(self, request: Any) -> bool:
        # At / Visdom shows the login page, and takes what was entered.
        is_open = request.path == "/" or request.path.startswith(OPEN_PATHS)
        if is_open or not self.login_enabled:
            return True
        cookie = request.cookies.get(COOKIE)
        secret = self.settings["cookie_secret"]
        return bool(cookie and decode_signed_value(secret, COOKIE, cookie.value))


class FrontPage(web_handlers.IndexHandler):
    """Leads to the newest run; Visdom would show the environment "main", which stays empty."""

    def get(self) -> None:
        if self.login_enabled and not self.current_user:
            super().get("/")
            return
        names = [name for name in self.state if name != "main"]
        self.redirect(f"/env/{quote(names[-1] if names else 'main')}")

    def post(self) -> None:
        super().post("/")


class ScriptedPage:
    """A page with our script, titled by what it shows."""

    path_args: list[str]

    def get(self: Any, names: str) -> None:
        # Visdom 0.2 looks for compared runs in the user's home, and Visdom 0.3 answers 404 for a
        # run that has sent nothing yet.
        known = "+".join(name for name in names.split("+") if name in self.state)
        options = {"items": sorted(self.state), "wrap_socket": self.wrap_socket}
        self.render("index.html", user="", active_item=known, **options)

    def render_string(self, template_name: str, **options: Any) -> bytes:
        page: bytes = super().render_string(template_name, **options)  # type: ignore[misc]
        if template_name == "index.html":
            title = b"<title>%s</title>" % escape(self.path_args[0] or "runs").encode()
            page = UNUSED.sub(b"", page).replace(b"<title>visdom</title>", title)
            # There is no such file.
            page = page.replace(b'href="favicon.png"', b'href="data:,"')
            page = page.replace(b"</body>", SCRIPT)
        return page


class RunPage(ScriptedPage, web_handlers.EnvHandler):
    """Sends its windows once; Visdom's page asks for them twice."""

    def post(self, name: str) -> None:
        socket = self.subs.get(json.loads(self.request.body).get("sid"))
        before, now = getattr(socket, "asked", ("", 0.0)), time.monotonic()
        if before[0] == name and now - before[1] < SAME_QUESTION:
            return
        if socket is not None:
            socket.asked = name, now
        super().post(name)


class ComparePage(ScriptedPage, web_handlers.CompareHandler):
    """Runs laid over each other."""


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
        # Visdom's page asks for ../user/style.css as a static file, which Tornado 6.6 refuses.
        return None


class PageSocket(socket_handlers.SocketHandler):
    """A page's connection, which is closed when too much waits for it."""

    def check_origin(self, origin: str) -> bool:
        return True  # PageApplication has checked it

    def write_message(self, message: Any, binary: bool = False) -> Any:
        stream = getattr(self.ws_connection, "stream", None)
        if stream is not None and len(stream._write_buffer) > MAX_WAITING:
            stream.close()
            return None
        return super().write_message(message, binary)
