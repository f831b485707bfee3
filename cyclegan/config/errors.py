"""The one exception for a user's mistake, and how a command ends on it."""

import io
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from cyclegan.config.logs import log_to

# A terminal's worth: what a user typed or pasted is not to hide what is said of it.
LONGEST_MESSAGE = 1000


class UserError(ValueError):
    """A mistake that its maker can mend: the message is one line and names the remedy."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with exit status 2 and one line on stderr where a UserError escapes, or
    where the disk or a permission refuses; with 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold bytes that the terminal's encoding has no letters for.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log_to(_print)
    try:
        yield
    except UserError as error:
        _end(str(error))
    except OSError as error:
        if error.strerror is None:
            raise
        _end(f"{error.filename or 'the system'}: {error.strerror}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def explain(error: BaseException) -> str:
    """An exception in few words and, where a file of the user's own raised it, its line there."""
    kind = type(error).__name__
    try:
        message = short(printable(" ".join(str(error).split())), most=600)
    # What somebody else's exception says of itself may fail in turn.
    except Exception:
        message = ""
    places = sysconfig.get_paths()
    not_theirs = {str(Path(__file__).parents[1]), "<"}
    not_theirs |= {places[name] for name in ("stdlib", "purelib", "platlib")}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(tuple(not_theirs)):
            place = f"{Path(frame.filename).name}, line {frame.lineno}"
            return f"{kind}: {message} ({place})" if message else f"{kind} ({place})"
    return f"{kind}: {message}" if isinstance(error, SyntaxError) else message or kind


def short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _end(message: str) -> NoReturn:
    if os.environ.get("RANK", "0") != "0":
        # Of several processes that make the same mistake, the first speaks.
        message = f"process {os.environ['RANK']}: {message}"
    sys.stderr.write(f"error: {short(' '.join(message.split()), LONGEST_MESSAGE)}\n")
    raise SystemExit(2) from None


def printable(text: str) -> str:
    """A file's name may hold a line's end, or bytes that no terminal can print."""
    return "".join(c if c.isprintable() else "?" for c in text)
