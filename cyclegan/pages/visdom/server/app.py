"""Visdom's server as ours: our files, who may enter, how the page looks, and bounded memory."""

from __future__ import annotations

import json
import re
import time
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclegan.pages.visdom.server.frames import handlers
from cyclegan.pages.visdom.server.login import guarded

ASSETS = Path(__file__).resolve().parent / "assets"
STYLE = Path(__file__).with_name("live_page.css")
SCRIPT = Path(__file__).with_name("live_page.js")

# What may wait for a page that does not read: one that sleeps in a background tab, or on a laptop
# that was closed, keeps its connection, and would have all updates of a day wait for it.
MOST_WAITING = 64_000_000
SAME_QUESTION = 0.1  # seconds in which a page's second request for all windows is passed over


# It would read all texts for formulas, of which there are none.
MATHJAX = re.compile(rb"<script[^>]*mathjax/[^>]*></script>")


def application(*, host: str, port: int, env_dir: Path) -> Any:
    """Visdom's application with our files, guard, style and limits; loads Tornado and Visdom."""
    from visdom.server import app

    env_dir.mkdir(parents=True, exist_ok=True)
    # Visdom asks for Tornado's debug mode, which restarts the server when a source file changes.
    app.tornado_settings.update(autoreload=False, serve_traceback=False)
    app.tornado_settings["static_handler_class"] = _static_files()
    ours = guarded(app.Application, host=host)(port=port, env_path=str(env_dir))
    ours.settings["debug"] = False
    ours.user_settings["user_css"] += STYLE.read_text(encoding="utf-8")
    own = {"app": ours}
    pages = {"/": _front_page(), "/env/(.*)": _run_page(), "/compare/(.*)": _comparison()}
    pages["/socket"] = _page_socket()
    ours.add_handlers(".*", [(path, one, own) for path, one in (pages | handlers()).items()])
    return ours


def _front_page() -> type[Any]:
    from visdom.server.handlers import web_handlers

    index: Any = web_handlers.IndexHandler

    class FrontPage(index):  # type: ignore[misc]
        """Shows the newest run, where Visdom shows the environment "main", which stays empty."""

        def get(self) -> None:
            if self.login_enabled and not self.current_user:
                super().get("/")
                return
            names = [name for name in self.state if name != "main"]
            self.redirect(f"/env/{quote(names[-1] if names else 'main')}")

        def post(self) -> None:
            super().post("/")

    return FrontPage


def _run_page() -> type[Any]:
    from visdom.server.handlers import web_handlers

    page: Any = _with_script(web_handlers.EnvHandler)

    class RunPage(page):  # type: ignore[misc]
        """Its windows once, where Visdom's page asks for them twice."""

        def post(self, name: str) -> None:
            socket = self.subs.get(json.loads(self.request.body).get("sid"))
            asked = name, time.monotonic()
            before = getattr(socket, "asked", ("", 0.0))
            if before[0] == name and asked[1] - before[1] < SAME_QUESTION:
                return
            if socket is not None:
                socket.asked = asked
            super().post(name)

    return RunPage


def _comparison() -> type[Any]:
    from visdom.server.handlers import web_handlers

    page: Any = _with_script(web_handlers.CompareHandler)

    class Comparison(page):  # type: ignore[misc]
        """Runs laid over each other; Visdom would look for them in the user's home."""

        def get(self, names: str) -> None:
            known = "+".join(name for name in names.split("+") if name in self.state)
            options = {"items": sorted(self.state), "wrap_socket": self.wrap_socket}
            self.render("index.html", user="", active_item=known, **options)

    return Comparison


def _with_script(page: Any) -> type[Any]:
    script = b"<script>%s</script>" % SCRIPT.read_bytes()

    class Page(page):  # type: ignore[misc]
        """The page with our script, named after what it shows."""

        def render_string(self, template_name: str, **options: Any) -> bytes:
            whole: bytes = super().render_string(template_name, **options)
            name = escape(options.get("active_item") or "runs").encode()
            whole = MATHJAX.sub(b"", whole).replace(
                b"<title>visdom</title>", b"<title>%s</title>" % name
            )
            return whole.replace(b"</body>", script + b"</body>")

    return Page


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


def _page_socket() -> type[Any]:
    from visdom.server.handlers import socket_handlers

    handler: Any = socket_handlers.SocketHandler

    class PageSocket(handler):  # type: ignore[misc]
        """A page's connection, which ends when too much waits for it."""

        def write_message(self, message: Any, binary: bool = False) -> Any:
            stream = getattr(self.ws_connection, "stream", None)
            if stream is not None and len(stream._write_buffer) > MOST_WAITING:
                stream.close()
                return None
            return super().write_message(message, binary)

    return PageSocket
