"""The run: from settings to a trained, saved and measured pair of generators."""

import copy
import json
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import torch
from torch import nn

from cyclegan import checkpoint
from cyclegan.data.augment import Preparation
from cyclegan.data.decoded import decode_once
from cyclegan.data.folders import check_domains
from cyclegan.data.stream import Batch, stream
from cyclegan.data.unpaired import UnpairedImages
from cyclegan.errors import UserError
from cyclegan.evaluation.compare import Comparison, can_compare, compare
from cyclegan.hardware import resolve_device
from cyclegan.monitor.build import build_monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import forget_after
from cyclegan.settings import TrainSettings
from cyclegan.training import messages
from cyclegan.training.batch_size import with_batch_size
from cyclegan.training.meter import Interval, Meter, broken_networks, not_finite
from cyclegan.training.model import build_model, check_sizes, unit
from cyclegan.training.optim import Averaged, scale_learning_rate
from cyclegan.training.previews import Previews
from cyclegan.training.rehearsal import rehearse
from cyclegan.training.runs import RunFolder
from cyclegan.training.saves import Saves
from cyclegan.training.schedule import Schedule
from cyclegan.training.speed import compiled_step, plan, prepare_torch
from cyclegan.training.state import Progress, capture, restore
from cyclegan.training.step import Losses, Stepper
from cyclegan.training.stop import StopRequest
from cyclegan.translate.translator import Translator

# Besides every --print_every steps: a slow machine shows signs of life at once.
EARLY_REPORTS = (1, 10)


class Trainer:
    """One run. Everything is made and checked before the run's folder is touched."""

    def __init__(self, settings: TrainSettings) -> None:
        self.device = resolve_device(settings.device)
        # Saved settings may be somebody else's; what is typed or in a preset is the user's own.
        trusted = settings.trust_imports or not settings.continue_train
        saved = checkpoint.load_state(settings.run_dir) if settings.continue_train else None

        self.domain_A, self.domain_B = check_domains(settings)
        most = max(len(self.domain_A.files), len(self.domain_B.files))
        settings = with_batch_size(settings, self.device, most=most, trusted=trusted)
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.model = build_model(settings, trusted=trusted).to(self.device)
        check_sizes(self.model, settings)
        sides = unit(self.model, settings)
        prepare = (
            Preparation.of(settings, "A", unit=sides),
            Preparation.of(settings, "B", unit=sides),
        )
        self.images = UnpairedImages(
            self.domain_A.files,
            self.domain_B.files,
            prepare,
            seed=settings.seed,
            serial=settings.serial_batches,
        )
        length = self.images.epoch_length
        self.schedule = Schedule(settings, epoch_length=length, trusted=trusted)
        if self.schedule.wants_measurements and not can_compare(settings):
            raise UserError("--schedule goes by measurements: it needs images in testA and testB")
        self.speed = plan(settings, self.device, total_steps=self.schedule.total_steps)
        prepare_torch(settings, self.speed)
        self.stepper = Stepper(
            self.model, settings, speed=self.speed, trusted=trusted, say=self._say
        )
        self.averaged = Averaged(self.model.generators, decay=settings.ema)
        self.progress = Progress()
        if saved is not None:
            self._restore(saved)
        rehearse(self.stepper, settings)
        self.previews = Previews(settings, self.domain_A.files, self.domain_B.files, prepare)
        self.meter = Meter()
        self.broken: set[str] = set()
        self.compiled = False
        self.data_bound: str | None = None

    def fit(self) -> int:
        """Trains to the end, or to Ctrl-C; gives the program's exit status."""
        self.folder = RunFolder(self.settings)
        self.console = Console(
            total_steps=self.schedule.total_steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.progress.step,
        )
        self.saves = Saves(
            self.folder.path,
            step=self.progress.step,
            total_steps=self.schedule.total_steps,
            say=self._say,
        )
        self._introduce()
        # The loader's processes are forked before any thread of ours runs.
        batches = self._batches()
        self.monitors = build_monitors(self.settings, self.folder.path, self.console)
        try:
            with StopRequest() as stop, closing(batches):
                self._loop(batches, stop)
                return self._stopped(stop.signal) if stop.signal else self._finished()
        finally:
            self.monitors.close()
            self.folder.release()

    def _loop(self, batches: Iterable[Batch], stop: StopRequest) -> None:
        if self.progress.step == 0:
            self._preview()
        if self.progress.step >= self.schedule.total_steps:
            self.console.say(
                f"nothing is left to train: {self.schedule.total_steps} steps are done; for more, "
                "give --n_epochs, --n_epochs_decay or --steps"
            )
        self.interval = Interval(self.progress.position)
        for batch in self.console.track(batches):
            self._learn(batch)
            self._after_step()
            if stop:
                return

    def _learn(self, batch: Batch) -> None:
        self.interval.batch_arrived()
        for path, why in batch.broken.items():
            self._name_broken(str(path), why)
        factor = self.schedule.factor(step=self.progress.step, position=self.progress.position)
        scale_learning_rate(self.stepper.optimizer_G, factor)
        scale_learning_rate(self.stepper.optimizer_D, factor)
        clock = self.schedule.clock(self.progress.step)
        self.meter.update(self._step(batch.real_A, batch.real_B, clock))
        self.averaged.update()
        self.progress.step += 1
        self.progress.position += len(batch.real_A)

    def _step(self, *batch: Any) -> Losses:
        if self.speed.compile == "off" or self.compiled:
            return self.stepper.step(*batch)
        self.compiled = True
        before = copy.deepcopy(self._state())
        return compiled_step(
            lambda: self.stepper.step(*batch),
            undo=lambda: self._restore(before),
            networks=self.model.running.values(),
            say=self._say,
        )

    def _state(self) -> dict[str, Any]:
        return capture(self.progress, self.stepper, self.averaged, self.schedule)

    def _restore(self, state: dict[str, Any]) -> None:
        restore(state, self.progress, self.stepper, self.averaged, self.schedule)

    def _say(self, line: str) -> None:
        self.console.say(line)

    def _after_step(self) -> None:
        step, settings = self.progress.step, self.settings
        last = step == self.schedule.total_steps
        every = self.schedule.evaluate_every
        if every and step % every == 0 and not last:
            self._report(self._measure())
        elif last or step % settings.print_every == 0 or step in EARLY_REPORTS:
            self._report({})
        if last or step % settings.preview_every == 0:
            self._preview()
        epoch, place = divmod(self.progress.position, self.images.epoch_length)
        keep = place == 0 and epoch % settings.save_epoch_every == 0
        if keep:
            self._save(epoch)
        if keep or last or step % settings.save_every == 0:
            self._save("latest")
        self.interval.step_done()

    def _measure(self) -> dict[str, float]:
        """The figures of the test images in mid-run, which a schedule may go by."""
        if (comparison := self._compare()) is None:
            return {}
        self.schedule.observe(comparison.swd_fake)
        return comparison.scalars()

    def _report(self, measured: dict[str, float]) -> None:
        rate = float(self.stepper.optimizer_G.param_groups[0]["lr"])
        values = self.meter.read()
        self._refuse_nonsense(not_finite(values))
        speed = self.interval.read(self.progress.position)
        if self.progress.step not in EARLY_REPORTS and not self.data_bound:
            self.data_bound = messages.data_bound_line(
                speed["data_share"], decoded=self.images.decoded is not None
            )
            if self.data_bound:
                self._say(self.data_bound)
        self.interval = Interval(self.progress.position)
        self.monitors.scalars(self.progress.step, {**values, **measured, "lr": rate, **speed})

    def _preview(self) -> None:
        G_AB, G_BA = self._translator("G_AB"), self._translator("G_BA")
        self.monitors.preview(self.progress.step, self.previews.draw(G_AB, G_BA))

    def _translator(self, name: str) -> Translator:
        return Translator(self._published()[name], device=self.device)

    def _published(self) -> dict[str, nn.Module]:
        """The networks as others get them: the generators averaged, where that is on."""
        return {**dict(self.averaged.networks.items()), **dict(self.model.discriminators.items())}

    def _save(self, epoch: int | str) -> None:
        self._refuse_nonsense(not_finite(self.meter.peek()) or broken_networks(self.model))
        self.saves.save(self.progress.step, epoch, self._published(), self._state)

    def _refuse_nonsense(self, names: list[str]) -> None:
        if names:
            step, remedy = self.progress.step, "lower --lr, look for flat images in the data"
            raise UserError(
                f"{', '.join(names)}: not a finite number at or before step {step}; "
                + (
                    f"the checkpoint of step {self.saves.step} is kept: {remedy}, then add "
                    "--continue_train"
                    if self.saves.step
                    else f"nothing was saved yet: {remedy} and at weights and --init_gain, then "
                    "begin again"
                )
            )

    def _name_broken(self, path: str, why: str) -> None:
        if path not in self.broken:
            self.broken.add(path)
            self.console.say(f"warning: skipped {path} ({why})")

    def _batches(self) -> Generator[Batch]:
        images, domains = self.images, (self.domain_A, self.domain_B)
        images.decoded = decode_once(domains, images.prepare, self.settings, say=self.console.say)
        return stream(
            images,
            batch_size=self.settings.images_per_step,
            start=self.progress.position,
            num_threads=self.settings.num_threads,
            device=self.device,
        )

    def _introduce(self) -> None:
        say, measured_every = self.console.say, self.schedule.evaluate_every
        for line in messages.introduction(
            self.settings, self.domain_A, self.domain_B, self.device, evaluate_every=measured_every
        ):
            say(line)
        say(messages.device_line(self.device, self.settings, self.speed))
        if self.folder.moved_to is not None:
            say(f"the earlier run of this name is now {self.folder.moved_to}")
        if self.settings.continue_train:
            say(f"{self.folder.path}: going on after step {self.progress.step}")
            forget_after(self.folder.path, self.progress.step)
        else:
            say(f"{self.folder.path}: {self.schedule.total_steps} steps")

    def _stopped(self, signal: int) -> int:
        """Saves, says how to go on, and gives the exit status that shells expect of a signal."""
        self._save("latest")
        if self.saves.step == self.progress.step:
            command = messages.command_to_continue(self.settings)
            self.console.say(f"stopped and saved at step {self.saves.step}; go on with: {command}")
        return 128 + signal

    def _compare(self) -> Comparison | None:
        return compare(self.settings, self._translator("G_AB"))

    def _finished(self) -> int:
        """Measures the generators on the test images, where there are any."""
        say, path = self.console.say, self.folder.path
        say("measuring the translations of the test images")
        comparison = self._compare()
        if comparison is None:
            say("there is nothing to measure: no readable testA and testB")
        else:
            for line in comparison.describe():
                say(line)
            text = json.dumps({"step": self.progress.step, **comparison.as_dict()}) + "\n"
            checkpoint.write_atomically(
                path / "evaluation.json", lambda file: file.write(text.encode())
            )
        say(messages.memory_line(self.device))
        say(f"done: weights, previews and curves are in {path} (open {path / 'index.html'})")
        say(f"translate with: {messages.command_to_translate(self.settings)}")
        return 0
