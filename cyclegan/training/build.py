"""A run made ready: every part built, checked and, of a run that goes on, as it was left."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cyclegan.config.command_line import run_settings
from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import Domain, check_domains
from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.sampler import Positions
from cyclegan.data.loading.transforms import Preparation
from cyclegan.evaluation.compare import can_compare
from cyclegan.hardware.devices import resolve_device
from cyclegan.hardware.distributed import World
from cyclegan.monitor.selection import check_monitors
from cyclegan.networks.execution import Speed
from cyclegan.runs import atomic_files, checkpoints
from cyclegan.training import resume
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.model import build_model, check_sizes, unit
from cyclegan.training.algorithm.optimizers import Averaged
from cyclegan.training.resources.custom_parts import rehearse
from cyclegan.training.resources.execution_plan import plan, prepare_torch
from cyclegan.training.resources.trial_step import check_memory, largest_images, with_batch_size
from cyclegan.training.state import Progress, RunState
from cyclegan.training.statistics.fixed_samples import Probe
from cyclegan.training.statistics.hard_examples import Lessons
from cyclegan.training.step import Stepper

Say = Callable[[str], object]
Preparations = tuple[Preparation, Preparation]


@dataclass
class Run:
    """What the loop works with."""

    settings: TrainSettings
    world: World
    device: torch.device
    domains: tuple[Domain, Domain]
    images: UnpairedImages
    positions: Positions
    speed: Speed
    state: RunState
    probe: Probe
    # Of the settings, those that a run goes on with another value of.
    changes: list[str]


def set_up(settings: TrainSettings, *, say: Say) -> Run:
    """Raises UserError for whatever cannot work, before anything is written."""
    world = World.around()
    device = resolve_device(settings.device, index=world.local_rank)
    world.join(device)
    settings = _restarted(settings, world)
    check_monitors(settings)
    changes, saved = _saved(settings, world, say)

    domains = check_domains(settings)
    sizes = largest_images(settings, domains, _preparations(settings))
    most = max(len(domain.files) for domain in domains)
    common: dict[str, Any] = {"world": world}
    settings = with_batch_size(settings, device, sizes, most=most, **common)
    _seed(settings.seed)
    model = build_model(settings).to(device)
    check_sizes(model, settings)
    prepare = _preparations(settings, unit(model, settings))
    files = domains[0].files, domains[1].files
    images = UnpairedImages(*files, prepare, seed=settings.seed, serial=settings.serial_batches)
    schedule = Schedule(settings, epoch_length=images.epoch_length)
    if schedule.wants_measurements and not can_compare(settings):
        raise UserError("--schedule goes by measurements: it needs images in testA and testB")
    speed = plan(settings, device, total_steps=schedule.total_steps, alone=world.size == 1)
    prepare_torch(settings, speed)
    check_memory(settings, device, sizes, **common)
    stepper = Stepper(model, settings, speed=speed, say=say, **common)
    averaged = Averaged(model.generators, decay=settings.ema)
    state = RunState(stepper, averaged, schedule, lessons=Lessons(files), world=world)
    if saved is not None:
        state.restore(saved)
        _begin_anew(state.progress, changes)
        if state.progress.step > schedule.total_steps:
            raise UserError(
                f"{state.progress.step} steps are done, more than the {schedule.total_steps} that "
                "--steps, or --n_epochs and --n_epochs_decay, now give: raise them, or leave them "
                "out"
            )
    rehearse(stepper, settings)
    positions = Positions(
        images.epoch_length,
        images_per_step=settings.images_per_step,
        batch_size=settings.images_per_step // settings.accumulate,
        rank=world.rank,
        world=world.size,
    )
    probe = Probe(settings, *files, prepare)
    return Run(settings, world, device, domains, images, positions, speed, state, probe, changes)


def _preparations(settings: TrainSettings, sides: int = 4) -> Preparations:
    way_A, way_B = (Preparation.of(settings, domain, unit=sides) for domain in "AB")
    return way_A, way_B


def _restarted(settings: TrainSettings, world: World) -> TrainSettings:
    """Where a process has failed, torchrun begins anew with the words of the first time."""
    if not world.restarts or not world.spread(bool(atomic_files.find_states(settings.run_dir))):
        return settings
    return settings.model_copy(update={"continue_train": True})


def _saved(
    settings: TrainSettings, world: World, say: Say
) -> tuple[list[str], dict[str, Any] | None]:
    """What has changed since, and the saved state, where the run goes on."""
    if not settings.continue_train:
        return [], None
    # One looks, for all: what it finds may be on a disk of its own.
    changed = world.leads and resume.changes(run_settings(settings.run_dir), settings)
    state = checkpoints.load_state(settings.run_dir, say=say) if world.leads else {}
    return world.spread(changed or []), world.spread(state)


def _seed(seed: int) -> None:
    """Parts of the user's own may draw from any of these."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _begin_anew(progress: Progress, changes: list[str]) -> None:
    """A learning rate that the user has chosen anew is meant as it is."""
    if any(change.startswith("lr ") for change in changes):
        progress.rate, progress.times_back = 1.0, 0
