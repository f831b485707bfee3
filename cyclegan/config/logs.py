"""What the program tells whoever sits at the terminal: `logging`, with one handler."""

import logging
from collections.abc import Callable

_PACKAGE = logging.getLogger(__name__.partition(".")[0])


class LineHandler(logging.Handler):
    """Hands every message to `write` as a line; that of a warning begins with "warning: "."""

    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__()
        self.write = write

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.write(level + record.getMessage())


def log_to(write: Callable[[str], object]) -> None:
    """From now on the package's messages go to `write`, and no longer to where they went before."""
    for handler in [each for each in _PACKAGE.handlers if isinstance(each, LineHandler)]:
        _PACKAGE.removeHandler(handler)
    _PACKAGE.addHandler(LineHandler(write))
    _PACKAGE.setLevel(logging.INFO)
