"""Files that are replaced as a whole."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO


def write_atomically(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Writes the bytes, or calls `content` with the open file; then replaces `path`.

    Even a power cut leaves either the old file or the new one. Raises OSError if the write fails;
    the old file is untouched then.
    """
    partial = path.with_name(f"{path.name}.partial")
    # A crash may have left it, or somebody may have put a link there to overwrite its target.
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
        _sync(partial)
        partial.replace(path)
        # Some file systems cannot sync folders; they keep names without it.
        with suppress(OSError):
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
