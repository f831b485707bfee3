"""Optimizers, and the exponential moving average of the generators."""

import copy
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config import parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan

OPTIMIZERS = {
    "adam": "torch.optim.Adam",
    "adamw": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD",
    "rmsprop": "torch.optim.RMSprop",
    "adagrad": "torch.optim.Adagrad",
}

# These keep their step count on the device, so that a CUDA graph can advance it, and check on the
# device whether to update.
CAPTURABLE = ("adam", "adamw")


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    term: Term,
    *,
    lr: float,
    beta1: float,
    plan: ExecutionPlan = EAGER_FP32,
) -> torch.optim.Optimizer:
    """The optimizer that a term names. Its parameter group keeps the first learning rate, which
    the schedule multiplies, as `first_lr`.
    """
    for option in ("lr", "params"):
        if option in term.options:
            raise UserError(
                f"--{term.option}: {term.name} takes no {option} here: give --lr, or --lr_D"
            )
    # torch allows a group without parameters, but no empty list of groups: a fixed network needs
    # no special case.
    groups: list[dict[str, Any]] = [{"params": list(parameters), "first_lr": lr}]
    optimizer = parts.build(
        term,
        OPTIMIZERS,
        params=groups,
        betas=(beta1, 0.999),
        **_implementation(term, lr, groups[0]["params"], plan),
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        known = ", ".join(OPTIMIZERS)
        raise UserError(f"--{term.option}: {term.name} is no optimizer; known: {known}")
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"--{term.option}: {term.name} needs a closure, which is not offered")
    return optimizer


def scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        rate = factor * group["first_lr"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _implementation(
    term: Term, lr: float, parameters: list[nn.Parameter], plan: ExecutionPlan
) -> dict[str, Any]:
    """Options that change how an optimizer computes, not what it computes."""
    options: dict[str, Any] = {"lr": lr}
    # fused and foreach exclude each other.
    if plan.fused_optimizer and "foreach" not in term.options:
        options["fused"] = True
    if plan.cuda_graphs:
        # A CUDA graph would record a number as a constant, and ignore the schedule.
        device = parameters[0].device if parameters else None
        options["lr"] = torch.tensor(lr, device=device)
        options["capturable"] = True
    return options


class MovingAverage:
    """An exponential moving average of networks, for previews and translation (Karras et al.,
    2018). The decay of update t is min(decay, (1 + t) / (10 + t)), so that the random initial
    weights are soon forgotten. Decay 0 keeps no copy: `networks` are then the source itself.
    """

    def __init__(self, networks: nn.ModuleDict, *, decay: float) -> None:
        self.source = networks
        self.decay = decay
        self.updates = 0
        self.networks = networks
        if decay:
            self.networks = copy.deepcopy(networks).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        means: list[Tensor] = list(self.networks.parameters())
        values: list[Tensor] = list(self.source.parameters())
        torch._foreach_lerp_(means, values, 1 - decay)
        buffers = zip(self.networks.buffers(), self.source.buffers(), strict=True)
        for kept, current in buffers:
            kept.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        weights = self.networks.state_dict() if self.decay else {}
        return {"updates": self.updates, "networks": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self.decay:
            return
        # A run that turns averaging on only now starts from its present weights.
        self.networks.load_state_dict(state["networks"] or self.source.state_dict())
        self.updates = int(state["updates"])
