"""The training loop: steps, reports, saves, pauses and rollbacks, until the run ends or stops."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch

from cyclegan.config.errors import UserError, explain
from cyclegan.data.loading.loader import Batch
from cyclegan.data.loading.sampler import MicroBatch
from cyclegan.losses.weighted import Clock
from cyclegan.monitor.console import Console
from cyclegan.runs import checkpoints
from cyclegan.runs.checkpoints import BEST, LATEST
from cyclegan.runs.control_files import FILES, POLL_SECONDS, Request
from cyclegan.runs.folder import RunFolder
from cyclegan.runs.record import Outcome
from cyclegan.training.algorithm.objective import Losses
from cyclegan.training.algorithm.optimizers import scale_learning_rate
from cyclegan.training.intervals import Actions, with_requests
from cyclegan.training.reporter import Reporter
from cyclegan.training.resources.execution_plan import compile_first_step
from cyclegan.training.run import Run
from cyclegan.training.startup import batches_from_now, close, describe, start
from cyclegan.training.state import random_states, restore_random
from cyclegan.training.statistics.async_metrics import AsyncMetrics, StepMetrics
from cyclegan.training.statistics.nonfinite_guard import NonFiniteGuard, nonfinite_weights
from cyclegan.training.statistics.weight_statistics import sample_weights, update_ratios
from cyclegan.training.stop import Requests, StopRequest

# Learning-rate factor per rollback, and the maximum number of rollbacks.
ROLLBACK_FACTOR = 0.5
MAX_ROLLBACKS = 3

logger = logging.getLogger(__name__)


class RollBack(UserError):
    """The run must return to its last saved state; the message is for a run that cannot."""


class Trainer:
    """Trains a run that `RunBuilder` has built and checked."""

    def __init__(self, run: Run) -> None:
        self.run, self.state, self.step = run, run.state, run.state.step
        self.process_group, self.writer = run.process_group, run.writer
        self.requests = Requests(run)
        self.metrics = AsyncMetrics(run.device)
        self.guard = NonFiniteGuard(
            fp16=run.plan.precision == "fp16", single_process=run.process_group.size == 1
        )
        self.must_compile = run.plan.compile != "off"
        self.stops_after_epoch = False
        # Update ratios of the last step that was followed by a preview.
        self.ratios: dict[str, float] = {}
        # The random states before the present step; None between two steps.
        self.random_before: dict[str, Any] | None = None
        self.folder: RunFolder | None = None
        self.console = Console(
            total_steps=run.state.schedule.total_steps,
            steps_per_epoch=run.state.schedule.steps_per_epoch,
            first_step=run.state.progress.step,
            quiet=run.quiet,
            silent=not run.process_group.is_main,
        )

    def fit(self) -> int:
        """Trains to the end, or until the run is stopped; returns the exit status."""
        if self.run.dry_run:
            return describe(self.run)
        self.folder, batches, monitors = start(self.run, self.console)
        self.reporter = Reporter(self.run, monitors)
        self.requests.clear()
        try:
            with StopRequest() as stop:
                self._before_first_step()
                while True:
                    self.reporter.restart_clock()
                    try:
                        with closing(batches):
                            first = self.state.progress.step
                            for batch in self.console.track(batches, step=first):
                                clock, micro_batches = self._before_step(batch)
                                step = self._compile_step if self.must_compile else self.step
                                losses = step(batch.real_A, batch.real_B, clock, micro_batches)
                                self._after_step(batch, losses)
                                if self._must_stop(stop):
                                    break
                        break
                    except RollBack:
                        self._roll_back()
                        batches = batches_from_now(self.run, start="spawn")
                return self._finish(stop)
        except Exception as error:
            rescued = self._rescue(error)
            self._record("failed", explain(rescued))
            raise rescued from error
        finally:
            close(monitors, self.folder)

    def _before_first_step(self) -> None:
        total_steps = self.state.schedule.total_steps
        if self.state.progress.step == 0:
            self.reporter.first_preview()
            self._save([LATEST])
        elif self.state.progress.step >= total_steps:
            logger.info(
                "nothing is left to train: %d steps are done; for more, give --n_epochs, "
                "--n_epochs_decay or --steps",
                total_steps,
            )

    def _before_step(self, batch: Batch) -> tuple[Clock, Sequence[MicroBatch] | None]:
        """Sets the learning rates, and keeps what an exception in the step must restore."""
        progress, schedule = self.state.progress, self.state.schedule
        self.reporter.batch_arrived(batch)
        factor = progress.rate * schedule.factor(step=progress.step, position=progress.position)
        for side in (self.step.generators, self.step.discriminators):
            scale_learning_rate(side.optimizer, factor)
        previews = self.run.intervals.previews_after(progress.step + 1)
        self.weights_before = sample_weights(self.step.model.networks()) if previews else {}
        self.random_before = random_states(self.run.device)
        sampler = self.run.sampler
        short = sampler.step_size(progress.position) != sampler.images_per_step
        micro_batches = sampler.micro_batches(progress.position) if short else None
        return schedule.clock(progress.step), micro_batches

    def _compile_step(self, *arguments: Any) -> Losses:
        self.must_compile = False
        before = checkpoints.copy_to_cpu(self.state.capture())
        return compile_first_step(
            lambda: self.step(*arguments),
            undo=lambda: self.state.restore(before),
            executors=self.step.model.executors.values(),
        )

    def _after_step(self, batch: Batch, losses: Losses) -> None:
        """Counts the step; raises RollBack if losses are not finite for too long."""
        self._count_step()
        self.ratios = {}
        if self.weights_before:
            weights = sample_weights(self.step.model.networks())
            self.ratios = update_ratios(self.weights_before, weights)
        indices = {"error_A": batch.indices_A, "error_B": batch.indices_B}
        errors = {n[-1]: (indices[n], each) for n, each in self.step.cycle_errors.items()}
        for metrics in self.metrics.put(self.state.progress.step, losses, errors):
            self._take(metrics)

    def _count_step(self) -> None:
        progress = self.state.progress
        self.state.average.update()
        progress.step += 1
        progress.position += self.run.sampler.step_size(progress.position)
        self.random_before = None

    def _take(self, metrics: StepMetrics) -> None:
        self.state.means.update(metrics.values)
        self.state.hard_examples.update(metrics.step, metrics.errors)
        if self.guard.must_roll_back(metrics):
            raise RollBack("losses are not finite: lower --lr, look for flat images")

    def _flush_metrics(self) -> None:
        for metrics in self.metrics.flush():
            self._take(metrics)

    def _must_stop(self, stop: StopRequest) -> bool:
        """Takes the actions that are due and requested; pauses if requested."""
        progress, intervals = self.state.progress, self.run.intervals
        requests = self.requests.poll(stop)
        self._act(with_requests(intervals.after(progress.step, progress.position), requests))
        self.reporter.step_done()
        if requests & Request.PAUSE:
            requests = self._pause(stop)
        if requests & Request.STOP:
            logger.info("stopping after this epoch, as asked at step %d", progress.step)
        self.stops_after_epoch = self.stops_after_epoch or bool(requests & Request.STOP)
        ends = self.stops_after_epoch and intervals.ends_epoch(progress.position)
        return ends or bool(requests & Request.STOP_NOW)

    def _pause(self, stop: StopRequest) -> Request:
        """Waits until nobody wants the pause any more, or somebody wants to stop."""
        file = self.run.run_dir / FILES[Request.PAUSE]
        step = self.state.progress.step
        logger.info("paused at step %d: go on by the page, or delete %s", step, file)
        began, requests, all_requests = time.monotonic(), Request.PAUSE, Request.NONE
        while requests & Request.PAUSE and not requests & Request.STOP_NOW:
            time.sleep(POLL_SECONDS)
            requests = self.requests.poll(stop)
            all_requests |= requests
            self._act(with_requests(Actions(), requests))
        logger.info("stopping in the pause" if requests & Request.STOP_NOW else "going on")
        self.reporter.restart_clock()
        self.console.skip(time.monotonic() - began)
        return all_requests

    def _act(self, actions: Actions) -> None:
        if actions.report:
            self._flush_metrics()
        is_best = self.reporter.report(actions, ratios=self.ratios)
        if saves := [*([BEST] if is_best else []), *actions.saves]:
            self._save(saves)

    def _save(self, epochs: Sequence[str | int]) -> None:
        """Saves under these names; raises RollBack if the weights are not finite."""
        self._flush_metrics()
        step = self.state.progress.step
        if broken := nonfinite_weights(self.step.model):
            where = f"{', '.join(broken)} not finite at step {step}"
            logger.warning(where)
            raise RollBack(f"{where}: lower --lr or --init_gain; what was saved before is kept")
        captured = self.state.capture()
        if self.process_group.is_main:
            self.writer.save(step, epochs, self.state.published(), captured)

    def _roll_back(self) -> None:
        """Restores the last saved state, with a lower learning rate."""
        progress = self.state.progress
        if progress.times_back >= MAX_ROLLBACKS:
            raise UserError(
                f"the run went back {MAX_ROLLBACKS} times, and its losses are not finite again "
                f"at step {progress.step}: look for flat images (python -m cyclegan doctor), "
                "lower --lr, then add --continue_train"
            )
        times_back = progress.times_back + 1
        self.writer.wait()
        run_dir, is_main = self.run.run_dir, self.process_group.is_main
        saved = checkpoints.load_state(run_dir) if is_main else {}
        self.state.restore(self.process_group.broadcast(saved))
        progress = self.state.progress
        progress.times_back, progress.rate = times_back, ROLLBACK_FACTOR**times_back
        if is_main:
            checkpoints.set_aside_states(run_dir, after=progress.step)
        self.metrics.reset()
        self.guard.reset()
        how = f"{progress.rate:g} of the learning rate ({times_back} of at most {MAX_ROLLBACKS}"
        logger.info("going back to step %d with %s times)", progress.step, how)

    def _finish(self, stop: StopRequest) -> int:
        """Ends the run, or saves what was interrupted; returns the exit status."""
        step = self.state.progress.step
        status = 0
        if step >= self.state.schedule.total_steps:
            self.writer.check()
            self._record("finished")
            if self.process_group.is_main:
                self.reporter.finish()
        else:
            self._save([LATEST])
            self.writer.check()
            as_asked = self.stops_after_epoch and not stop
            why = "stopped" if stop or as_asked else "out of time: stopped"
            command = self.run.continue_command
            logger.info("%s and saved at step %d; go on with: %s", why, step, command)
            self._record("stopped", "as asked" if as_asked else stop.why)
            status = 0 if as_asked else stop.status
        # Skipped after a failure: the other ranks may be gone and the barrier would hang.
        self.process_group.leave()
        return status

    def _rescue(self, error: Exception) -> Exception:
        """Saves what can still be saved; returns the error to raise."""
        if self.step.is_halfway:
            # The generators are updated: repeating the step would update them twice.
            self._count_step()
        elif self.random_before is not None:
            restore_random(self.random_before, self.run.device)
        step = self.state.progress.step
        # A save needs all ranks, and others may still be in their step.
        if self.process_group.size == 1 and step > self.writer.step and self._has_weights():
            self.writer.save(step, [LATEST], self.state.published(), self.state.capture())
        self.writer.wait()
        if not isinstance(error, torch.OutOfMemoryError):
            return error
        return UserError(
            f"the GPU's memory was too small at step {step}, twice; saved at step "
            f"{self.writer.step}: lower --batch_size and raise --accumulate, or add "
            "--checkpoint_activations, with --continue_train"
        )

    def _has_weights(self) -> bool:
        try:
            return not nonfinite_weights(self.step.model)
        # After some errors a GPU answers nothing any more.
        except RuntimeError:
            return False

    def _record(self, outcome: Outcome, why: str = "") -> None:
        if self.folder is not None:
            self.folder.end(outcome, step=self.state.progress.step, why=why)
