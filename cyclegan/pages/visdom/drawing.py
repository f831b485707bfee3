"""The windows of a page on a Visdom server, and the messages that update them."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote

from cyclegan.data.files.images import UnreadableImage
from cyclegan.pages.visdom.client import VisdomClient
from cyclegan.pages.visdom.slider import SliderFrame
from cyclegan.pages.visdom.windows import PREVIEW, Message, plain_slider, slider


class Window(NamedTuple):
    """A window, which is sent if the server has it with another key, or not at all. With the key
    None it is sent only if the server has none of this name.
    """

    name: str
    key: Hashable
    make: Callable[[], Message]


class Drawing:
    """The windows of one environment on one server."""

    def __init__(self, env: str, *, timeout: float) -> None:
        self.env = env
        self.url = ""
        self.client = VisdomClient(timeout=timeout)
        self._keys: dict[str, Hashable] = {}
        self._sent: set[SliderFrame] = set()
        # A server of Visdom's own shows the newest preview alone.
        self._is_plain = False
        self.preview_height = 0

    def forget(self) -> None:
        """Assumes from now on that the server has nothing."""
        self._keys.clear()
        self._sent.clear()
        self._is_plain = False

    def clear(self, url: str) -> None:
        """Removes what an earlier run of this name has left on the page."""
        if self.env not in json.loads(self.client.post(url, "env_state", {})):
            return
        # Visdom deletes an environment and its file, and fails if there is no file.
        with suppress(HTTPError):
            self.client.post(url, "save", {"data": [self.env]})
            self.client.post(url, "delete_env", {"eid": self.env})

    def check(self, url: str) -> None:
        """Finds out whether the server still has the windows; after a restart it has none."""
        window = {"win": PREVIEW, "eid": self.env}
        if url != self.url or self.client.post(url, "win_exists", window) != "true":
            self.forget()
        self.url = url

    def connect(self) -> Any:
        """A WebSocket on which the server reports clicks."""
        return self.client.connect(self.url)

    def draw(self, windows: Iterable[Window]) -> None:
        for window in windows:
            known = window.name in self._keys
            if not known or window.key not in (None, self._keys[window.name]):
                self._send(window.make())
                self._keys[window.name] = window.key

    def begin_slider(self, frames: list[SliderFrame]) -> None:
        """Makes the slider, if there is none, of the newest preview: it must be the first window,
        and reading all previews takes a while.
        """
        if PREVIEW not in self._keys:
            any(self.draw_slider([frame]) for frame in reversed(frames))

    def draw_slider(self, frames: list[SliderFrame]) -> bool:
        """Shows the previews; returns False if none of them can be read."""
        frames = frames[-1:] if self._is_plain else frames
        readable = [frame for frame in frames if self._send_frame(frame)]
        key = tuple(readable)
        if readable and self._keys.get(PREVIEW) != key:
            message = self._slider(readable)
            self._send(message)
            self._keys[PREVIEW] = key
            self.preview_height = message["opts"]["height"]
        self._sent = {frame for frame in self._sent if frame in frames}
        return bool(readable)

    def _slider(self, frames: list[SliderFrame]) -> Message:
        newest = frames[-1]
        if self._is_plain:
            return plain_slider(newest.step, newest.encode(), size=newest.size)
        sources = [(f.step, f"../frame/{quote(self.env)}/{f.name}.jpg") for f in frames]
        return slider(sources, size=newest.size)

    def _send_frame(self, frame: SliderFrame) -> bool:
        """Sends a preview to a server of ours; returns False if it cannot be read."""
        if frame in self._sent:
            return True
        try:
            data = frame.encode()
        except UnreadableImage:
            frame.is_readable = False
            return False
        if not self._is_plain:
            message = {"eid": self.env, "data": b64encode(data).decode()}
            try:
                answer = self.client.post(self.url, "frame", message)
            except HTTPError as error:
                error.close()
                answer = ""
            frame.name = answer
            self._is_plain = not re.fullmatch("[0-9a-f]+", answer)
        self._sent.add(frame)
        return True

    def _send(self, message: Message) -> None:
        answer = self.client.post(self.url, "events", message | {"eid": self.env})
        if answer != message["win"]:
            raise ConnectionError(f"the program at {self.url} is not Visdom")
