"""What a run reports while it trains and at its end: losses, previews, health, measurements."""

import json
import logging
from collections.abc import Mapping

from cyclegan.data.files.images import to_tensor
from cyclegan.data.loading.loader import Batch
from cyclegan.evaluation.compare import TranslationMetrics
from cyclegan.hardware.devices import peak_memory
from cyclegan.monitor import Monitors
from cyclegan.monitor.health.summary import summarize_health
from cyclegan.runs.artifacts import Artifact, Histograms, Preview
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.training import messages
from cyclegan.training.intervals import EARLY_REPORTS, Actions
from cyclegan.training.run import Run
from cyclegan.training.state import preserve_state
from cyclegan.training.statistics.running_means import Throughput
from cyclegan.training.statistics.weight_statistics import histograms
from cyclegan.translate.translator import Translator

logger = logging.getLogger(__name__)


class Reporter:
    """Measures and shows on the main process what monitors and the terminal are told."""

    def __init__(self, run: Run, monitors: Monitors) -> None:
        self.run, self.state = run, run.state
        self.monitors = monitors
        self.skipped: set[str] = set()
        self.alarms: set[tuple[str, str]] = set()
        self.warned_of_data = False
        self.restart_clock()

    def restart_clock(self) -> None:
        """Throughput counts from now on."""
        self.throughput = Throughput(self.state.progress.position)

    def batch_arrived(self, batch: Batch) -> None:
        self.throughput.batch_arrived()
        for path, why in batch.broken.items():
            if str(path) not in self.skipped:
                self.skipped.add(str(path))
                logger.warning("skipped %s (%s)", path, why)

    def step_done(self) -> None:
        self.throughput.step_done()

    def report(self, actions: Actions, *, ratios: Mapping[str, float]) -> bool:
        """Takes the actions but for saves. Returns whether a measurement was the best so far.
        `ratios` are the update ratios of the last step.
        """
        is_main = self.state.process_group.is_main
        values, is_best = self._measure() if actions.measure else ({}, False)
        preview: Preview | None = None
        if actions.preview and is_main:
            preview, measured = self._preview()
            values = {**values, **measured, **ratios}
        if actions.report:
            self._report_scalars(values)
        if actions.histograms and is_main:
            self._show(self._histograms())
        if actions.hard_examples:
            self._show_hard_examples()
        if preview is not None:
            self._report_health()
            # The preview comes last: with it the run's page is written.
            self._show(preview)
        return is_best

    def first_preview(self) -> None:
        """Shows the translations of the untrained generators."""
        if self.run.intervals.previews and self.state.process_group.is_main:
            self._show(self._preview()[0])

    def finish(self) -> None:
        """Measures the translations of the test images, and says what was written where."""
        run_dir, progress = self.run.run_dir, self.state.progress
        logger.info("measuring the translations of the test images")
        comparison = self._compare()
        if comparison is None:
            logger.info("there is nothing to measure: no readable testA and testB")
        else:
            for line in comparison.describe():
                logger.info(line)
            text = json.dumps({"step": progress.step, **comparison.as_dict()}) + "\n"
            path = run_dir / "evaluation.json"
            write_atomically(path, lambda file: file.write(text.encode()))
        if progress.best is not None:
            logger.info(
                "the least distance in mid-run was %.1f, at step %d: its weights are kept as "
                "--epoch best",
                progress.best,
                progress.best_step,
            )
        logger.info(messages.memory_line(self.state.device))
        page = run_dir / "index.html"
        logger.info("done: weights, previews and curves are in %s (open %s)", run_dir, page)
        logger.info("translate with: %s", self.run.translate_command)

    def _preview(self) -> tuple[Preview, dict[str, float]]:
        discriminators = dict(self.state.step.model.discriminators.items())
        generators = self._translator("G_AB"), self._translator("G_BA")
        return self.run.fixed_samples.evaluate(*generators, discriminators)

    def _report_scalars(self, measured: Mapping[str, float]) -> None:
        """Reports the means since the last report, the throughput, and what was measured."""
        state, step = self.state, self.state.progress.step
        means = state.process_group.mean(state.means.read())
        throughput = self.throughput.read(state.progress.position)
        decoded = self.run.dataset.decoded is not None
        warning = messages.data_bound_warning(throughput["data_share"], decoded=decoded)
        if warning and step not in EARLY_REPORTS and not self.warned_of_data:
            logger.warning(warning)
            self.warned_of_data = True
        self.restart_clock()
        rates = {
            "lr": float(state.step.generators.optimizer.param_groups[0]["lr"]),
            "lr_D": float(state.step.discriminators.optimizer.param_groups[0]["lr"]),
        }
        memory = {"memory": peak_memory(state.device) / 1e9}
        values = {**means, **measured, **rates, **throughput, **memory}
        state.history.append((step, values))
        self.monitors.scalars(step, values)

    def _report_health(self) -> None:
        """Shows the run's health, and logs each alarm that begins or ends."""
        health = summarize_health(self.state.history, total_steps=self.state.schedule.total_steps)
        if health is None:
            return
        self._show(health)
        alarms = {(alarm.name, alarm.where): alarm for alarm in health.alarms}
        for key, alarm in alarms.items():
            if key not in self.alarms:
                logger.warning("%s (%s): %s. %s", *key, alarm.saw, alarm.means)
                logger.info("  try: %s", alarm.remedy)
        for name, where in self.alarms - alarms.keys():
            logger.info("over: %s (%s)", name, where)
        self.alarms = set(alarms)

    def _histograms(self) -> Histograms:
        networks = self.state.step.model.networks()
        samples = {"A": self.run.fixed_samples.images_A, "B": self.run.fixed_samples.images_B}
        # The domain that a network sees: the first letter of G_AB, the last of D_A.
        domains = {name: name.split("_")[1][0] for name in networks}
        images = {
            name: to_tensor(samples[domain][0])[None].to(self.state.device)
            for name, domain in domains.items()
            if samples[domain]
        }
        with preserve_state(list(networks.values()), self.state.device):
            return histograms(networks, images)

    def _show_hard_examples(self) -> None:
        state = self.state
        states = state.process_group.gather(state.hard_examples.state_dict())
        if state.process_group.is_main and (found := state.hard_examples.merged(states).shown()):
            self._show(found)

    def _show(self, artifact: Artifact) -> None:
        self.monitors.show(self.state.progress.step, artifact)

    def _measure(self) -> tuple[dict[str, float], bool]:
        """Measures the test images on the main process, and tells all; a schedule may follow the
        distance. Returns the values, and whether they are the best so far.
        """
        state, progress = self.state, self.state.progress
        group = state.process_group
        comparison = group.broadcast(self._compare() if group.is_main else None)
        if comparison is None:
            return {}, False
        distance = comparison.swd_fake
        state.schedule.observe(distance)
        is_best = progress.best is None or distance < progress.best
        if is_best:
            progress.best, progress.best_step = distance, progress.step
        return comparison.scalars(), is_best

    def _compare(self) -> TranslationMetrics | None:
        return self.run.compare(self._translator("G_AB"))

    def _translator(self, name: str) -> Translator:
        return Translator(self.state.published()[name], device=self.state.device)
