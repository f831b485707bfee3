"""Whether a recorded step may be trusted: after a return to a saved state, and where it cannot be
recorded at all.
"""

import dataclasses
from typing import Any

import torch
from gpu_variants import Figures, Options, make_settings, random_images
from torch import Tensor

from cyclegan.config.logs import log_to
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses.weighted import Clock
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.runs.checkpoints import copy_to_cpu
from cyclegan.training.algorithm.optimizers import MovingAverage
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.resources.cuda_graphs import GraphedCallable
from cyclegan.training.state import RunState
from cyclegan.training.statistics.hard_examples import HardExamples

STEPS, SAVED_AT, BACK_AT = 16, 6, 10
STEPS_UNRECORDED = 40

Losses = list[dict[str, float]]


def trust(options: Options) -> Figures:
    """In float64, a recorded run that goes back must go on as one that was never recorded. On a
    CPU nothing is recorded: there two runs must be the same.
    """
    options = dataclasses.replace(options, size=32, batch=2, width=8)
    plain, plain_steps = train_and_go_back(options, graph=False)
    recorded, recorded_steps = train_and_go_back(options, graph=options.on_cuda)
    figures = {
        "size": options.size,
        "batch": options.batch,
        "relative_difference_by_step": largest_differences(plain, recorded),
        "adam_steps_plain": plain_steps,
        "adam_steps_recorded": recorded_steps,
    }
    if options.on_cuda:
        figures["after_a_failed_recording"] = train_unrecorded(options)
    return figures


def train_and_go_back(options: Options, *, graph: bool) -> tuple[Losses, float]:
    """The losses of each step of a run that returns to an earlier state on its way, and the steps
    that Adam has counted at its end.
    """
    torch.manual_seed(0)
    settings = _small_settings(options)
    builder = StepBuilder(settings)
    model = builder.model().to(options.device, torch.float64)
    training_step = builder.step(model, plan=ExecutionPlan(fused_optimizer=True, cuda_graphs=graph))
    average = MovingAverage(model.generators, decay=0.0)
    schedule = builder.schedule(epoch_length=100)
    state = RunState(training_step, average, schedule, HardExamples(([], [])))
    generator = torch.Generator().manual_seed(1)
    shape = (2, options.batch, 3, options.size, options.size)
    saved: dict[str, Any] = {}
    in_the_way: list[Tensor] = []
    losses = []
    for step in range(STEPS):
        if step == SAVED_AT:
            saved = copy_to_cpu(state.capture())
        if step == BACK_AT:
            state.restore(saved)
            in_the_way += _take_freed_memory(options.device)
        images = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        real_A, real_B = images.to(options.device)
        values = training_step(real_A, real_B, Clock(step, step / STEPS))
        losses.append({name: float(value) for name, value in values.items()})
    return losses, float(next(iter(training_step.generators.optimizer.state.values()))["step"])


def largest_differences(plain: Losses, recorded: Losses) -> list[float]:
    """The largest relative difference of any loss, step by step."""
    return [
        max(abs(ours[name] - value) / (abs(value) + 1e-12) for name, value in theirs.items())
        for theirs, ours in zip(plain, recorded, strict=True)
    ]


def train_unrecorded(options: Options) -> Figures:
    """What cannot be recorded runs on as it is, and takes no more memory from step to step."""
    said: list[str] = []
    log_to(said.append)
    builder = StepBuilder(_small_settings(options))
    model = builder.model().to(options.device)
    plan = ExecutionPlan(fused_optimizer=True, cuda_graphs=True)
    training_step = builder.step(model, plan=plan)

    def minimize_and_wait(*images: Any, **named: Any) -> Any:
        outputs, losses = training_step.minimize(*images, **named)
        # No graph can be captured of a host that waits for a number.
        next(iter(losses.values())).item()
        return outputs, losses

    training_step.minimize_full = GraphedCallable(minimize_and_wait)
    reserved = []
    for step in range(STEPS_UNRECORDED):
        training_step(*random_images(options), Clock(step, 0))
        torch.cuda.synchronize()
        reserved.append(round(torch.cuda.memory_reserved() / 1e6))
    return {"said": said, "reserved_mb": reserved[::8]}


def _small_settings(options: Options) -> TrainSettings:
    return make_settings(
        options, generator="resnet(blocks=2)", discriminator="patch(layers=2)", pool_size=0
    )


def _take_freed_memory(device: torch.device) -> list[Tensor]:
    """Tensors of sevens where freed ones have been: whatever still reads there shows it."""
    return [torch.full((1 << 18,), 7.0, device=device) for _ in range(64)]
