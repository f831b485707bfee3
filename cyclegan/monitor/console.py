"""The run on the terminal: a live table where there is one, plain lines where there is not."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cyclegan.monitor.health.curves import losses
from cyclegan.monitor.time_left import TimeLeft
from cyclegan.runs.artifacts import Exhibit, Health

Item = TypeVar("Item")


class _Terminal(RichConsole):
    """One that may go away: whoever has piped the output into `head` still trains."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """Prints losses as they are reported; on a terminal, instead, one table that changes in place,
    with how far the run is. rich leaves out the colours where NO_COLOR is set.

    `track` wraps the loop's batches; the time left comes from the steps of this run alone.
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
        """quiet: no reports, only what must be known; silent: nothing at all."""
        self.rich = _Terminal(highlight=False, soft_wrap=True, quiet=silent)
        self.quiet = quiet
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.time_left = TimeLeft(total_steps)
        self.time_left.begin(first_step, time.monotonic())
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
        self.live = Live(
            console=self.rich, get_renderable=self._drawn, refresh_per_second=4, transient=False
        )

    @property
    def shows_table(self) -> bool:
        return self.rich.is_terminal and not self.quiet and not self.rich.quiet

    def say(self, line: str) -> None:
        """A line of plain text, above the live table where there is one."""
        try:
            self.rich.print(line, markup=False)
        except OSError:
            # The terminal was closed.
            self.rich.quiet = True

    def track(self, batches: Iterable[Item], *, step: int) -> Iterator[Item]:
        """The batches from a step up to the last, each counted when the loop asks for the next."""
        self.time_left.begin(step, time.monotonic())
        with self._shown():
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
        """A pause of so long tells nothing of the time left."""
        self.time_left.skip(seconds)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.values = dict(values)
        speed = f"{values.get('images_per_second', 0):.1f} images/s"
        if "data_share" in values:
            speed += f" ({values['data_share']:.0%} waiting for data)"
        self.progress.update(self.task, speed=speed)
        if self.quiet or self.shows_table:
            return
        told = "  ".join(f"{name} {short(value)}" for name, value in losses(values).items())
        epoch = max(0, step - 1) // self.steps_per_epoch + 1
        self.say(
            f"epoch {epoch}  step {step}/{self.total_steps}  {speed}  {self._left(step)}  {told}"
        )

    def show(self, step: int, exhibit: Exhibit) -> None:
        if isinstance(exhibit, Health):
            self.health = exhibit

    def close(self) -> None:
        self.live.stop()

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if not self.shows_table:
            yield
            return
        with self.live:
            yield

    def _count(self, step: int, **fields: Any) -> None:
        self.time_left.at(step, time.monotonic())
        self.progress.update(self.task, completed=step, left=self._left(step), **fields)

    def _left(self, step: int) -> str:
        seconds = self.time_left.left(step, time.monotonic())
        return "" if seconds is None else f"{duration(seconds)} left"

    def _drawn(self) -> Group:
        parts: list[Progress | Table | Text] = [self.progress]
        if self.values:
            parts.append(_table(losses(self.values)))
        if self.health is not None:
            parts.append(_verdict(self.health))
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
    for kind, of in rows.items():
        cells = (short(of[domain]) if domain in of else "" for domain in "AB")
        table.add_row(Text(kind), *cells)
    return table


def _verdict(health: Health) -> Text:
    if not health.alarms:
        return Text("health: no alarms", style="green")
    named = ", ".join(f"{alarm.name} ({alarm.where})" for alarm in health.alarms)
    return Text(f"health: {named}", style="bold red")


def short(value: float) -> str:
    """Three digits after the point, or three that say something: 12.345, but 0.00123."""
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """1:05:09 for 3,909 seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
