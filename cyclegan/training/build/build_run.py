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
from cyclegan.config.train_options import LOCAL_OPTIONS, TrainSettings
from cyclegan.config.value_types import seconds
from cyclegan.config.yaml_files import run_settings, to_yaml
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.files.sources import DataSources
from cyclegan.data.loading.cache import with_cache
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.sampler import StepBatchSampler
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
from cyclegan.training.build.build_plan import (
    Domains,
    build_plan,
    build_transforms,
    check_run_memory,
    check_run_parts,
    with_batch_size,
)
from cyclegan.training.build.build_step import (
    build_model,
    build_schedule,
    build_step,
    check_image_sizes,
    has_fixed_size,
)
from cyclegan.training.build.continued import changed_options
from cyclegan.training.intervals import Intervals
from cyclegan.training.resources.execution_plan import configure_torch
from cyclegan.training.run import Run
from cyclegan.training.state import RunState
from cyclegan.training.statistics.fixed_samples import FixedSamples
from cyclegan.training.statistics.hard_examples import HardExamples

# The options that tell about the machine rather than the networks: shared weights leave them out.
_LOCAL = {*Settings.model_fields, "dir_A", "dir_B", "config", "cache_dir", "display_server"}


def build_run(settings: TrainSettings) -> Run:
    """Builds and checks every part. Raises UserError for whatever cannot work; writes nothing."""
    said: list[str] = []
    log_to(said.append)
    group = ProcessGroup.from_env()
    device = resolve_device(settings.device, index=group.local_rank)
    group.join(device)
    settings = _continued_after_restart(settings, group)
    check_monitors(_shown_monitors(settings), page_host=settings.display_host)
    changes, saved = _saved_run(settings, group)
    sources = DataSources(**settings.data_options)
    domains = check_domains(sources)
    settings = with_batch_size(settings, domains, device, group)
    _seed(settings.seed)
    model = build_model(settings).to(device)
    check_image_sizes(model, settings)
    transforms = build_transforms(settings, size_multiple(model, scale=settings.scale))
    files = domains[0].files, domains[1].files
    dataset = UnpairedImages(files, transforms, settings.seed, serial=settings.serial_batches)
    schedule = build_schedule(settings, epoch_length=dataset.epoch_length)
    if schedule.wants_measurements and not can_compare(sources):
        raise UserError("--schedule goes by measurements: it needs images in testA and testB")
    plan = build_plan(settings, device, total_steps=schedule.total_steps, group=group)
    fixed_size = has_fixed_size(settings)
    configure_torch(plan, deterministic=settings.deterministic, fixed_size=fixed_size)
    check_run_memory(settings, domains, device, group)
    step = build_step(model, settings, plan=plan, process_group=group)
    average = MovingAverage(model.generators, decay=settings.ema)
    state = RunState(step, average, schedule, HardExamples(files), process_group=group)
    if saved is not None:
        _restore(state, saved, changes)
    check_run_parts(step, settings)
    samples_A = _test_files(sources, "A") or files[0]
    samples_B = _test_files(sources, "B") or files[1]
    return Run(
        run_dir=settings.run_dir,
        device=device,
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
        fixed_samples=FixedSamples(
            samples_A, samples_B, transforms, count=settings.num_previews, scale=settings.scale
        ),
        intervals=_intervals(settings, schedule),
        said=said,
        changes=changes,
        **_introduction(settings, domains, device, plan, schedule, can_compare(sources), group),
        **_options(settings, group),
        writer=CheckpointWriter(
            settings.run_dir,
            step=state.progress.step,
            keep=settings.keep,
            metadata={"settings": json.dumps(settings.model_dump(mode="json", exclude=_LOCAL))},
        ),
        open_folder=partial(_open_folder, settings),
        open_monitors=partial(_open_monitors, settings, state.progress.step),
        open_cache=partial(_open_cache, settings, domains, dataset, group),
        compare=partial(compare, sources),
    )


def _continued_after_restart(settings: TrainSettings, group: ProcessGroup) -> TrainSettings:
    """After a failure torchrun repeats the first command line: the run continues if it has saved
    a state.
    """
    if not group.restarts or not group.broadcast(bool(find_states(settings.run_dir))):
        return settings
    return settings.model_copy(update={"continue_train": True})


def _saved_run(
    settings: TrainSettings, group: ProcessGroup
) -> tuple[list[str], dict[str, Any] | None]:
    """The options that have changed, and the saved state; nothing for a new run."""
    if not settings.continue_train:
        return [], None
    # Only the main process reads: its disk may not be the others'.
    changes: list[str] = []
    state: dict[str, Any] = {}
    if group.is_main:
        changes = changed_options(run_settings(settings.run_dir), settings)
        state = checkpoints.load_state(settings.run_dir)
    return group.broadcast(changes), group.broadcast(state)


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


def _test_files(sources: DataSources, domain: str) -> Sequence[ImageFile]:
    source = sources.find("test", domain)
    return sources.scan(source).files if source else []


def _intervals(settings: TrainSettings, schedule: Schedule) -> Intervals:
    return Intervals(
        total_steps=schedule.total_steps,
        epoch_length=schedule.epoch_length,
        print_every=settings.print_every,
        preview_every=settings.preview_every,
        evaluate_every=schedule.evaluate_every,
        histograms_every=settings.histograms_every,
        save_every=settings.save_every,
        save_epoch_every=settings.save_epoch_every,
        previews=not settings.unmonitored,
    )


def _introduction(
    settings: TrainSettings,
    domains: Domains,
    device: torch.device,
    plan: ExecutionPlan,
    schedule: Schedule,
    comparable: bool,
    group: ProcessGroup,
) -> dict[str, Any]:
    large = settings.crop_size >= messages.LARGE_CROP or "crop" not in settings.preprocess
    warnings = messages.option_warnings(
        device,
        images_per_step=settings.images_per_step,
        epoch_length=schedule.epoch_length,
        precision=settings.precision,
        evaluate_every=schedule.evaluate_every,
        can_compare=comparable,
    )
    return {
        "data_lines": [*messages.data_lines(*domains, scale=settings.scale), *warnings],
        "device_line": messages.device_line(device, plan, processes=group.size, large_images=large),
    }


def _options(settings: TrainSettings, group: ProcessGroup) -> dict[str, Any]:
    """The options that the trainer reads, and the commands that come after it."""
    words = _run_words(settings, "--continue_train")
    names = "dry_run", "quiet", "num_threads"
    return {
        **{name: getattr(settings, name) for name in names},
        "continues": settings.continue_train,
        "time_limit": seconds(settings.time_limit) if settings.time_limit else None,
        "continue_command": messages.continue_command(
            [*words, *_local_words(settings)], processes=group.size
        ),
        "translate_command": messages.translate_command(_run_words(settings)),
    }


def _run_words(settings: TrainSettings, *flags: str) -> list[str]:
    """The options by which train.py and test.py find the run."""
    words = ["--name", str(settings.name), *flags]
    if settings.checkpoints_dir != TrainSettings.model_fields["checkpoints_dir"].default:
        words += ["--checkpoints_dir", str(settings.checkpoints_dir)]
    return [*words, *(["--trust_imports"] if settings.trust_imports else [])]


def _local_words(settings: TrainSettings) -> list[str]:
    """The options that are never taken from a saved run."""
    values = {name: getattr(settings, name) for name in LOCAL_OPTIONS}
    chosen = {n: v for n, v in values.items() if v != TrainSettings.model_fields[n].default}
    return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]


def _open_folder(settings: TrainSettings) -> RunFolder:
    # --continue_train and --trust_imports hold for one start only.
    saved = settings.model_copy(update={"continue_train": False, "trust_imports": False})
    continues = settings.continue_train
    return RunFolder(settings.run_dir, settings_yaml=to_yaml(saved), continues=continues)


def _open_monitors(settings: TrainSettings, first_step: int, console: Console) -> Monitors:
    run_dir = settings.run_dir
    title = f"{settings.name} ({settings.preset})"
    files = FileMonitor(run_dir, title=title, steps_per_epoch=console.steps_per_epoch)
    # A monitor of the user's own gets those that its constructor names.
    offered = {"run_dir": run_dir, "settings": settings, "first_step": first_step}
    page = {
        "env": str(settings.name),
        "env_dir": run_dir / "visdom",
        "run_dir": run_dir,
        "server": settings.display_server,
        "port": settings.display_port,
        "host": settings.display_host,
        "history": read_points(run_dir),
        "control": partial(send_request, run_dir),
        "expected": ("swd", "psnr") if settings.evaluate_every else (),
    }
    return build_monitors(
        _shown_monitors(settings),
        [console, files],
        page_options=page,
        offered={**offered, "say": console.print},
    )


def _shown_monitors(settings: TrainSettings) -> list[Term]:
    return [each for each in settings.monitor if each.name != "visdom" or settings.display_id]


def _open_cache(
    settings: TrainSettings,
    domains: Domains,
    dataset: UnpairedImages,
    group: ProcessGroup,
) -> UnpairedImages:
    # Several ranks share one file rather than keeping a copy each in memory.
    cache = "disk" if group.size > 1 and settings.cache == "auto" else settings.cache
    with group.main_process_first():
        return with_cache(dataset, domains, cache=cache, cache_dir=settings.cache_dir)
