"""metrics.jsonl: the values that a run reported, a line for each report."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cyclegan.runs.atomic_files import write_atomically

METRICS_FILE = "metrics.jsonl"
Point = tuple[int, dict[str, float]]

# Limits for a file that somebody else has made; our lines have one or two thousand bytes.
_MAX_LINE = 100_000
_MAX_STEP = 10**15
# Differences and sums of values up to this are finite.
_MAX_VALUE = 1e100


class MetricsReader:
    """Reads the points of a growing file."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / METRICS_FILE
        self._inode = 0
        self._offset = 0
        # Whether the next bytes belong to a line longer than the limit.
        self._skipping = False

    def read_new(self) -> Iterator[Point]:
        """The points since the last call, or all of them if the file was rewritten by a rollback.

        An unfinished line is left for the next call; one that a crash has cut short is skipped.
        """
        # A named pipe would block until somebody writes to it.
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            now = os.fstat(file.fileno())
            if now.st_ino != self._inode or now.st_size < self._offset:
                self._inode, self._offset, self._skipping = now.st_ino, 0, False
            file.seek(self._offset)
            while line := file.readline(_MAX_LINE):
                whole = line.endswith(b"\n")
                if not whole and len(line) < _MAX_LINE:
                    return
                self._offset = file.tell()
                skipped, self._skipping = self._skipping, not whole
                if whole and not skipped and (point := _parse(line)) is not None:
                    yield point


def read_points(run_dir: Path) -> Iterator[Point]:
    """The points written so far; none if the file cannot be read."""
    try:
        yield from MetricsReader(run_dir).read_new()
    except OSError:
        return


def read_metrics(run_dir: Path) -> list[Point]:
    """The points written so far, one for each step; NaN stands for values that are not finite."""
    points: list[Point] = []
    for step, values in read_points(run_dir):
        if points and points[-1][0] == step:
            points[-1][1].update(values)
        else:
            points.append((step, values))
    return points


def write_metrics(run_dir: Path, points: Iterable[Point]) -> None:
    """Replaces the file, after a rollback or when a run continues from a saved state."""
    lines = (f"{_format(step, values)}\n".encode() for step, values in points)
    write_atomically(run_dir / METRICS_FILE, lambda file: file.writelines(lines))


def append_point(run_dir: Path, step: int, values: Mapping[str, float]) -> None:
    append_line(run_dir / METRICS_FILE, _format(step, values))


def append_line(path: Path, line: str) -> None:
    """Raises OSError if the write fails. Ends an unfinished line first, so that both stay apart."""
    # The folder may be from somebody else: a link in it is not written through.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode(errors="replace"))


def _parse(line: bytes) -> Point | None:
    try:
        values = json.loads(line)
        step = int(values.pop("step"))
        if not 0 <= step < _MAX_STEP:
            return None
    # A number of 5,000 digits is a ValueError, brackets 5,000 deep are a RecursionError.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    # A name that cannot be printed would spoil the texts that contain it.
    parsed = {name: _number(value) for name, value in values.items() if name.isprintable()}
    return step, {name: value for name, value in parsed.items() if value is not None}


def _number(value: object) -> float | None:
    """The file has null for values that are not finite; None for anything but numbers and null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _MAX_VALUE else math.nan


def _format(step: int, values: Mapping[str, float]) -> str:
    # JSON has no NaN. Eight digits keep differences between small ratios.
    plain = {
        name: float(f"{value:.8g}") if math.isfinite(value) else None
        for name, value in values.items()
    }
    return json.dumps({"step": step, **plain})
