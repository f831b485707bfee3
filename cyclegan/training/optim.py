"""Optimizers, and how the learning rate falls."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cyclegan.settings import TrainSettings


def linear_factor(tick: int, *, constant: int, decay: int) -> float:
    """What the learning rate is multiplied by at tick 0, 1, ...: 1 for `constant` ticks, then a
    straight line that would reach 0 one tick after the last (CycleGAN, 2017: ticks are epochs).
    """
    return 1.0 - max(0, tick + 1 - constant) / (decay + 1)


class Schedule:
    """How long a run is, and what its learning rates are multiplied by at each step.

    Ticks are epochs, or steps where --steps gives the length: then the rate is constant in the
    first half and falls in the second.
    """

    def __init__(self, settings: TrainSettings, *, epoch_length: int) -> None:
        self.settings = settings
        self.epoch_length = epoch_length
        self.steps_per_epoch = -(-epoch_length // settings.batch_size)
        epochs = settings.n_epochs + settings.n_epochs_decay
        self.total_steps = settings.steps or epochs * self.steps_per_epoch

    def factor(self, *, step: int, position: int) -> float:
        """For the step that is taken after `step` steps and `position` samples."""
        settings = self.settings
        if settings.steps is None:
            tick, constant, decay = (
                position // self.epoch_length,
                settings.n_epochs,
                settings.n_epochs_decay,
            )
        else:
            constant = settings.steps // 2
            tick, decay = step, settings.steps - constant
        return linear_factor(tick, constant=constant, decay=decay)


def adam(parameters: Iterable[nn.Parameter], *, lr: float, beta1: float) -> torch.optim.Adam:
    # The group remembers its first rate, which the schedule multiplies.
    group = {"params": list(parameters), "first_lr": lr}
    return torch.optim.Adam([group], lr=lr, betas=(beta1, 0.999))


def scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = factor * group["first_lr"]


class Averaged:
    """An exponential moving average of networks, for previews and translation (Karras et al.,
    2018). It warms up: the decay at update t is min(decay, (1 + t) / (10 + t)), so that the random
    initial weights are soon forgotten. Decay 0 keeps no copy and is the network itself.
    """

    def __init__(self, networks: nn.ModuleDict, *, decay: float) -> None:
        self.source = networks
        self.decay = decay
        self.updates = 0
        self.networks = _frozen_copy(networks) if decay else networks

    @torch.no_grad()
    def update(self) -> None:
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        pairs = zip(self.networks.parameters(), self.source.parameters(), strict=True)
        for mean, value in pairs:
            mean.lerp_(value, 1 - decay)
        buffers = zip(self.networks.buffers(), self.source.buffers(), strict=True)
        for kept, current in buffers:
            kept.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        weights = self.networks.state_dict() if self.decay else {}
        return {"updates": self.updates, "networks": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self.decay:
            return
        # A run that begins to average only now begins from its present weights.
        self.networks.load_state_dict(state["networks"] or self.source.state_dict())
        self.updates = int(state["updates"])


def _frozen_copy(networks: nn.ModuleDict) -> nn.ModuleDict:
    return copy.deepcopy(networks).requires_grad_(False).eval()
