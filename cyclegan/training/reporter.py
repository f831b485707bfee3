"""What a run shows, tells and measures of itself while it trains, and at its end."""

import json
from collections.abc import Callable, Mapping

from cyclegan.data.files.images import to_tensor
from cyclegan.data.loading.loader import Batch
from cyclegan.evaluation.compare import Comparison, compare
from cyclegan.hardware.devices import peak_memory
from cyclegan.monitor import Monitors
from cyclegan.monitor.health.summary import judge
from cyclegan.runs import atomic_files
from cyclegan.runs.artifacts import Exhibit, Histograms, Preview
from cyclegan.training import messages
from cyclegan.training.build import Run
from cyclegan.training.intervals import EARLY_REPORTS, Due
from cyclegan.training.statistics.fixed_samples import untouched
from cyclegan.training.statistics.meter import Interval
from cyclegan.training.statistics.weight_statistics import histograms
from cyclegan.translate.translator import Translator


class Outputs:
    """Reports, previews and measurements, which one process of a run makes for all."""

    def __init__(self, run: Run, monitors: Monitors, *, say: Callable[[str], object]) -> None:
        self.settings = run.settings
        self.state = run.state
        self.probe = run.probe
        self.looks = not run.settings.shows_nothing
        self.monitors = monitors
        self.decoded = run.images.decoded is not None
        self.say = say
        self.broken: set[str] = set()
        self.alarms: set[tuple[str, str]] = set()
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

    def tell(self, due: Due, *, moved: Mapping[str, float] | None = None) -> bool:
        """What is due; gives whether the translations were measured and are nearer to real B than
        ever before. `moved` says how far the last update went. One process looks and tells.
        """
        values, is_best = self._measure() if due.measure else ({}, False)
        preview: Preview | None = None
        if due.look and self.state.world.leads:
            preview, seen = self._look()
            values |= {**seen, **(moved or {})}
        if due.report:
            self._report(values)
        if due.histograms and self.state.world.leads:
            self._show(self._histograms())
        if due.hard_images:
            self._show_hard_images()
        if preview is not None:
            self._judge()
            # Last: with it the run's page is written.
            self._show(preview)
        return is_best

    def first_preview(self) -> None:
        """Before anything is learned."""
        if self.looks and self.state.world.leads:
            self._show(self._look()[0])

    def _look(self) -> tuple[Preview, dict[str, float]]:
        judges = dict(self.state.stepper.model.discriminators.items())
        return self.probe.look(self._translator("G_AB"), self._translator("G_BA"), judges)

    def _report(self, measured: Mapping[str, float]) -> None:
        """Means since the last report, speed, and what was measured."""
        state, step = self.state, self.state.progress.step
        values = state.world.means(state.meter.read())
        speed = self.interval.read(state.progress.position)
        line = messages.data_bound_line(speed["data_share"], decoded=self.decoded)
        if line and step not in EARLY_REPORTS and not self.warned:
            self.say(line)
            self.warned = True
        self.begin()
        rates = {
            "lr": float(state.stepper.optimizer_G.param_groups[0]["lr"]),
            "lr_D": float(state.stepper.optimizer_D.param_groups[0]["lr"]),
        }
        memory = peak_memory(state.device) / 1e9
        told = {**values, **measured, **rates, **speed, "memory": memory}
        state.history.append((step, told))
        self.monitors.scalars(step, told)

    def _judge(self) -> None:
        """Shows how the run is, and says what is newly wrong."""
        health = judge(self.state.history, total_steps=self.state.schedule.total_steps)
        if health is None:
            return
        self._show(health)
        alarms = {(alarm.name, alarm.where): alarm for alarm in health.alarms}
        for key, alarm in alarms.items():
            if key not in self.alarms:
                self.say(f"warning: {alarm.name} ({alarm.where}): {alarm.saw}. {alarm.means}")
                self.say(f"  try: {alarm.remedy}")
        for name, where in self.alarms - alarms.keys():
            self.say(f"over: {name} ({where})")
        self.alarms = set(alarms)

    def _histograms(self) -> Histograms:
        networks = self.state.stepper.model.networks()
        fixed = {"A": self.probe.images_A, "B": self.probe.images_B}
        # By the domain that a network looks at: the first letter of G_AB, the last of D_A.
        domains = {name: name.split("_")[1][0] for name in networks}
        shown = {n: fixed[d][0] for n, d in domains.items() if fixed[d]}
        images = {n: to_tensor(image)[None].to(self.state.device) for n, image in shown.items()}
        with untouched(list(networks.values()), self.state.device):
            return histograms(networks, images)

    def _show_hard_images(self) -> None:
        state = self.state
        seen = state.world.gather(state.lessons.state_dict())
        if state.world.leads and (found := state.lessons.of_all(seen).hard_images()):
            self._show(found)

    def _show(self, exhibit: Exhibit) -> None:
        self.monitors.show(self.state.progress.step, exhibit)

    def _measure(self) -> tuple[dict[str, float], bool]:
        """The figures of the test images, which a schedule may go by, and whether they are the
        best so far. One process measures, and all are told.
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
            atomic_files.write_atomically(
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
