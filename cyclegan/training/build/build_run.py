"""Builds and checks every part of a run."""

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.config.logs import log_to
from cyclegan.config.options import Settings
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.value_types import seconds
from cyclegan.config.yaml_files import run_settings, to_yaml
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.files.sources import DataSources
from cyclegan.data.loading.cache import with_cache
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.sampler import StepBatchSampler
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.evaluation.compare import can_compare, compare
from cyclegan.hardware.devices import resolve_device
from cyclegan.hardware.distributed import ProcessGroup
from cyclegan.monitor import Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import FileMonitor
from cyclegan.monitor.selection import build_monitors, check_monitors
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.runs import checkpoints
from cyclegan.runs.checkpoints import CheckpointWriter
from cyclegan.runs.control_files import send_request
from cyclegan.runs.folder import RunFolder, find_states
from cyclegan.runs.metrics_log import read_points
from cyclegan.training import messages
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.model import size_multiple
from cyclegan.training.algorithm.optimizers import MovingAverage
from cyclegan.training.build.build_plan import Domains, PlanBuilder
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.build.continued import (
    changed_options,
    continue_command,
    translate_command,
)
from cyclegan.training.intervals import Intervals
from cyclegan.training.resources.execution_plan import configure_torch
from cyclegan.training.run import Run
from cyclegan.training.state import RunState
from cyclegan.training.statistics.fixed_samples import FixedSamples
from cyclegan.training.statistics.hard_examples import HardExamples

# The options that tell about the machine rather than the networks: shared weights leave them out.
_LOCAL = {*Settings.model_fields, "dir_A", "dir_B", "config", "cache_dir", "display_server"}


class RunBuilder:
    """Builds and checks every part of a run from its settings."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings

    def build(self) -> Run:
        """Raises UserError for whatever cannot work; writes nothing."""
        said: list[str] = []
        log_to(said.append)
        self.group = group = ProcessGroup.from_env()
        device = resolve_device(self.settings.device, index=group.local_rank)
        group.join(device)
        self._continue_after_restart()
        check_monitors(self._shown_monitors(), page_host=self.settings.display_host)
        changes, saved = self._saved_run()
        sources = DataSources(**self.settings.data_options)
        domains = check_domains(sources)
        self.settings = PlanBuilder(self.settings).with_batch_size(domains, device, group)
        settings = self.settings
        planner, builder = PlanBuilder(settings), StepBuilder(settings)
        _seed(settings.seed)
        model = builder.model().to(device)
        builder.check_sizes(model)
        transforms = planner.transforms(size_multiple(model, scale=settings.scale))
        files = domains[0].files, domains[1].files
        dataset = UnpairedImages(files, transforms, settings.seed, serial=settings.serial_batches)
        schedule = builder.schedule(epoch_length=dataset.epoch_length)
        if schedule.wants_measurements and not can_compare(sources):
            raise UserError("--schedule goes by measurements: it needs images in testA and testB")
        plan = planner.plan(device, total_steps=schedule.total_steps, group=group)
        fixed_size = builder.has_fixed_size()
        configure_torch(plan, deterministic=settings.deterministic, fixed_size=fixed_size)
        planner.check_memory(domains, device, group)
        step = builder.step(model, plan=plan, process_group=group)
        average = MovingAverage(model.generators, decay=settings.ema)
        state = RunState(step, average, schedule, HardExamples(files), process_group=group)
        if saved is not None:
            _restore(state, saved, changes)
        planner.check_custom_parts(step)
        run = self._run(state, plan, dataset, domains)
        run.said, run.changes = said, changes
        return run

    def _run(
        self, state: RunState, plan: ExecutionPlan, dataset: UnpairedImages, domains: Domains
    ) -> Run:
        settings, group, schedule = self.settings, self.group, state.schedule
        sources = DataSources(**settings.data_options)
        metadata = {"settings": json.dumps(settings.model_dump(mode="json", exclude=_LOCAL))}
        data_lines, device_line = self._introduction(state, plan, domains)
        return Run(
            run_dir=settings.run_dir,
            device=state.device,
            process_group=group,
            plan=plan,
            dataset=dataset,
            sampler=StepBatchSampler(
                dataset.epoch_length,
                images_per_step=settings.images_per_step,
                accumulate=settings.accumulate,
                rank=group.rank,
                world_size=group.size,
            ),
            state=state,
            fixed_samples=self.fixed_samples(dataset.files, dataset.transforms),
            intervals=self._intervals(schedule),
            writer=CheckpointWriter(
                settings.run_dir,
                step=state.progress.step,
                keep=settings.keep,
                metadata=metadata,
            ),
            data_lines=data_lines,
            device_line=device_line,
            continues=settings.continue_train,
            dry_run=settings.dry_run,
            quiet=settings.quiet,
            num_threads=settings.num_threads,
            time_limit=seconds(settings.time_limit) if settings.time_limit else None,
            continue_command=continue_command(settings, processes=group.size),
            translate_command=translate_command(settings),
            open_folder=self._open_folder,
            open_monitors=partial(self._open_monitors, state.progress.step),
            open_cache=partial(self._open_cache, dataset, domains),
            compare=partial(compare, sources),
        )

    def fixed_samples(
        self,
        files: tuple[Sequence[ImageFile], Sequence[ImageFile]],
        transforms: tuple[ImageTransform, ImageTransform],
    ) -> FixedSamples:
        """Samples of the test images; of the training files if there are none."""
        sources = DataSources(**self.settings.data_options)
        found = [sources.find("test", domain) for domain in "AB"]
        files_A, files_B = (
            (sources.scan(source).files if source else []) or training
            for source, training in zip(found, files, strict=True)
        )
        count, scale = self.settings.num_previews, self.settings.scale
        return FixedSamples(files_A, files_B, transforms, count=count, scale=scale)

    def _introduction(
        self, state: RunState, plan: ExecutionPlan, domains: Domains
    ) -> tuple[list[str], str]:
        """The lines about the data, with their warnings, and the line about the device."""
        settings = self.settings
        warnings = messages.option_warnings(
            state.device,
            images_per_step=settings.images_per_step,
            epoch_length=state.schedule.epoch_length,
            precision=settings.precision,
            evaluate_every=state.schedule.evaluate_every,
            can_compare=can_compare(DataSources(**settings.data_options)),
        )
        large = settings.crop_size >= messages.LARGE_CROP or "crop" not in settings.preprocess
        processes = self.group.size
        device = messages.device_line(state.device, plan, processes=processes, large_images=large)
        return [*messages.data_lines(*domains, scale=settings.scale), *warnings], device

    def _continue_after_restart(self) -> None:
        """After a failure torchrun repeats the first command line: the run continues if it has
        saved a state.
        """
        if self.group.restarts and self.group.broadcast(bool(find_states(self.settings.run_dir))):
            self.settings = self.settings.model_copy(update={"continue_train": True})

    def _saved_run(self) -> tuple[list[str], dict[str, Any] | None]:
        """The options that have changed, and the saved state; nothing for a new run."""
        if not self.settings.continue_train:
            return [], None
        # Only the main process reads: its disk may not be the others'.
        changes: list[str] = []
        state: dict[str, Any] = {}
        if self.group.is_main:
            begun_with = run_settings(self.settings.run_dir)
            changes = changed_options(begun_with, self.settings)
            state = checkpoints.load_state(self.settings.run_dir)
        return self.group.broadcast(changes), self.group.broadcast(state)

    def _intervals(self, schedule: Schedule) -> Intervals:
        return Intervals(
            total_steps=schedule.total_steps,
            epoch_length=schedule.epoch_length,
            print_every=self.settings.print_every,
            preview_every=self.settings.preview_every,
            evaluate_every=schedule.evaluate_every,
            histograms_every=self.settings.histograms_every,
            save_every=self.settings.save_every,
            save_epoch_every=self.settings.save_epoch_every,
            previews=not self.settings.unmonitored,
        )

    def _open_folder(self) -> RunFolder:
        # --continue_train and --trust_imports hold for one start only.
        saved = self.settings.model_copy(update={"continue_train": False, "trust_imports": False})
        continues = self.settings.continue_train
        return RunFolder(self.settings.run_dir, settings_yaml=to_yaml(saved), continues=continues)

    def _open_monitors(self, first_step: int, console: Console) -> Monitors:
        run_dir = self.settings.run_dir
        files = FileMonitor(run_dir, steps_per_epoch=console.steps_per_epoch)
        # A monitor of the user's own gets those that its constructor names.
        offered = {"run_dir": run_dir, "settings": self.settings, "first_step": first_step}
        page = {
            "env": str(self.settings.name),
            "env_dir": run_dir / "visdom",
            "run_dir": run_dir,
            "server": self.settings.display_server,
            "port": self.settings.display_port,
            "host": self.settings.display_host,
            "history": read_points(run_dir),
            "control": partial(send_request, run_dir),
            "expected": ("swd", "psnr") if self.settings.evaluate_every else (),
        }
        return build_monitors(
            self._shown_monitors(),
            [console, files],
            page_options=page,
            offered={**offered, "say": console.print},
        )

    def _shown_monitors(self) -> list[Term]:
        page = self.settings.display_id > 0
        return [each for each in self.settings.monitor if each.name != "visdom" or page]

    def _open_cache(self, dataset: UnpairedImages, domains: Domains) -> UnpairedImages:
        # Several ranks share one file rather than keeping a copy each in memory.
        several = self.group.size > 1 and self.settings.cache == "auto"
        cache = "disk" if several else self.settings.cache
        with self.group.main_process_first():
            return with_cache(dataset, domains, cache=cache, cache_dir=self.settings.cache_dir)


def _restore(state: RunState, saved: Mapping[str, Any], changes: list[str]) -> None:
    state.restore(saved)
    progress, total_steps = state.progress, state.schedule.total_steps
    # A learning rate that the user has just chosen is not lowered by earlier rollbacks.
    if any(change.startswith("lr ") for change in changes):
        progress.rate, progress.times_back = 1.0, 0
    if progress.step > total_steps:
        raise UserError(
            f"{progress.step} steps are done, more than the {total_steps} that --steps, or "
            "--n_epochs and --n_epochs_decay, now give: raise them, or leave them out"
        )


def _seed(seed: int) -> None:
    """Seeds every global generator: users' own parts may draw from any of them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
