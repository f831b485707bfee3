"""The buttons of the live page: their window, and the thread that listens for clicks."""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.windows import CELL, Message, notice

logger = logging.getLogger(__name__)

CONTROLS = "controls"
# In their order on the page. The first alternates with "go_on".
BUTTONS = ("pause", "save", "preview", "stop")
PAUSE, GO_ON, STOP = "pause", "go_on", "stop"
WINDOW_HEIGHT = 136

# An event contains its whole window; a longer one belongs to another window, such as a slider with
# all its pictures.
MAX_CHARACTERS = 20_000
# Seconds.
DOUBLE_CLICK = 1.0  # in which a button's second event counts as the same click
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # between attempts to listen

Requests = frozenset[str]


class Controls:
    """The buttons of one run's page. On a click a thread calls `control` with the request, then
    `news`. It hears of clicks by the WebSocket that `connect` opens.
    """

    def __init__(
        self,
        env: str,
        run_dir: Path,
        control: Callable[[str], None],
        *,
        connect: Callable[[], Any],
        news: Callable[[], None],
    ) -> None:
        self._env = env
        self._run_dir = run_dir
        self._control = control
        self._connect = connect
        self._news = news
        self._shown: Requests = frozenset()
        self._stop_clicked = False
        self._listener: threading.Thread | None = None
        self._socket: Any = None
        self._closing = threading.Event()
        self._clicked: dict[str, float] = {}

    def have_changed(self) -> bool:
        """Whether the requests to the run differ from those that the window shows."""
        return self._shown != self._requests()

    def window(self) -> Window:
        """The window with the current requests."""
        if self._closing.is_set():
            return Window(CONTROLS, "ended", _farewell)
        self._shown = self._requests()
        return Window(CONTROLS, self._shown, partial(_rows, self._shown))

    def listen(self) -> None:
        """Starts to listen for clicks, if it has not been started."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._run, name="visdom-buttons", daemon=True)
            self._listener.start()

    def close(self) -> None:
        self._closing.set()
        with suppress(Exception):
            self._socket.abort()

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._closing.is_set():
            # Nothing that a server sends or does may disturb the training.
            with suppress(Exception):
                self._socket = self._connect()
                wait = FIRST_WAIT
                with suppress(Exception):
                    self._listen()
                self._socket.shutdown()
                # The next update looks for a lost server, even if the run is paused.
                self._news()
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _listen(self) -> None:
        while not self._closing.is_set() and self._socket.connected:
            button = clicked_button(self._socket.recv(), env=self._env)
            now = time.monotonic()
            if button and now - self._clicked.get(button, -DOUBLE_CLICK) >= DOUBLE_CLICK:
                self._clicked[button] = now
                self._click(button)

    def _click(self, button: str) -> None:
        is_paused = PAUSE in self._requests()
        try:
            self._control(GO_ON if button == PAUSE and is_paused else button)
            self._stop_clicked = self._stop_clicked or button == STOP
        except Exception as error:
            logger.info(f"the page's button for {button} did nothing: {error}")
        self._news()

    def _requests(self) -> Requests:
        found = requests_in(self._run_dir)
        # The trainer deletes the file as soon as it has read it, long before it stops.
        return found | {STOP} if self._stop_clicked else found


def requests_in(run_dir: Path) -> Requests:
    """The requests in a run's folder, by the names of their files."""
    return frozenset(name for name in BUTTONS if (run_dir / name).exists())


def clicked_button(message: object, *, env: str) -> str | None:
    """The button of our window whose click one of Visdom's messages reports; None for others."""
    if not isinstance(message, str) or len(message) > MAX_CHARACTERS:
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


def _rows(requests: Requests) -> Message:
    """The buttons, each with a label that tells what the run does."""
    texts = {
        "pause": ("the run is paused", "go on") if "pause" in requests else ("running", "pause"),
        "save": ("is being saved" if "save" in requests else "state and weights", "save now"),
        "preview": (
            "is being drawn" if "preview" in requests else "preview of the fixed images",
            "preview now",
        ),
        "stop": ("stops after this epoch" if "stop" in requests else "after this epoch", "stop"),
    }
    rows = [{"type": "button", "name": texts[b][0], "value": texts[b][1]} for b in BUTTONS]
    return {
        "win": CONTROLS,
        "data": [{"type": "properties", "content": rows}],
        "opts": {"title": CONTROLS, "width": CELL, "height": WINDOW_HEIGHT},
    }


def _farewell() -> Message:
    return notice(CONTROLS, "The run has ended.", height=WINDOW_HEIGHT)
