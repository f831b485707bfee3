"""Visdom's server as ours: our files, who may enter, how the page looks, and bounded memory."""

from __future__ import annotations

import json
import re
import time
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclegan.monitor.visdom.frames import handlers
from cyclegan.monitor.visdom.login import guarded

ASSETS = Path(__file__).resolve().parent / "assets"

# What may wait for a page that does not read: one that sleeps in a background tab, or on a laptop
# that was closed, keeps its connection, and would have all updates of a day wait for it.
MOST_WAITING = 64_000_000
SAME_QUESTION = 0.1  # seconds in which a page's second request for all windows is passed over

STYLE = """
/* The link in every plot would send its curves to a public site. */
.js-link-to-tool { display: none !important; }

html { background: #eef1f5; }
.window { border: 0; border-radius: 6px; box-shadow: 0 1px 3px rgba(16, 24, 40, .16); }
.window, .caption, .widgets { color: #1f2937; }
.bar { z-index: 1; background: none !important; }
.bar > .pull-right:last-child {
  float: left !important; padding: 4px 0 0 12px; font-size: 13px; font-weight: 600; color: #1f2937;
}
.bar button { float: right; color: #98a2b3; opacity: 0; }
.window:hover .bar button { opacity: 1; }
button[title="smooth lines"] { margin-top: -4px; }

/* The picture begins at the top; caption and slider have the room beneath it. */
.content-image { margin: 6px auto 0 !important; image-rendering: auto; }
.content > p.caption { display: none; }
.widgets { width: 100%; background: none; }
.widget { margin: 0 14px 6px; font-weight: 600; }
.widget input[type=range] { width: 100%; }
.widget div > span { display: none; }

.content-properties { padding: 8px 14px; }
.table-properties, .table-properties td, .table-properties td.table-properties-name {
  background: none; border: 0 !important; margin: 0; color: #1f2937;
}
.table-properties td.table-properties-name { text-align: left; padding: 2px; font-weight: 400; }
.table-properties td.table-properties-value { text-align: right; padding: 2px 0; }
.content-properties .btn {
  min-width: 110px; border: 1px solid #b8c4d6; border-radius: 4px; background: #f5f8fc;
  color: #1f4e86; font-weight: 600; padding: 4px 10px;
}
.content-properties .btn:hover { background: #dfe9f6; }
"""

# A page finds its server again, unless its reader has put it offline. Plots are drawn one after the
# other, those in sight first, and none while the page is not looked at; the link to edit them,
# which is never shown, would take as long as all else.
SCRIPT = b"""
<script>
let leftAlone = false;
document.addEventListener('click', event => {
  if (event.isTrusted && event.target.matches('.btn-success, .btn-danger'))
    leftAlone = event.target.textContent === 'online';
}, true);
setInterval(() => {
  const buttons = [...document.querySelectorAll('.navbar-form .btn-danger')];
  const offline = buttons.find(button => button.textContent === 'offline');
  if (offline && !leftAlone && !document.hidden) offline.click();
}, 2000);

const draw = Plotly.newPlot, waiting = new Map();
let next = null;
const inSight = plot => {
  const place = plot.getBoundingClientRect();
  return place.bottom > 0 && place.top < window.innerHeight;
};
const plan = () => {
  if (next || document.hidden || !waiting.size) return;
  const plots = [...waiting.keys()];
  next = setTimeout(() => work(plots.find(inSight) || plots[0]));
};
const work = plot => {
  const [data, layout, config] = waiting.get(plot);
  waiting.delete(plot);
  next = null;
  try {
    if (plot.isConnected) draw(plot, data, layout, {...config, showLink: false});
  } finally {
    plan();
  }
};
Plotly.newPlot = (id, ...all) => {
  waiting.set(document.getElementById(id), all);
  plan();
};
document.addEventListener('visibilitychange', plan);
</script>
"""
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
    ours.user_settings["user_css"] += STYLE
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
    class Page(page):  # type: ignore[misc]
        """The page with our script, named after what it shows."""

        def render_string(self, template_name: str, **options: Any) -> bytes:
            whole: bytes = super().render_string(template_name, **options)
            name = escape(options.get("active_item") or "runs").encode()
            whole = MATHJAX.sub(b"", whole).replace(
                b"<title>visdom</title>", b"<title>%s</title>" % name
            )
            return whole.replace(b"</body>", SCRIPT + b"</body>")

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
