"""UserError, and how a command ends on it."""

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

# A longer message, such as one that repeats what a user pasted, is cut.
MAX_MESSAGE = 1000


class UserError(ValueError):
    """A mistake that the user can correct: the message is one line and names the remedy."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Runs a command: its log goes to stdout, and a UserError or an OSError ends the program with
    one line on stderr and exit status 2, Ctrl-C with 130.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes that the terminal's encoding cannot represent.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log_to(_print)
    try:
        yield
    except UserError as error:
        _exit(str(error))
    except OSError as error:
        if error.strerror is None:
            raise
        _exit(f"{error.filename or 'the system'}: {error.strerror}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def explain(error: BaseException) -> str:
    """An exception in one line, with file and line number if a user's own file raised it."""
    kind = type(error).__name__
    try:
        message = shorten(printable(" ".join(str(error).split())), 600)
    # The str() of a user's exception may raise in turn.
    except Exception:
        message = ""
    paths = sysconfig.get_paths()
    not_users = {str(Path(__file__).parents[1]), "<"}
    not_users |= {paths[name] for name in ("stdlib", "purelib", "platlib")}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(tuple(not_users)):
            place = f"{Path(frame.filename).name}, line {frame.lineno}"
            return f"{kind}: {message} ({place})" if message else f"{kind} ({place})"
    return f"{kind}: {message}" if isinstance(error, SyntaxError) else message or kind


def shorten(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def printable(text: str) -> str:
    """Replaces line breaks and control characters, which a file name may hold, by "?"."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _exit(message: str) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    prefix = "" if rank == "0" else f"process {rank}: "
    sys.stderr.write(f"error: {shorten(prefix + ' '.join(message.split()), MAX_MESSAGE)}\n")
    raise SystemExit(2) from None
