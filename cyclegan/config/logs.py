"""The package's log messages go to one handler, as lines."""

import logging
from collections.abc import Callable

_PACKAGE = logging.getLogger(__name__.partition(".")[0])


class LineHandler(logging.Handler):
    """Calls `write` with each message as a line; a warning begins with "warning: "."""

    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__()
        self.write = write

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.write(level + record.getMessage())


def log_to(write: Callable[[str], object]) -> None:
    """Sends the package's messages to `write` from now on, in place of its earlier target."""
    for handler in [each for each in _PACKAGE.handlers if isinstance(each, LineHandler)]:
        _PACKAGE.removeHandler(handler)
    _PACKAGE.addHandler(LineHandler(write))
    _PACKAGE.setLevel(logging.INFO)
