"""The buttons of the live page: their window, and the thread that listens for clicks."""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.windows import CELL, Message, notice

logger = logging.getLogger(__name__)

CONTROLS = "controls"
WINDOW_HEIGHT = 136
# What the run does and what the button says, without and with the request of that name.
ROWS = {
    "pause": (("running", "pause"), ("the run is paused", "go on")),
    "save": (("state and weights", "save now"), ("is being saved", "save now")),
    "preview": (("preview of the fixed images", "preview now"), ("is being drawn", "preview now")),
    "stop": (("after this epoch", "stop"), ("stops after this epoch", "stop")),
}
BUTTONS = tuple(ROWS)

# An event contains its whole window; a longer one belongs to another window, such as a slider with
# all its pictures.
MAX_CHARACTERS = 20_000
# Seconds.
DOUBLE_CLICK = 1.0  # in which a button's second event counts as the same click
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # between attempts to listen

Requests = frozenset[str]


@dataclass(eq=False)
class Controls:
    """The buttons of one run's page. On a click a thread calls `control` with the request, then
    `news`. It hears of clicks by the WebSocket that `connect` opens.
    """

    env: str
    run_dir: Path
    control: Callable[[str], None]
    connect: Callable[[], Any]
    news: Callable[[], None]

    def __post_init__(self) -> None:
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
            ended = partial(notice, CONTROLS, "The run has ended.", height=WINDOW_HEIGHT)
            return Window(CONTROLS, "ended", ended)
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
                self._socket = self.connect()
                wait = FIRST_WAIT
                with suppress(Exception):
                    self._listen()
                self._socket.shutdown()
                # The next update looks for a lost server, even if the run is paused.
                self.news()
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _listen(self) -> None:
        while not self._closing.is_set() and self._socket.connected:
            button = clicked_button(self._socket.recv(), env=self.env)
            now = time.monotonic()
            if button and now - self._clicked.get(button, -DOUBLE_CLICK) >= DOUBLE_CLICK:
                self._clicked[button] = now
                self._click(button)

    def _click(self, button: str) -> None:
        is_paused = "pause" in self._requests()
        try:
            self.control("go_on" if button == "pause" and is_paused else button)
            self._stop_clicked = self._stop_clicked or button == "stop"
        except Exception as error:
            logger.info(f"the page's button for {button} did nothing: {error}")
        self.news()

    def _requests(self) -> Requests:
        found = {name for name in BUTTONS if (self.run_dir / name).exists()}
        # The trainer deletes the file as soon as it has read it, long before it stops.
        return frozenset(found | {"stop"} if self._stop_clicked else found)


def clicked_button(message: object, *, env: str) -> str | None:
    """The button of our window whose click one of Visdom's messages reports; None for others."""
    if not isinstance(message, str) or len(message) > MAX_CHARACTERS:
        return None
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return None
    match event:
        case {"event_type": "PropertyUpdate", "value": "clicked", "propertyId": int(index)}:
            is_ours = event.get("eid") == env and event.get("target") == CONTROLS
            # A bool is an int, too.
            if is_ours and type(index) is int and 0 <= index < len(BUTTONS):
                return BUTTONS[index]
    return None


def _rows(requests: Requests) -> Message:
    """The buttons, each with a label that tells what the run does."""
    texts = [row[name in requests] for name, row in ROWS.items()]
    rows = [{"type": "button", "name": label, "value": button} for label, button in texts]
    return {
        "win": CONTROLS,
        "data": [{"type": "properties", "content": rows}],
        "opts": {"title": CONTROLS, "width": CELL, "height": WINDOW_HEIGHT},
    }
