"""What a run shows, tells and measures of itself while it trains, and at its end."""

import json
from collections.abc import Callable

from cyclegan import checkpoint
from cyclegan.data.stream import Batch
from cyclegan.evaluation.compare import Comparison, compare
from cyclegan.monitor import Monitors, Preview
from cyclegan.training import messages
from cyclegan.training.meter import Interval
from cyclegan.training.setup import Run
from cyclegan.translate.translator import Translator

# Besides every --print_every steps: a slow machine shows signs of life at once.
EARLY_REPORTS = (1, 10)


class Outputs:
    """Reports, previews and measurements, which one process of a run makes for all."""

    def __init__(self, run: Run, monitors: Monitors, *, say: Callable[[str], object]) -> None:
        self.settings = run.settings
        self.state = run.state
        self.previews = run.previews
        self.monitors = monitors
        self.decoded = run.images.decoded is not None
        self.say = say
        self.broken: set[str] = set()
        self.warned = False
        self.begin()

    def begin(self) -> None:
        """From now on time counts."""
        self.interval = Interval(self.state.progress.position)

    def batch_arrived(self, batch: Batch) -> None:
        self.interval.batch_arrived()
        for path, why in batch.broken.items():
            if str(path) not in self.broken:
                self.broken.add(str(path))
                self.say(f"warning: skipped {path} ({why})")

    def step_done(self) -> None:
        self.interval.step_done()

    def report(self, measured: dict[str, float]) -> None:
        """Means since the last report, speed, and what was measured."""
        state, step = self.state, self.state.progress.step
        values = state.world.means(state.meter.read())
        speed = self.interval.read(state.progress.position)
        line = messages.data_bound_line(speed["data_share"], decoded=self.decoded)
        if line and step not in EARLY_REPORTS and not self.warned:
            self.say(line)
            self.warned = True
        self.begin()
        rate = float(state.stepper.optimizer_G.param_groups[0]["lr"])
        told = {**values, **measured, "lr": rate, **speed}
        state.history.append((step, told))
        self.monitors.scalars(step, told)

    def preview(self) -> None:
        if self.state.world.leads:
            G_AB, G_BA = self._translator("G_AB"), self._translator("G_BA")
            picture = Preview(self.previews.draw(G_AB, G_BA))
            self.monitors.show(self.state.progress.step, picture)

    def measure(self) -> tuple[dict[str, float], bool]:
        """The figures of the test images, which a schedule may go by, and whether the translations
        are nearer to real B than ever before. One process measures, and all are told.
        """
        state, progress = self.state, self.state.progress
        comparison = state.world.spread(self._compare() if state.world.leads else None)
        if comparison is None:
            return {}, False
        distance = comparison.swd_fake
        state.schedule.observe(distance)
        is_best = progress.best is None or distance < progress.best
        if is_best:
            progress.best, progress.best_step = distance, progress.step
        return comparison.scalars(), is_best

    def finish(self) -> None:
        """Measures the generators on the test images, where there are any; says what is where."""
        path = self.settings.run_dir
        self.say("measuring the translations of the test images")
        comparison = self._compare()
        if comparison is None:
            self.say("there is nothing to measure: no readable testA and testB")
        else:
            for line in comparison.describe():
                self.say(line)
            figures = {"step": self.state.progress.step, **comparison.as_dict()}
            text = json.dumps(figures) + "\n"
            checkpoint.write_atomically(
                path / "evaluation.json", lambda file: file.write(text.encode())
            )
        progress = self.state.progress
        if progress.best is not None:
            self.say(
                f"the least distance in mid-run was {progress.best:.1f}, at step "
                f"{progress.best_step}: its weights are kept as --epoch best"
            )
        self.say(messages.memory_line(self.state.device))
        self.say(f"done: weights, previews and curves are in {path} (open {path / 'index.html'})")
        self.say(f"translate with: {messages.command_to_translate(self.settings)}")

    def _compare(self) -> Comparison | None:
        return compare(self.settings, self._translator("G_AB"))

    def _translator(self, name: str) -> Translator:
        return Translator(self.state.published()[name], device=self.state.device)
