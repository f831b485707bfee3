"""What may be asked of a run while it goes on: by a button of its page, or a file in its folder."""

import time
from enum import IntFlag
from pathlib import Path

# Seconds between two looks into the folder.
INTERVAL = 0.5


class Wish(IntFlag):
    """What somebody wants, of which there may be several at once: processes add theirs up."""

    NONE = 0
    # At once: a signal, or the end of the time allowed.
    STOP_NOW = 1
    STOP = 2
    PAUSE = 4
    SAVE = 8
    PREVIEW = 16


# The files that ask, in the run's folder.
FILES = {Wish.PAUSE: "pause", Wish.SAVE: "save", Wish.PREVIEW: "preview", Wish.STOP: "stop"}


class Controls:
    """Looks for such files. `pause` stands for as long as it is there; the others are taken away
    as soon as they are seen.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.paused = False
        self._looked = float("-inf")

    def clear(self) -> None:
        """What was asked of an earlier run is not asked of this one."""
        for name in FILES.values():
            _taken(self.run_dir / name)

    def wishes(self) -> Wish:
        """What is asked since the last call."""
        now = time.monotonic()
        if now - self._looked < INTERVAL:
            return Wish.PAUSE if self.paused else Wish.NONE
        self._looked = now
        wishes = Wish.NONE
        for wish, name in FILES.items():
            path = self.run_dir / name
            if path.is_file() and (wish is Wish.PAUSE or _taken(path)):
                wishes |= wish
        self.paused = bool(wishes & Wish.PAUSE)
        return wishes


def ask(run_dir: Path, name: str) -> None:
    """Puts such a file there, or takes `pause` away for the name "go_on"; raises OSError where that
    cannot be.
    """
    if name == "go_on":
        (run_dir / FILES[Wish.PAUSE]).unlink(missing_ok=True)
    elif name in FILES.values():
        (run_dir / name).touch()


def _taken(path: Path) -> bool:
    """Whether it was there; what cannot be taken away would ask for ever, and is not heard."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
