"""Measures what monitoring costs: python benchmarks/monitoring.py --rounds 3

Two trainings by the real command run at once: one with the page, the files, previews and health at
their default intervals, one with --monitor none. They take turns of a second or two, in which the
other is suspended with its server, so that other load on the machine affects both alike. Compared
are the seconds of their turns from the tenth step to the end, which include all previews,
evaluations and the last update of the page, and the peak memory of the training process.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from common import report
from forked_training import ForkedTraining, import_training
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
# Compilation and the choice of kernels fall into the first steps, which are not counted.
WARM_UP = 10
POLL = 0.02  # seconds


def main() -> None:
    options = _options()
    import_training()
    names = (options.monitor, "none")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds):
        # Each starts first in half of the rounds.
        order = names if turn % 2 else names[::-1]
        with tempfile.TemporaryDirectory() as folder:
            trainings = {name: Training(name, Path(folder) / name, options) for name in order}
            take_turns(list(trainings.values()), seconds=options.turn_s)
        for name, training in trainings.items():
            seconds[name].append(training.took)
            memory[name].append(training.memory)
            print(f"{name}: {training.took:.2f} s, at most {training.memory:.0f} MB", flush=True)

    ratio = statistics.median(
        watched / alone for watched, alone in zip(*seconds.values(), strict=True)
    )
    more = statistics.median(memory[options.monitor]) - statistics.median(memory["none"])
    table = Table("", "seconds: median (least to most)", "most memory, MB")
    for name in names:
        table.add_row(name, _spread(seconds[name]), f"{statistics.median(memory[name]):.0f}")
    Console(width=100).print(table)
    figures = {
        "steps": options.steps,
        "seconds": {name: [round(each, 2) for each in taken] for name, taken in seconds.items()},
        "ratio": round(ratio, 4),
        "cost_percent": round(100 * (ratio - 1), 2),
        "memory_more_mb": round(more, 1),
        "within_bounds": ratio < 1.02 and more < 50,
    }
    report(figures, torch.device(options.device), out=options.out)


class Training:
    """A run of the command that trains only in its turns; it starts suspended."""

    def __init__(self, monitor: str, folder: Path, options: argparse.Namespace) -> None:
        command = [sys.executable, str(ROOT / "train.py"), "--dataroot", str(options.dataroot)]
        command += ["--name", "run", "--checkpoints_dir", str(folder), "--device", options.device]
        command += ["--steps", str(options.steps), "--monitor", monitor, *options.training]
        # Its own port, so that the page of another run is not disturbed.
        command += ["--display_port", str(options.port), "--cache", "ram"]
        self._points = folder / "run" / "metrics.jsonl"
        self._clock = self._began = self.memory = 0.0
        self._seen = 0
        with Path(os.devnull).open("wb") as nowhere:
            self._process = ForkedTraining(command, stdout=nowhere)
        self._send(signal.SIGSTOP)

    @property
    def runs(self) -> bool:
        if status := self._process.poll():
            raise SystemExit(f"train.py ended with status {status}")
        return status is None

    @property
    def took(self) -> float:
        """Seconds of its turns after the tenth step."""
        return self._clock - self._began

    @property
    def is_warm(self) -> bool:
        return self._seen >= WARM_UP

    def turn(self, seconds: float) -> None:
        """Trains for this time, or to the end."""
        began, before = time.monotonic(), self._clock
        self._send(signal.SIGCONT)
        while self.runs and time.monotonic() - began < seconds:
            time.sleep(POLL)
            self._clock = before + time.monotonic() - began
            self._read_points()
        self._send(signal.SIGSTOP)

    def end(self) -> None:
        if self.runs:
            self._send(signal.SIGKILL)
            self._process.wait()

    def _read_points(self) -> None:
        """Takes the step and the memory from the newest points of metrics.jsonl."""
        try:
            whole, _, _ = self._points.read_text().rpartition("\n")
        except FileNotFoundError:
            return
        for line in whole.splitlines():
            point = json.loads(line)
            if point["step"] <= self._seen:
                continue
            self._seen = point["step"]
            self.memory = max(self.memory, 1000 * point["memory"])
            if self._seen == WARM_UP:
                self._began = self._clock

    def _send(self, number: signal.Signals) -> None:
        for pid in list(_family(self._process.pid)) if self.runs else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def take_turns(trainings: Sequence[Training], *, seconds: float) -> None:
    """Warms them up one after the other, then trains them in turns to their ends."""
    try:
        for training in trainings:
            while training.runs and not training.is_warm:
                training.turn(seconds)
        while going := [training for training in trainings if training.runs]:
            for training in going:
                training.turn(seconds)
    finally:
        for training in trainings:
            training.end()


def _family(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text().split():
                yield from _family(int(child))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataroot", type=Path, default=ROOT / "data" / "lr2hr")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2001)
    parser.add_argument("--turn_s", type=float, default=1.5, help="seconds of a turn")
    parser.add_argument(
        "--monitor", default="visdom", help="the monitor that is compared with none"
    )
    parser.add_argument("--port", type=int, default=8197, help="port of the page")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument(
        "training",
        nargs="*",
        help="options of the training, after --; the default suits a CPU",
        default=["--load_size=72", "--crop_size=64", "--ngf=16", "--ndf=16", "--precision=fp32"],
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
