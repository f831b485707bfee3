"""The run: from settings to a trained, saved and measured pair of generators."""

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import torch

from cyclegan import checkpoint
from cyclegan.data.decoded import decode_once
from cyclegan.data.stream import Batch, stream
from cyclegan.errors import UserError
from cyclegan.monitor import Monitors
from cyclegan.monitor.build import build_monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import write_metrics
from cyclegan.option_types import seconds
from cyclegan.settings import TrainSettings
from cyclegan.training import messages
from cyclegan.training.meter import broken_networks, is_sound
from cyclegan.training.optim import scale_learning_rate
from cyclegan.training.outputs import EARLY_REPORTS, Outputs
from cyclegan.training.readings import Guard, Reading, Readings
from cyclegan.training.runs import RunFolder
from cyclegan.training.saves import BEST, LATEST, Saves
from cyclegan.training.setup import set_up
from cyclegan.training.speed import compiled_step
from cyclegan.training.state import copied, random_states, restore_random
from cyclegan.training.step import Losses
from cyclegan.training.stop import StopRequest, TimeLimit

# What is left of the learning rate each time that a run goes back, and how often it does.
SLOWER = 0.5
MOST_TIMES_BACK = 3


class GoBack(UserError):
    """The run is to go on from what was saved; where it cannot, this is why it ends."""


class Trainer:
    """One run. Everything is made and checked before the run's folder is touched."""

    def __init__(self, settings: TrainSettings) -> None:
        self.limit = TimeLimit(seconds(settings.time_limit) if settings.time_limit else None)
        # What is said before there is a console.
        self.said: list[str] = []
        self.console: Console | None = None
        self.run = run = set_up(settings, say=self._say)
        self.settings, self.world, self.state = run.settings, run.world, run.state
        self.stepper, self.schedule = run.state.stepper, run.state.schedule
        self.readings = Readings(run.device)
        fp16 = run.speed.precision == "fp16"
        self.guard = Guard(fp16=fp16, alone=self.world.size == 1, say=self._say)
        self.compiled = False
        # Within a step, the random states before it.
        self.drawn: dict[str, Any] | None = None

    def fit(self) -> int:
        """Trains to the end, or until it is stopped; gives the program's exit status."""
        folder = RunFolder(self.settings) if self.world.leads else None
        self.console = console = Console(
            total_steps=self.schedule.total_steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.state.progress.step,
            quiet=not self.world.leads,
        )
        self.saves = Saves(self.settings, step=self.state.progress.step, say=self._say)
        self._introduce(folder)
        self._decode()
        # The loader's processes are forked before any thread of ours runs.
        batches = self._batches()
        monitors = Monitors()
        if self.world.leads:
            monitors = build_monitors(self.settings, self.settings.run_dir, console)
        self.outputs = Outputs(self.run, monitors, say=self._say)
        try:
            with StopRequest() as stop:
                self._train(batches, stop)
                status = self._ended(stop)
                # Not where anything has failed: others may not be there any more to take leave.
                self.world.leave()
                return status
        except Exception as error:
            raise self._rescued(error) from error
        finally:
            monitors.close()
            if folder is not None:
                folder.release()

    def _train(self, batches: Generator[Batch], stop: StopRequest) -> None:
        """To the last step, or to the stop; with as many returns to what was saved as are due."""
        progress = self.state.progress
        if progress.step == 0:
            self.outputs.preview()
            self._save([LATEST])
        if progress.step >= self.schedule.total_steps:
            self._say(
                f"nothing is left to train: {self.schedule.total_steps} steps are done; for more, "
                "give --n_epochs, --n_epochs_decay or --steps"
            )
        while True:
            try:
                with closing(batches):
                    return self._loop(batches, stop)
            except GoBack:
                self._go_back()
                batches = self._batches(start="spawn")

    def _loop(self, batches: Iterable[Batch], stop: StopRequest) -> None:
        self.outputs.begin()
        assert self.console is not None
        for batch in self.console.track(batches, step=self.state.progress.step):
            self._learn(batch)
            self._after_step()
            over = bool(stop) or self.limit.is_near(saving=self.saves.seconds)
            if self.world.any_asked(over):
                return

    def _learn(self, batch: Batch) -> None:
        progress = self.state.progress
        self.outputs.batch_arrived(batch)
        factor = self.schedule.factor(step=progress.step, position=progress.position)
        for optimizer in (self.stepper.optimizer_G, self.stepper.optimizer_D):
            scale_learning_rate(optimizer, progress.rate * factor)
        count = self.run.positions.count(progress.position)
        whole = count == self.settings.images_per_step
        shares = None if whole else self.run.positions.shares(progress.position)
        clock = self.schedule.clock(progress.step)
        self.drawn = random_states(self.run.device)
        losses = self._step(batch.real_A, batch.real_B, clock, shares)
        self._count(count)
        self._look(self.readings.put(progress.step, losses))

    def _count(self, images: int) -> None:
        self.state.averaged.update()
        self.state.progress.step += 1
        self.state.progress.position += images
        self.drawn = None

    def _step(self, *batch: Any) -> Losses:
        if self.run.speed.compile == "off" or self.compiled:
            return self.stepper.step(*batch)
        self.compiled = True
        before = copied(self.state.capture())
        return compiled_step(
            lambda: self.stepper.step(*batch),
            undo=lambda: self.state.restore(before),
            networks=self.stepper.model.running.values(),
            say=self._say,
        )

    def _look(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            self.state.meter.update(reading.values)
            if self.guard.look(reading):
                raise GoBack("losses are not finite: lower --lr, look for flat images")

    def _after_step(self) -> None:
        progress, settings = self.state.progress, self.settings
        step = progress.step
        last = step == self.schedule.total_steps
        due = bool(self.schedule.evaluate_every) and step % self.schedule.evaluate_every == 0
        names: list[str | int] = []
        if due and not last:
            measured, is_best = self.outputs.measure()
            names += [BEST] if is_best else []
            self._report(measured)
        elif last or step % settings.print_every == 0 or step in EARLY_REPORTS:
            self._report({})
        if last or step % settings.preview_every == 0:
            self.outputs.preview()
        epoch, place = divmod(progress.position, self.run.images.epoch_length)
        if place == 0 and epoch % settings.save_epoch_every == 0:
            names += [epoch, LATEST]
        elif last or step % settings.save_every == 0:
            names.append(LATEST)
        if names:
            self._save(names)
        self.outputs.step_done()

    def _report(self, measured: dict[str, float]) -> None:
        self._look(self.readings.rest())
        self.outputs.report(measured)

    def _save(self, names: list[str | int]) -> None:
        self._look(self.readings.rest())
        if broken := broken_networks(self.stepper.model):
            where = f"{', '.join(broken)} not finite at step {self.state.progress.step}"
            self._say(f"warning: {where}")
            raise GoBack(f"{where}: lower --lr or --init_gain; what was saved before is kept")
        captured = self.state.capture()
        if self.world.leads:
            self.saves.save(self.state.progress.step, names, self.state.published(), captured)

    def _go_back(self) -> None:
        progress = self.state.progress
        if progress.times_back >= MOST_TIMES_BACK:
            raise UserError(
                f"the run went back {MOST_TIMES_BACK} times, and its losses are not finite again "
                f"at step {progress.step}: look for flat images (python -m cyclegan doctor), "
                "lower --lr, then add --continue_train"
            )
        times_back = progress.times_back + 1
        self.saves.wait()
        self.state.restore(self.world.spread(self._last_saved()))
        progress = self.state.progress
        progress.times_back, progress.rate = times_back, SLOWER**times_back
        if self.world.leads:
            checkpoint.set_aside(self.settings.run_dir, after=progress.step)
        self.readings.forget()
        self.guard.forget()
        how = f"{progress.rate:g} of the learning rate ({times_back} of at most"
        self._say(f"going back to step {progress.step} with {how} {MOST_TIMES_BACK} times)")

    def _last_saved(self) -> dict[str, Any]:
        if not self.world.leads:
            return {}
        return checkpoint.load_state(self.settings.run_dir, say=self._say)

    def _ended(self, stop: StopRequest) -> int:
        """Saves what a stop has cut short, or finishes; gives the exit status."""
        if self.state.progress.step >= self.schedule.total_steps:
            self.saves.check()
            if self.world.leads:
                self.outputs.finish()
            return 0
        self._save([LATEST])
        self.saves.check()
        command = messages.command_to_continue(self.settings, processes=self.world.size)
        why = "stopped" if stop else "out of time: stopped"
        self._say(f"{why} and saved at step {self.state.progress.step}; go on with: {command}")
        return stop.status

    def _rescued(self, error: Exception) -> Exception:
        """The error, after all that can still be saved has been."""
        if self.stepper.is_halfway:
            # A step without the discriminators' update: the generators' is not made twice.
            self._count(self.run.positions.count(self.state.progress.position))
        elif self.drawn is not None:
            restore_random(self.drawn, self.run.device)
        step = self.state.progress.step
        # To save takes all processes, of which others may still be in their step.
        if self.world.size == 1 and step > self.saves.step and is_sound(self.stepper.model):
            self.saves.save(step, [LATEST], self.state.published(), self.state.capture())
        self.saves.wait()
        if not isinstance(error, torch.OutOfMemoryError):
            return error
        return UserError(
            f"the GPU's memory was too small at step {step}, twice; saved at step "
            f"{self.saves.step}: lower --batch_size and raise --accumulate, or add "
            "--checkpoint_activations, with --continue_train"
        )

    def _say(self, line: str) -> None:
        if self.console is None:
            self.said.append(line)
        elif self.world.leads:
            self.console.say(line)

    def _decode(self) -> None:
        settings = self.settings
        if self.world.size > 1 and settings.cache == "auto":
            # One file for all, rather than each process's own memory.
            settings = settings.model_copy(update={"cache": "disk"})
        images = self.run.images
        with self.world.after_the_first():
            images.decoded = decode_once(self.run.domains, images.prepare, settings, say=self._say)

    def _batches(self, *, start: str | None = None) -> Generator[Batch]:
        return stream(
            self.run.images,
            self.run.positions.since(self.state.progress.position),
            num_threads=self.settings.num_threads,
            device=self.run.device,
            start=start,
            say=self._say,
        )

    def _introduce(self, folder: RunFolder | None) -> None:
        settings, progress, say = self.settings, self.state.progress, self._say
        for line in (*messages.introduction(self.run), *self.said):
            say(line)
        if folder is not None and folder.moved_to is not None:
            say(f"the earlier run of this name is now {folder.moved_to}")
        if not settings.continue_train:
            say(f"{settings.run_dir}: {self.schedule.total_steps} steps")
            return
        say(f"{settings.run_dir}: going on after step {progress.step}")
        for change in self.run.changes:
            say(f"  changed: {change}")
        if folder is not None:
            write_metrics(settings.run_dir, self.state.history)
            checkpoint.set_aside(settings.run_dir, after=progress.step)
