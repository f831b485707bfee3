"""Training steps with networks small enough for a test."""

from typing import Any

import torch

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.model import CycleGAN
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.step import TrainingStep

TINY = {"generator": "edsr(blocks=1)", "discriminator": "patch(layers=1)", "ngf": 4, "ndf": 4}


def build_model(settings: TrainSettings) -> CycleGAN:
    return StepBuilder(settings).model()


def build_step(model: CycleGAN, settings: TrainSettings, **options: Any) -> TrainingStep:
    return StepBuilder(settings).step(model, **options)


def build_schedule(settings: TrainSettings, *, epoch_length: int) -> Schedule:
    return StepBuilder(settings).schedule(epoch_length=epoch_length)


def stepper(**options: Any) -> TrainingStep:
    settings = check(TrainSettings, {**TINY, **options})
    torch.manual_seed(0)
    model = build_model(settings)
    StepBuilder(settings).check_sizes(model)
    return build_step(model, settings)
