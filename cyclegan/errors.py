"""The one exception for a user's mistake, and how a command ends on it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(ValueError):
    """A mistake that its maker can mend: the message is one line and names the remedy."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with exit status 2 and one line on stderr where a UserError escapes, or
    where the disk or a permission refuses; with 130 after Ctrl-C.
    """
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


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    raise SystemExit(2) from None
