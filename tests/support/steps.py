"""A training step with networks small enough for a test."""

import torch

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.algorithm.model import build_model, check_sizes
from cyclegan.training.step import Stepper

TINY = {"generator": "edsr(blocks=1)", "discriminator": "patch(layers=1)", "ngf": 4, "ndf": 4}


def stepper(**options) -> Stepper:
    settings = check(TrainSettings, {**TINY, **options})
    torch.manual_seed(0)
    model = build_model(settings)
    check_sizes(model, settings)
    return Stepper(model, settings)
