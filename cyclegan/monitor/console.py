"""The run on the terminal: a live line where there is one, plain lines where there is not."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cyclegan.monitor import Exhibit
from cyclegan.monitor.curves import losses

Item = TypeVar("Item")


class _Terminal(RichConsole):
    """One that may go away: whoever has piped the output into `head` still trains."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """Prints losses as they are reported and, on a terminal, how far the run is.

    `track` wraps the loop's batches; the remaining time comes from the steps of this run alone.
    """

    def __init__(
        self, *, total_steps: int, steps_per_epoch: int, first_step: int, quiet: bool = False
    ) -> None:
        self.rich = _Terminal(highlight=False, soft_wrap=True, quiet=quiet)
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.first_step = first_step
        self.started = time.monotonic()
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.rich,
            disable=quiet or not self.rich.is_terminal,
        )
        self.task = self.progress.add_task(
            "train", total=total_steps, completed=first_step, epoch=1, speed=""
        )

    def say(self, line: str) -> None:
        """A line of plain text, above the live line where there is one."""
        try:
            self.rich.print(line, markup=False)
        except OSError:
            # The terminal was closed.
            self.rich.quiet = True

    def track(self, batches: Iterable[Item], *, step: int) -> Iterator[Item]:
        """The batches from a step up to the last, each counted when the loop asks for the next."""
        self.first_step, self.started = step, time.monotonic()
        with self.progress:
            for batch in batches:
                if step >= self.total_steps:
                    return
                epoch = step // self.steps_per_epoch + 1
                self.progress.update(self.task, completed=step, epoch=epoch)
                yield batch
                step += 1
                self.progress.update(self.task, completed=step)
                if step >= self.total_steps:
                    return

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        speed = f"{values.get('images_per_second', 0):.1f} images/s"
        if "data_share" in values:
            speed += f" ({values['data_share']:.0%} waiting for data)"
        self.progress.update(self.task, speed=speed)
        told = "  ".join(f"{name} {short(value)}" for name, value in losses(values).items())
        epoch = max(0, step - 1) // self.steps_per_epoch + 1
        head = f"epoch {epoch}  step {step}/{self.total_steps}"
        left = "" if self.rich.is_terminal else f"  {speed}  {self._left(step)} left"
        self.say(f"{head}{left}  {told}")

    def show(self, step: int, exhibit: Exhibit) -> None:
        pass

    def close(self) -> None:
        self.progress.stop()

    def _left(self, step: int) -> str:
        done = max(1, step - self.first_step)
        seconds = (time.monotonic() - self.started) / done * (self.total_steps - step)
        return duration(seconds)


def short(value: float) -> str:
    """Three digits after the point, or three that say something: 12.345, but 0.00123."""
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """1:05:09 for 3,909 seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
