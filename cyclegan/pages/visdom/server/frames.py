"""The slider's pictures on our own server, which Visdom's page fetches one by one as it shows them.

Visdom would have all pictures of a slider in one message, sent again with every new one and hashed
by page and server; and a page whose slider gets shorter goes blank.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from typing import Any
from urllib.parse import quote

# Bounds what whoever may draw on the page can make the server keep.
MOST_FRAMES, MOST_BYTES = 300, 400_000


def name_of(jpeg: bytes) -> str:
    """A picture is known by what is in it, so that a browser may keep it for ever."""
    return hashlib.sha256(jpeg).hexdigest()[:24]


def source_of(env: str, name: str) -> str:
    """Where the page of an environment finds it."""
    return f"../frame/{quote(env)}/{name}.jpg"


def handlers() -> dict[str, type[Any]]:
    """By path, what makes of Visdom's application one that keeps such pictures."""
    from visdom.server.handlers import base_handlers, web_handlers
    from visdom.utils import server_utils

    base: Any = base_handlers.BaseHandler
    poster: Any = web_handlers.PostHandler
    tools: Any = server_utils
    kept: dict[str, dict[str, bytes]] = {}

    class Frame(base):  # type: ignore[misc]
        def initialize(self, app: Any) -> None:
            """Nothing of the application is needed."""

        def post(self) -> None:
            """Takes a picture up."""
            message = json.loads(self.request.body)
            data = b64decode(message["data"])
            frames = kept.setdefault(str(message["eid"]), {})
            if data[:2] != b"\xff\xd8" or len(data) > MOST_BYTES or len(frames) >= MOST_FRAMES:
                self.set_status(413)
                return
            frames[name_of(data)] = data
            self.write(name_of(data))

        def get(self, env: str, name: str) -> None:
            data = kept.get(env, {}).get(name)
            if data is None:
                self.set_status(404)
                return
            self.set_header("Content-Type", "image/jpeg")
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cache-Control", "private, max-age=604800, immutable")
            self.write(data)

    class Events(poster):  # type: ignore[misc]
        def post(self) -> None:
            """Makes a window, of a slider with all its pictures at once."""
            message = json.loads(self.request.body)
            if "frames" not in message:
                super().post()
                return
            env, pane = tools.extract_eid(message), tools.window(message)
            pane |= {"content": message["frames"], "selected": len(message["frames"]) - 1}
            named = {str(frame["src"]).rpartition("/")[2] for frame in message["frames"]}
            frames = kept.get(env, {})
            kept[env] = {name: data for name, data in frames.items() if f"{name}.jpg" in named}
            tools.register_window(self, pane, env)

    return {"/frame": Frame, "/frame/([^/]+)/([0-9a-f]+)[.]jpg": Frame, "/events": Events}
