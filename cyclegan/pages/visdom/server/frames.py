"""The previews on the slider, which a page fetches from our server one by one as it shows them.

Visdom would send and hash all pictures of a slider again with each new one.
"""

import hashlib
import json
from base64 import b64decode
from typing import Any

from visdom.server.handlers.base_handlers import BaseHandler
from visdom.server.handlers.web_handlers import PostHandler
from visdom.utils.server_utils import extract_eid, register_window, window

# Limits what anyone who may draw on the page can make the server keep.
MAX_FRAMES, MAX_BYTES = 300, 400_000

# The JPEGs of each environment, by name.
Frames = dict[str, dict[str, bytes]]


class FrameHandler(BaseHandler):
    def initialize(self, frames: Frames) -> None:
        self.frames = frames

    def post(self) -> None:
        """Keeps a picture and answers with its name."""
        message = json.loads(self.request.body)
        data = b64decode(message["data"])
        kept = self.frames.setdefault(str(message["eid"]), {})
        if data[:2] != b"\xff\xd8" or len(data) > MAX_BYTES or len(kept) >= MAX_FRAMES:
            self.set_status(413)
            return
        # Named by its content, a browser may cache it for good.
        name = hashlib.sha256(data).hexdigest()[:24]
        kept[name] = data
        self.write(name)

    def get(self, env: str, name: str) -> None:
        data = self.frames.get(env, {}).get(name)
        if data is None:
            self.set_status(404)
            return
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "private, max-age=604800, immutable")
        self.write(data)


class EventHandler(PostHandler):
    def initialize(self, app: Any, frames: Frames) -> None:
        super().initialize(app)
        self.frames = frames

    def post(self) -> None:
        """Makes a window; a slider with all its frames at once, and forgets all other frames."""
        message = json.loads(self.request.body)
        if "frames" not in message:
            super().post()
            return
        env, pane = extract_eid(message), window(message)
        pane |= {"content": message["frames"], "selected": len(message["frames"]) - 1}
        shown = {str(frame["src"]).rpartition("/")[2] for frame in message["frames"]}
        kept = self.frames.get(env, {})
        self.frames[env] = {name: data for name, data in kept.items() if f"{name}.jpg" in shown}
        register_window(self, pane, env)
