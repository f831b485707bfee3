"""The run: from settings to a trained, saved and measured pair of generators."""

import json
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from cyclegan import checkpoint
from cyclegan.data.augment import Preparation
from cyclegan.data.folders import check_domains, size_warning
from cyclegan.data.unpaired import Batch, UnpairedImages, stream
from cyclegan.errors import UserError
from cyclegan.evaluation.compare import Comparison, can_compare, compare
from cyclegan.monitor import Monitor, Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import Files, forget_after, read_metrics
from cyclegan.settings import TrainSettings, resolve_device
from cyclegan.training.messages import command_to_continue, device_line
from cyclegan.training.meter import Interval, Meter, broken_networks, not_finite
from cyclegan.training.model import build_model, check_sizes, unit
from cyclegan.training.optim import Averaged, scale_learning_rate
from cyclegan.training.previews import Previews
from cyclegan.training.rehearsal import rehearse
from cyclegan.training.runs import RunFolder
from cyclegan.training.schedule import Schedule
from cyclegan.training.state import Progress, capture, restore
from cyclegan.training.step import Stepper
from cyclegan.training.stop import StopRequest
from cyclegan.translate.translator import Translator

# Besides every --print_every steps: a slow machine shows signs of life at once.
EARLY_REPORTS = (1, 10)


class Trainer:
    """One run. Everything is made and checked before the run's folder is touched."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.device = resolve_device(settings.device)
        # Saved settings may be somebody else's; what is typed or in a preset is the user's own.
        trusted = settings.trust_imports or not settings.continue_train
        saved = checkpoint.load_state(settings.run_dir) if settings.continue_train else None

        self.domain_A, self.domain_B = check_domains(settings)
        torch.manual_seed(settings.seed)
        self.model = build_model(settings, trusted=trusted).to(self.device)
        check_sizes(self.model, settings)
        self.stepper = Stepper(self.model, settings, trusted=trusted)
        self.averaged = Averaged(self.model.generators, decay=settings.ema)
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
        self.progress = Progress()
        if saved is not None:
            restore(saved, self.progress, self.stepper, self.averaged, self.schedule)
        rehearse(self.stepper, settings)
        self.previews = Previews(settings, self.domain_A.files, self.domain_B.files, prepare)
        self.meter = Meter()
        self.saved_step = self.progress.step
        self.broken: set[str] = set()

    def fit(self) -> int:
        """Trains to the end, or to Ctrl-C; gives the program's exit status."""
        self.folder = RunFolder(self.settings)
        self.console = Console(
            total_steps=self.schedule.total_steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.progress.step,
        )
        self._introduce()
        # The loader's processes are forked before any thread of ours runs.
        batches = self._batches()
        self.monitors = Monitors([self.console, *self._monitors()])
        try:
            with StopRequest() as stop:
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
        real_A = batch.real_A.to(self.device, non_blocking=True)
        real_B = batch.real_B.to(self.device, non_blocking=True)
        clock = self.schedule.clock(self.progress.step)
        self.meter.update(self.stepper.step(real_A, real_B, clock))
        self.averaged.update()
        self.progress.step += 1
        self.progress.position += len(real_A)

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
        rate = self.stepper.optimizer_G.param_groups[0]["lr"]
        values = self.meter.read()
        self._refuse_nonsense(not_finite(values))
        speed = self.interval.read(self.progress.position)
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
        try:
            if epoch == "latest":
                state = capture(self.progress, self.stepper, self.averaged, self.schedule)
                checkpoint.save_state(self.folder.path, state)
                self.saved_step = self.progress.step
            checkpoint.save_weights(self.folder.path, epoch, self._published())
        except OSError as error:
            self._cannot_save(error)

    def _cannot_save(self, error: OSError) -> None:
        problem = (
            f"step {self.progress.step} could not be saved ({error.strerror or error}); "
            f"what was saved at step {self.saved_step} is whole: free space on the disk"
        )
        if self.progress.step >= self.schedule.total_steps:
            raise UserError(f"{problem}, then add --continue_train") from None
        self.console.say(f"warning: {problem}; training goes on and will try again")

    def _refuse_nonsense(self, names: list[str]) -> None:
        if names:
            step, remedy = self.progress.step, "lower --lr, look for flat images in the data"
            raise UserError(
                f"{', '.join(names)}: not a finite number at or before step {step}; "
                + (
                    f"the checkpoint of step {self.saved_step} is kept: {remedy}, then add "
                    "--continue_train"
                    if self.saved_step
                    else f"nothing was saved yet: {remedy} and at weights and --init_gain, then "
                    "begin again"
                )
            )

    def _name_broken(self, path: str, why: str) -> None:
        if path not in self.broken:
            self.broken.add(path)
            self.console.say(f"warning: skipped {path} ({why})")

    def _batches(self) -> Iterator[Batch]:
        return stream(
            self.images,
            batch_size=self.settings.batch_size,
            start=self.progress.position,
            num_threads=self.settings.num_threads,
            pin_memory=self.device.type == "cuda",
        )

    def _introduce(self) -> None:
        say = self.console.say
        for name, domain in (("A", self.domain_A), ("B", self.domain_B)):
            say(domain.describe(name))
            for complaint in domain.complaints():
                say(f"  warning: {complaint}")
        if warning := size_warning(self.domain_A, self.domain_B, scale=self.settings.scale):
            say(f"warning: {warning}")
        if self.schedule.evaluate_every and not can_compare(self.settings):
            say("warning: without testA and testB nothing is measured, whatever --evaluate_every")
        say(device_line(self.device, self.settings))
        if self.folder.moved_to is not None:
            say(f"the earlier run of this name is now {self.folder.moved_to}")
        if self.settings.continue_train:
            say(f"{self.folder.path}: going on after step {self.progress.step}")
            forget_after(self.folder.path, self.progress.step)
        else:
            say(f"{self.folder.path}: {self.schedule.total_steps} steps")

    def _monitors(self) -> Iterator[Monitor]:
        settings, say = self.settings, self.console.say
        yield Files(
            self.folder.path,
            title=f"{settings.name} ({settings.preset})",
            steps_per_epoch=self.schedule.steps_per_epoch,
            say=say,
        )
        if settings.monitor == "visdom" and settings.display_id:
            # Imported here: a run without the page needs no Visdom.
            from cyclegan.monitor.visdom import VisdomMonitor

            yield VisdomMonitor(
                env=str(settings.name),
                server=settings.display_server,
                port=settings.display_port,
                env_dir=self.folder.path / "visdom",
                history=read_metrics(self.folder.path),
                say=say,
            )

    def _stopped(self, signal: int) -> int:
        """Saves, says how to go on, and gives the exit status that shells expect of a signal."""
        self._save("latest")
        if self.saved_step == self.progress.step:
            command = command_to_continue(self.settings)
            self.console.say(f"stopped and saved at step {self.saved_step}; go on with: {command}")
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
        say(f"done: weights, previews and curves are in {path} (open {path / 'index.html'})")
        say(f"translate with: python test.py --name {self.settings.name} --input FOLDER")
        return 0
