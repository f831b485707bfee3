"""The files of a run's folder: which are states, and how a file is written whole."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO


def find_states(run_dir: Path) -> list[Path]:
    """The states that a run may go on from, the newest first."""
    states = (path for path in run_dir.glob("state_*.pt") if step_of(path) >= 0)
    return sorted(states, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Of a state's file; -1 for others."""
    match = re.fullmatch(r"state_(\d+)\.pt", path.name)
    return int(match[1]) if match else -1


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """The old file or the new one, whole, whatever happens in between, a power cut included.

    Raises OSError where the disk is full; the old file is then untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    # Left behind by a crash, or a link that somebody has put there to have its target overwritten.
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            write(file)
        _into_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _into_place(partial: Path, path: Path) -> None:
    """On the disk first, then under its name, then the name on the disk."""
    _sync(partial)
    partial.replace(path)
    # Some file systems cannot do this for folders; they keep names by themselves.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
