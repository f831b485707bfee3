"""The run on the terminal: a live table, or plain lines where the output is no terminal."""

import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cyclegan.monitor.health.curves import losses
from cyclegan.runs.artifacts import Artifact, Health

Item = TypeVar("Item")

# How many times of steps are kept for the prediction of the time left.
MARKS = 4000


class _Terminal(RichConsole):
    """Training goes on if the terminal goes away, as when the output is piped into `head`."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """Prints a line for each report or, on a terminal, updates a table with the progress.

    `track` wraps the batches of the training loop. rich omits the colours if NO_COLOR is set.
    """

    def __init__(
        self,
        *,
        total_steps: int,
        steps_per_epoch: int,
        first_step: int,
        quiet: bool = False,
        silent: bool = False,
    ) -> None:
        """quiet: prints no reports, only the lines of `print`; silent: prints nothing."""
        self.rich = _Terminal(highlight=False, soft_wrap=True, quiet=silent)
        self.quiet = quiet
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.marks = [(first_step, time.monotonic())]
        self.values: dict[str, float] = {}
        self.health: Health | None = None
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.task = self.progress.add_task(
            "train", total=total_steps, completed=first_step, epoch=1, speed="", left=""
        )
        self.live = Live(console=self.rich, get_renderable=self._render, refresh_per_second=4)

    @property
    def shows_table(self) -> bool:
        return self.rich.is_terminal and not self.quiet and not self.rich.quiet

    def print(self, line: str) -> None:
        """Prints a line of plain text, above the table if there is one."""
        try:
            self.rich.print(line, markup=False)
        except OSError:
            # The terminal was closed.
            self.rich.quiet = True

    def track(self, batches: Iterable[Item], *, step: int) -> Iterator[Item]:
        """Yields batches up to the last step; counts each when the next one is requested."""
        self.marks = [(step, time.monotonic())]
        with self.live if self.shows_table else nullcontext():
            for batch in batches:
                if step >= self.total_steps:
                    return
                self._count(step, epoch=step // self.steps_per_epoch + 1)
                yield batch
                step += 1
                self._count(step)
                if step >= self.total_steps:
                    return

    def skip(self, seconds: float) -> None:
        """Leaves the time of a pause out of the prediction."""
        self.marks = [(step, then + seconds) for step, then in self.marks]

    def seconds_left(self, step: int) -> float | None:
        """Predicts the rest from the newer half of the steps; None before the first of them.

        What slowed down the older half, such as compiling, does not come again.
        """
        middle = step - max(1, (step - self.marks[0][0]) // 2)
        index = bisect_right(self.marks, (middle, math.inf)) - 1
        if index < 0:
            return None
        then_step, then = self.marks[index]
        return (time.monotonic() - then) / (step - then_step) * (self.total_steps - step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.values = dict(values)
        speed = f"{values.get('images_per_second', 0):.1f} images/s"
        if "data_share" in values:
            speed += f" ({values['data_share']:.0%} waiting for data)"
        self.progress.update(self.task, speed=speed)
        if self.quiet or self.shows_table:
            return
        epoch = max(0, step - 1) // self.steps_per_epoch + 1
        shown = (f"{name} {short(value)}" for name, value in losses(values).items())
        where = f"epoch {epoch}  step {step}/{self.total_steps}"
        self.print("  ".join([where, speed, self._left(step), *shown]))

    def show(self, step: int, artifact: Artifact) -> None:
        if isinstance(artifact, Health):
            self.health = artifact

    def close(self) -> None:
        self.live.stop()

    def _count(self, step: int, **fields: Any) -> None:
        if step - self.marks[-1][0] >= self.total_steps / MARKS:
            self.marks.append((step, time.monotonic()))
        self.progress.update(self.task, completed=step, left=self._left(step), **fields)

    def _left(self, step: int) -> str:
        seconds = self.seconds_left(step)
        return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"

    def _render(self) -> Group:
        parts: list[Progress | Table | Text] = [self.progress]
        if self.values:
            parts.append(_table(losses(self.values)))
        if self.health is not None:
            parts.append(_summary(self.health))
        return Group(*parts)


def _table(values: Mapping[str, float]) -> Table:
    """A row for each kind of loss, a column for each domain."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        head, dot, label = name.partition(".")
        slot, _, domain = head.rpartition("_") if head[-2:] in ("_A", "_B") else (head, "", "")
        rows.setdefault(slot + dot + label, {})[domain] = value
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("loss", "A", "B"):
        table.add_column(title, justify="left" if title == "loss" else "right", min_width=8)
    for kind, by_domain in rows.items():
        cells = (short(by_domain[domain]) if domain in by_domain else "" for domain in "AB")
        table.add_row(Text(kind), *cells)
    return table


def _summary(health: Health) -> Text:
    if not health.alarms:
        return Text("health: no alarms", style="green")
    alarms = ", ".join(f"{alarm.name} ({alarm.where})" for alarm in health.alarms)
    return Text(f"health: {alarms}", style="bold red")


def short(value: float) -> str:
    """Three decimals or, for small values, three significant digits: 12.345, 0.00123."""
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"
