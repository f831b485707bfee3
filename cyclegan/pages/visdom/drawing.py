"""What a Visdom server holds of a run's page, and what it is to be sent so that it holds all."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import NamedTuple
from urllib.error import HTTPError

from cyclegan.data.files.images import UnreadableImage
from cyclegan.pages.visdom.server.frames import source_of
from cyclegan.pages.visdom.server.process import Sender
from cyclegan.pages.visdom.slider import SliderFrame
from cyclegan.pages.visdom.windows import (
    PREVIEW,
    Message,
    plain_slider,
    slider,
)


class Window(NamedTuple):
    """A window: made and sent where the server does not have it with this key, or, for the key
    None, where it has none of this name.
    """

    name: str
    key: Hashable
    make: Callable[[], Message]


class Drawing:
    """The windows of one environment on one server."""

    def __init__(self, env: str, *, timeout: float) -> None:
        self.env = env
        self.url = ""
        self.sender = Sender(timeout=timeout)
        self._keys: dict[str, Hashable] = {}
        self._sent: set[SliderFrame] = set()
        # Visdom's own server shows the newest picture alone.
        self._is_visdoms = False
        self.preview_height = 0

    def forget(self) -> None:
        """From now on, the server may hold anything."""
        self._keys.clear()
        self._sent.clear()
        self._is_visdoms = False

    def clear(self, url: str) -> None:
        """Take what an earlier run of this name has left off the page."""
        if self.env not in json.loads(self.sender.post(url, "env_state", {})):
            return
        # Visdom deletes an environment and its file, and fails where there is none.
        with suppress(HTTPError):
            self.sender.post(url, "save", {"data": [self.env]})
            self.sender.post(url, "delete_env", {"eid": self.env})

    def look(self, url: str) -> None:
        """See whether the windows are still there; a server that started again has none."""
        if url != self.url or not self._has(url, PREVIEW):
            self.forget()
        self.url = url

    def draw(self, windows: Iterable[Window]) -> None:
        for window in windows:
            known = window.name in self._keys
            if not known or window.key not in (None, self._keys[window.name]):
                self._send("events", window.make())
                self._keys[window.name] = window.key

    def begin_slider(self, frames: list[SliderFrame], *, drop: Callable[[SliderFrame], None]) -> None:
        """Where there is no slider yet, makes it of the newest picture: it is to be the first
        window, and to have read all others takes a while.
        """
        if PREVIEW not in self._keys:
            for frame in reversed(frames):
                if self._slide([frame], drop):
                    return

    def fill_slider(self, frames: list[SliderFrame], *, drop: Callable[[SliderFrame], None]) -> None:
        """Brings the slider up to date, most often by one picture."""
        self._slide(frames, drop)

    def _slide(self, frames: list[SliderFrame], drop: Callable[[SliderFrame], None]) -> bool:
        """Makes the slider of these; false where none of them can be read."""
        frames = frames[-1:] if self._is_visdoms else frames
        there = [frame for frame in frames if self._send_frame(frame, drop)]
        key = tuple(there)
        if there and self._keys.get(PREVIEW) != key:
            message = self._slider(there)
            self._send("events", message)
            self._keys[PREVIEW] = key
            self.preview_height = message["opts"]["height"]
        self._sent = {frame for frame in self._sent if frame in frames}
        return bool(there)

    def _slider(self, frames: list[SliderFrame]) -> Message:
        newest = frames[-1]
        if self._is_visdoms:
            return plain_slider(newest.step, newest.encode(), size=newest.size)
        sources = [(frame.step, source_of(self.env, frame.name)) for frame in frames]
        return slider(sources, size=newest.size)

    def _send_frame(self, frame: SliderFrame, drop: Callable[[SliderFrame], None]) -> bool:
        """Whether our own server has it now, or Visdom's could have it."""
        if frame in self._sent:
            return True
        try:
            data = frame.encode()
        except UnreadableImage:
            drop(frame)
            return False
        if not self._is_visdoms:
            message = {"eid": self.env, "data": b64encode(data).decode()}
            try:
                answer = self.sender.post(self.url, "frame", message)
            except HTTPError as error:
                error.close()
                answer = ""
            self._is_visdoms = answer != frame.name
        self._sent.add(frame)
        return True

    def _has(self, url: str, window: str) -> bool:
        question = {"win": window, "eid": self.env}
        return self.sender.post(url, "win_exists", question) == "true"

    def _send(self, path: str, message: Message) -> None:
        answer = self.sender.post(self.url, path, message | {"eid": self.env})
        if answer != message["win"]:
            raise ConnectionError(f"the program at {self.url} is not Visdom")
