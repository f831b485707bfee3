"""metrics.jsonl: every value that a run reported, a line for each report."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclegan.runs.atomic_files import write_atomically

METRICS_FILE = "metrics.jsonl"
Point = tuple[int, dict[str, float]]

# Of a line in a file that somebody else has made; ours have one or two thousand bytes.
_LONGEST_LINE = 100_000
# Differences and sums of smaller numbers are numbers too.
_LARGEST = 1e100
_LAST_STEP = 10**15


class Tail:
    """Reads the points of a file that grows: each call of `more` gives those that are new."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / METRICS_FILE
        self._inode = 0
        self._offset = 0
        # In the middle of a line too long to be one of ours.
        self._passing = False

    def more(self) -> Iterator[Point]:
        """From the first point on again where the file was written anew, as it is for a run that
        went back. A line that is still being written is left for the next call, one that was cut
        short by a crash is passed over.
        """
        # A pipe of that name would wait for its other end.
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            now = os.fstat(file.fileno())
            if now.st_ino != self._inode or now.st_size < self._offset:
                self._inode, self._offset, self._passing = now.st_ino, 0, False
            file.seek(self._offset)
            while line := file.readline(_LONGEST_LINE):
                whole = line.endswith(b"\n")
                if not whole and len(line) < _LONGEST_LINE:
                    return
                self._offset = file.tell()
                passed, self._passing = self._passing, not whole
                if whole and not passed and (point := _point(line)) is not None:
                    yield point


def each_point(run_dir: Path) -> Iterator[Point]:
    """The points written so far; nothing where they cannot be read."""
    try:
        yield from Tail(run_dir).more()
    except OSError:
        return


def read_metrics(run_dir: Path) -> list[Point]:
    """The points written so far, NaN where the run told no number; one for each step."""
    points: list[Point] = []
    for step, values in each_point(run_dir):
        if points and points[-1][0] == step:
            points[-1][1].update(values)
        else:
            points.append((step, values))
    return points


def write_metrics(run_dir: Path, points: Iterable[Point]) -> None:
    """The points of a run that goes on from a saved state: later ones are made again."""

    def write(file: Any) -> None:
        file.writelines(f"{_line(step, values)}\n".encode() for step, values in points)

    write_atomically(run_dir / METRICS_FILE, write)


def append_point(run_dir: Path, step: int, values: Mapping[str, float]) -> None:
    append_line(run_dir / METRICS_FILE, _line(step, values))


def append_line(path: Path, line: str) -> None:
    """Raises OSError where the disk takes it not. Half a line, left behind by a crash or a full
    disk, is ended first: it does not spoil this one.
    """
    # Of a run's folder that came from somebody else, a link is not to be written through.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode(errors="replace"))


def _point(line: bytes) -> Point | None:
    try:
        values = json.loads(line)
        step = int(values.pop("step"))
        if not 0 <= step < _LAST_STEP:
            return None
    # A number of 5,000 digits is a ValueError, brackets 5,000 deep are a RecursionError.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    # A name that no text may hold would end up in one.
    named = {name: _number(value) for name, value in values.items() if name.isprintable()}
    return step, {name: value for name, value in named.items() if value is not None}


def _number(value: object) -> float | None:
    """None for what is neither a number nor what stands for one that is not finite."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else math.nan


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, **{k: _plain(v) for k, v in values.items()}})


def _plain(value: float) -> float | None:
    """Of eight digits, as ratios are small; JSON knows no NaN."""
    return float(f"{value:.8g}") if abs(value) < float("inf") else None
