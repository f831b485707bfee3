"""The run as files: metrics.jsonl for programs, loss_log.txt for readers of the classic log, and
every preview as a picture.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cyclegan.checkpoint import write_atomically
from cyclegan.data.images import save_image
from cyclegan.monitor import Exhibit, Preview
from cyclegan.monitor.curves import losses
from cyclegan.monitor.report import write_report

METRICS_FILE = "metrics.jsonl"
Point = tuple[int, dict[str, float]]


class Files:
    """Appends to the run's logs, keeps every preview, and renews the run's index.html.

    A disk that takes nothing more costs one line through `say`, never the run.
    """

    def __init__(
        self, run_dir: Path, *, title: str, steps_per_epoch: int, say: Callable[[str], None]
    ) -> None:
        self.run_dir = run_dir
        self.title = title
        self.steps_per_epoch = steps_per_epoch
        self.say = say
        self.failed = False
        self.last_report = time.monotonic()
        self.points = read_metrics(run_dir)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.points and step <= self.points[-1][0]:
            # The run went back, and makes later points again.
            self.points = [point for point in self.points if point[0] < step]
            self._guarded(lambda: write_metrics(self.run_dir, self.points))
        self.points.append((step, dict(values)))
        self._guarded(lambda: _append(self.run_dir / METRICS_FILE, _line(step, values)))
        self._guarded(
            lambda: _append(self.run_dir / "loss_log.txt", self._classic_line(step, values))
        )

    def show(self, step: int, exhibit: Exhibit) -> None:
        if not isinstance(exhibit, Preview):
            return
        path = self.run_dir / "previews" / f"step_{step:08d}.png"
        self._guarded(lambda: save_image(exhibit.image, path))
        self._guarded(lambda: write_report(self.run_dir, title=self.title, points=self.points))

    def close(self) -> None:
        self._guarded(lambda: write_report(self.run_dir, title=self.title, points=self.points))

    def _classic_line(self, step: int, values: Mapping[str, float]) -> str:
        now = time.monotonic()
        seconds, self.last_report = now - self.last_report, now
        epoch, place = divmod(max(0, step - 1), self.steps_per_epoch)
        told = " ".join(f"{name}: {value:.3f}" for name, value in losses(values).items())
        wait = values.get("data_wait", 0.0)
        head = f"(epoch: {epoch + 1}, iters: {place + 1}, time: {seconds:.3f}, data: {wait:.3f})"
        return f"{head} {told}"

    def _guarded(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if not self.failed:
                self.say(f"warning: {self.run_dir}: {error}; training goes on without its logs")
            self.failed = True


def read_metrics(run_dir: Path) -> list[Point]:
    """The points written so far; a line cut short by a crash is passed over."""
    path = run_dir / METRICS_FILE
    if not path.is_file():
        return []
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
        except (ValueError, KeyError, AttributeError):
            continue
        points.append((step, {k: float("nan") if v is None else v for k, v in values.items()}))
    return points


def write_metrics(run_dir: Path, points: Iterable[Point]) -> None:
    """The points of a run that goes on from a saved state: later ones are made again."""
    lines = [_line(step, values) + "\n" for step, values in points]
    write_atomically(run_dir / METRICS_FILE, lambda file: file.write("".join(lines).encode()))


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, **{k: _plain(v) for k, v in values.items()}})


def _append(path: Path, line: str) -> None:
    # Of a run's folder that came from somebody else, a link is not to be written through.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return round(value, 8) if abs(value) < float("inf") else None
