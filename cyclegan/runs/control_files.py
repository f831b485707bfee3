"""Files in a run's folder that ask something of it while it trains, as the page's buttons do."""

import time
from enum import IntFlag
from pathlib import Path

# Seconds between two reads of the folder.
POLL_SECONDS = 0.5


class Request(IntFlag):
    """A request to a run; several of them, also from several processes, are combined by |."""

    NONE = 0
    # A signal, or the end of the time allowed: after this step, not after this epoch.
    STOP_NOW = 1
    STOP = 2
    PAUSE = 4
    SAVE = 8
    PREVIEW = 16


FILES = {
    Request.PAUSE: "pause",
    Request.SAVE: "save",
    Request.PREVIEW: "preview",
    Request.STOP: "stop",
}


class ControlFiles:
    """Reads these files. `pause` holds as long as it exists; the others are deleted once read."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.paused = False
        self._last_read = float("-inf")

    def clear(self) -> None:
        """Deletes the requests to an earlier run."""
        for name in FILES.values():
            _delete(self.run_dir / name)

    def pending_requests(self) -> Request:
        """The requests since the last call."""
        now = time.monotonic()
        if now - self._last_read < POLL_SECONDS:
            return Request.PAUSE if self.paused else Request.NONE
        self._last_read = now
        requests = Request.NONE
        for request, name in FILES.items():
            path = self.run_dir / name
            if path.is_file() and (request is Request.PAUSE or _delete(path)):
                requests |= request
        self.paused = bool(requests & Request.PAUSE)
        return requests


def send_request(run_dir: Path, name: str) -> None:
    """Creates the file of that name, or deletes `pause` for the name "go_on".

    Raises OSError if that fails.
    """
    if name == "go_on":
        (run_dir / FILES[Request.PAUSE]).unlink(missing_ok=True)
    elif name in FILES.values():
        (run_dir / name).touch()


def _delete(path: Path) -> bool:
    """Deletes a file; False if that fails, since its request would then come again and again."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
