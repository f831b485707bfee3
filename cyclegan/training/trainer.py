"""The run: from settings to a trained, saved and measured pair of generators."""

import logging
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import torch

from cyclegan.config.errors import UserError, explain
from cyclegan.config.logs import log_to
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.value_types import seconds
from cyclegan.data.loading.decoded import decode_once
from cyclegan.data.loading.loader import Batch, stream
from cyclegan.monitor import Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.selection import build_monitors
from cyclegan.runs import checkpoints
from cyclegan.runs.control_files import (
    FILES,
    INTERVAL,
    Controls,
    Wish,
)
from cyclegan.runs.folder import RunFolder
from cyclegan.runs.metrics_log import write_metrics
from cyclegan.runs.record import Ending
from cyclegan.runs.saves import BEST, LATEST, Saves
from cyclegan.training import messages
from cyclegan.training.build import set_up
from cyclegan.training.intervals import Agenda, Due, asked
from cyclegan.training.learner import GoBack, Learner
from cyclegan.training.reporter import Outputs
from cyclegan.training.statistics.meter import broken_networks, is_sound
from cyclegan.training.stop import StopRequest, TimeLimit

logger = logging.getLogger(__name__)

# What is left of the learning rate each time that a run goes back, and how often it does.
SLOWER = 0.5
MOST_TIMES_BACK = 3


class Trainer:
    """One run. Everything is made and checked before the run's folder is touched."""

    def __init__(self, settings: TrainSettings) -> None:
        self.limit = TimeLimit(seconds(settings.time_limit) if settings.time_limit else None)
        # What is said before there is a console.
        self.said: list[str] = []
        log_to(self.said.append)
        self.console: Console | None = None
        self.run = run = set_up(settings, say=self._say)
        self.settings, self.world, self.state = run.settings, run.world, run.state
        self.stepper, self.schedule = run.state.stepper, run.state.schedule
        self.learner = Learner(run, say=self._say)
        self.agenda = Agenda(self.settings, self.schedule, epoch_length=run.images.epoch_length)
        self.controls = Controls(self.settings.run_dir)
        self.last_epoch = False

    def fit(self) -> int:
        """Trains to the end, or until it is stopped; gives the program's exit status. With
        --dry_run it only says what would be trained: by now everything is built and checked.
        """
        if self.settings.dry_run:
            if self.world.leads:
                lines = [*messages.dry_run(self.run), *self.said]
                sys.stdout.write("".join(f"{line}\n" for line in lines))
            return 0
        self.folder = folder = RunFolder(self.settings) if self.world.leads else None
        self.console = console = Console(
            total_steps=self.schedule.total_steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.state.progress.step,
            quiet=self.settings.quiet,
            silent=not self.world.leads,
        )
        log_to(console.say)
        self.saves = Saves(self.settings, step=self.state.progress.step, say=self._say)
        self.controls.clear()
        self._introduce(folder)
        self._decode()
        # The loader's processes are forked before any thread of ours runs.
        batches = self._batches()
        monitors = self._monitors(folder, console) if folder else Monitors()
        self.outputs = Outputs(self.run, monitors, say=self._say)
        try:
            with StopRequest() as stop:
                self._train(batches, stop)
                status = self._ended(stop)
                # Not where anything has failed: others may not be there any more to take leave.
                self.world.leave()
                return status
        except Exception as error:
            rescued = self._rescued(error)
            self._record("failed", explain(rescued))
            raise rescued from error
        finally:
            monitors.close()
            if folder is not None:
                folder.release()

    def _monitors(self, folder: RunFolder, console: Console) -> Monitors:
        step = self.state.progress.step
        try:
            return build_monitors(self.settings, console, first_step=step)
        except UserError as error:
            folder.undo(str(error))
            raise

    def _train(self, batches: Generator[Batch], stop: StopRequest) -> None:
        """To the last step, or to the stop; with as many returns to what was saved as are due."""
        progress = self.state.progress
        if progress.step == 0:
            self.outputs.first_preview()
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
            self.outputs.batch_arrived(batch)
            watched = self.agenda.looks_after(self.state.progress.step + 1)
            self.learner.learn(batch, watched=watched)
            wishes = self._wishes(stop)
            self._after_step(wishes)
            if wishes & Wish.PAUSE:
                wishes = self._pause(stop)
            self.last_epoch = self.last_epoch or bool(wishes & Wish.STOP)
            ends = self.last_epoch and self.agenda.ends_epoch(self.state.progress.position)
            if ends or wishes & Wish.STOP_NOW:
                return

    def _wishes(self, stop: StopRequest) -> Wish:
        """What is asked of the run, of whichever of its processes."""
        wishes = self.controls.wishes() if self.world.leads else Wish.NONE
        if stop or self.limit.is_near(saving=self.saves.seconds):
            wishes |= Wish.STOP_NOW
        wishes = Wish(self.world.asked(wishes))
        if wishes & Wish.STOP:
            self._say(f"stopping after this epoch, as asked at step {self.state.progress.step}")
        return wishes

    def _pause(self, stop: StopRequest) -> Wish:
        """Until nobody wants it any more, or somebody wants to stop."""
        where = self.settings.run_dir / FILES[Wish.PAUSE]
        self._say(
            f"paused at step {self.state.progress.step}: go on by the page, or delete {where}"
        )
        began, wishes, all_wishes = time.monotonic(), Wish.PAUSE, Wish.NONE
        while wishes & Wish.PAUSE and not wishes & Wish.STOP_NOW:
            time.sleep(INTERVAL)
            wishes = self._wishes(stop)
            all_wishes |= wishes
            self._do(asked(Due(), wishes))
        self._say("going on" if not wishes & Wish.STOP_NOW else "stopping in the pause")
        self.outputs.begin()
        assert self.console is not None
        self.console.skip(time.monotonic() - began)
        return all_wishes

    def _after_step(self, wishes: Wish) -> None:
        progress = self.state.progress
        self._do(asked(self.agenda.after(progress.step, progress.position), wishes))
        self.outputs.step_done()

    def _do(self, due: Due) -> None:
        if due.report:
            self.learner.catch_up()
        is_best = self.outputs.tell(due, moved=self.learner.moved)
        if names := [*([BEST] if is_best else []), *due.names]:
            self._save(names)

    def _save(self, names: list[str | int]) -> None:
        self.learner.catch_up()
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
            checkpoints.set_aside(self.settings.run_dir, after=progress.step)
        self.learner.forget()
        how = f"{progress.rate:g} of the learning rate ({times_back} of at most"
        self._say(f"going back to step {progress.step} with {how} {MOST_TIMES_BACK} times)")

    def _last_saved(self) -> dict[str, Any]:
        if not self.world.leads:
            return {}
        return checkpoints.load_state(self.settings.run_dir, say=self._say)

    def _ended(self, stop: StopRequest) -> int:
        """Saves what a stop has cut short, or finishes; gives the exit status."""
        if self.state.progress.step >= self.schedule.total_steps:
            self.saves.check()
            self._record("finished")
            if self.world.leads:
                self.outputs.finish()
            return 0
        self._save([LATEST])
        self.saves.check()
        command = messages.command_to_continue(self.settings, processes=self.world.size)
        asked_to = self.last_epoch and not stop
        why = "stopped" if stop or asked_to else "out of time: stopped"
        self._say(f"{why} and saved at step {self.state.progress.step}; go on with: {command}")
        self._record("stopped", "as asked" if asked_to else stop.why)
        return 0 if asked_to else stop.status

    def _rescued(self, error: Exception) -> Exception:
        """The error, after all that can still be saved has been."""
        self.learner.settle()
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

    def _record(self, state: Ending, why: str = "") -> None:
        if self.folder is not None:
            self.folder.end(state, step=self.state.progress.step, why=why)

    def _say(self, line: str) -> None:
        """For those that do not log yet."""
        level = logging.WARNING if line.startswith("warning: ") else logging.INFO
        logger.log(level, "%s", line.removeprefix("warning: "))

    def _remark(self, line: str) -> None:
        """What --quiet leaves out, but for warnings."""
        if not self.settings.quiet or "warning" in line:
            self._say(line)

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
        *data, device = messages.introduction(self.run)
        for line in (*data, device, *self.said):
            self._remark(line)
        if folder is not None:
            steps = {"step": progress.step, "total_steps": self.schedule.total_steps}
            folder.begin(**steps, data=data, device=device)
            if folder.moved_to is not None:
                say(f"the earlier run of this name is now {folder.moved_to}")
        if not settings.continue_train:
            self._remark(f"{settings.run_dir}: {self.schedule.total_steps} steps")
            return
        self._remark(f"{settings.run_dir}: going on after step {progress.step}")
        for change in self.run.changes:
            say(f"  changed: {change}")
        if folder is not None:
            write_metrics(settings.run_dir, self.state.history)
            checkpoints.set_aside(settings.run_dir, after=progress.step)
