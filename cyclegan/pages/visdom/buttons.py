"""The buttons of the live page: their window, and the ear for those who press them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.server.login import is_loopback
from cyclegan.pages.visdom.windows import CELL, Message, notice

logger = logging.getLogger(__name__)

CONTROLS = "controls"
# What may be asked for, in the order of the buttons; the first takes turns with "go_on".
BUTTONS = ("pause", "save", "preview", "stop")
PAUSE, GO_ON, STOP = "pause", "go_on", "stop"
WINDOW_HEIGHT = 136

# An event comes with the whole window it is of: what is longer than our few rows is not ours, and
# may be a slider with all its pictures.
MOST_CHARACTERS = 20_000
DOUBLE_CLICK = 1.0  # seconds in which a button's second event counts as the same press
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between attempts to listen

Asked = frozenset[str]


class Controls:
    """The buttons of one run's page. `control` is called with the request, then `news`. `where`
    gives the server's address and our cookie. All three are called from a thread.
    """

    def __init__(
        self,
        env: str,
        run_dir: Path,
        control: Callable[[str], None],
        *,
        where: Callable[[], tuple[str, str]],
        news: Callable[[], None],
    ) -> None:
        self._env = env
        self._run_dir = run_dir
        self._control = control
        self._where = where
        self._news = news
        self._asked: Asked = frozenset()
        self._stops = False
        self._listener: threading.Thread | None = None
        self._socket: Any = None
        self._closing = threading.Event()
        self._pressed: dict[str, float] = {}

    def have_changed(self) -> bool:
        """Whether something else is asked of the run than when the window was made."""
        return self._asked != self._now_asked()

    def window(self) -> Window:
        """The window as it is to be now."""
        if self._closing.is_set():
            return Window(CONTROLS, "ended", _farewell)
        self._asked = self._now_asked()
        return Window(CONTROLS, self._asked, partial(_rows, self._asked))

    def listen(self) -> None:
        """From now on, if not already, the page's buttons are heard."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._run, name="visdom-ear", daemon=True)
            self._listener.start()

    def close(self) -> None:
        self._closing.set()
        with suppress(Exception):
            self._socket.abort()

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._closing.is_set():
            # Whatever a server sends or does, the training is not to feel it.
            with suppress(Exception):
                self._socket = _connected(*self._where())
                wait = FIRST_WAIT
                with suppress(Exception):
                    self._listen()
                self._socket.shutdown()
                # A server that is gone is to be found, or started, even in a run that is paused.
                self._news()
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _listen(self) -> None:
        while not self._closing.is_set() and self._socket.connected:
            button = pressed(self._socket.recv(), env=self._env)
            now = time.monotonic()
            if button and now - self._pressed.get(button, -DOUBLE_CLICK) >= DOUBLE_CLICK:
                self._pressed[button] = now
                self._press(button)

    def _press(self, button: str) -> None:
        turn = button == PAUSE and PAUSE in self._now_asked()
        try:
            self._control(GO_ON if turn else button)
            self._stops = self._stops or button == STOP
        except Exception as error:
            logger.info(f"the page's button for {button} did nothing: {error}")
        self._news()

    def _now_asked(self) -> Asked:
        asked = asked_for(self._run_dir)
        # The trainer takes the file away as soon as it has seen it, long before it stops.
        return asked | {STOP} if self._stops else asked


def asked_for(run_dir: Path) -> Asked:
    """What the files in a run's folder ask of it."""
    return frozenset(name for name in BUTTONS if (run_dir / name).exists())


def pressed(message: object, *, env: str) -> str | None:
    """The button that a message of Visdom's says was pressed in our window; None for others."""
    if not isinstance(message, str) or len(message) > MOST_CHARACTERS:
        return None
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return None
    ours = {"event_type": "PropertyUpdate", "eid": env, "target": CONTROLS, "value": "clicked"}
    if not isinstance(event, dict) or any(event.get(key) != ours[key] for key in ours):
        return None
    index = event.get("propertyId")
    if type(index) is not int or not 0 <= index < len(BUTTONS):
        return None
    return BUTTONS[index]


def _rows(asked: Asked) -> Message:
    """The buttons, each beside what the run does."""
    texts = {
        "pause": ("the run is paused", "go on") if "pause" in asked else ("running", "pause"),
        "save": ("is being saved" if "save" in asked else "state and weights", "save now"),
        "preview": (
            "is being drawn" if "preview" in asked else "preview of the fixed images",
            "preview now",
        ),
        "stop": ("stops after this epoch" if "stop" in asked else "after this epoch", "stop"),
    }
    rows = [{"type": "button", "name": texts[b][0], "value": texts[b][1]} for b in BUTTONS]
    return {
        "win": CONTROLS,
        "data": [{"type": "properties", "content": rows}],
        "opts": {"title": CONTROLS, "width": CELL, "height": WINDOW_HEIGHT},
    }


def _farewell() -> Message:
    return notice(CONTROLS, "The run has ended.", height=WINDOW_HEIGHT)


def _connected(url: str, cookie: str) -> Any:
    import websocket

    # A proxy named in the environment could not reach this machine by its local name.
    local = is_loopback(urlsplit(url).hostname or "")
    options: Mapping[str, Any] = {"http_no_proxy": ["*"]} if local else {}
    connection = websocket.create_connection(
        f"ws{url.removeprefix('http')}/vis_socket",
        timeout=5.0,
        cookie=cookie or None,
        suppress_origin=True,
        # Where a server sends us on to another one, that is not to learn the cookie.
        redirect_limit=0,
        # In Python alone it takes seconds for a long message, of which we read none.
        skip_utf8_validation=True,
        **options,
    )
    connection.settimeout(None)
    return connection
