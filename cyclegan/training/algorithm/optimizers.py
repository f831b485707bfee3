"""Optimizers, the rates they learn at, and averaged networks."""

import copy
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config import parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.config.train_options import TrainSettings
from cyclegan.networks.execution import PLAIN, Speed

OPTIMIZERS = {
    "adam": "torch.optim.Adam",
    "adamw": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD",
    "rmsprop": "torch.optim.RMSprop",
    "adagrad": "torch.optim.Adagrad",
}

# Those whose count of steps may be on the device, where a CUDA graph can go on counting, and which
# look there by themselves whether an update is to be made.
CAPTURABLE = ("adam", "adamw")


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    settings: TrainSettings,
    *,
    of: str,
    speed: Speed = PLAIN,
) -> torch.optim.Optimizer:
    """The optimizer of the generators ("G") or the discriminators ("D"); its group remembers its
    first rate, which the schedule multiplies.
    """
    term = settings.optimizer_D if of == "D" and settings.optimizer_D else settings.optimizer
    slot = term.option
    rate = settings.lr if of == "G" or settings.lr_D is None else settings.lr_D
    for option in ("lr", "params"):
        if option in term.options:
            raise UserError(f"--{slot}: {term.name} takes no {option} here: give --lr, or --lr_D")
    # A group without parameters is allowed, a list without groups is not: a fixed network learns
    # nothing, and need not be a special case.
    groups: list[dict[str, Any]] = [{"params": list(parameters), "first_lr": rate}]
    optimizer = parts.build(
        term,
        OPTIMIZERS,
        params=groups,
        betas=(settings.beta1, 0.999),
        **_kernels(term, rate, groups[0]["params"], speed),
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"--{slot}: {term.name} is no optimizer; known: {', '.join(OPTIMIZERS)}")
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"--{slot}: {term.name} takes several looks a step, which is not offered")
    return optimizer


def scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        rate = factor * group["first_lr"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def marked(total: Tensor) -> Tensor:
    """The same sum; the gradient of one that is not finite is NaN everywhere, in all processes."""
    return total * torch.where(total.detach().isfinite(), 1.0, math.nan)


def update(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    networks: Mapping[str, Sequence[nn.Parameter]],
    longest: float = 0.0,
) -> dict[str, Tensor]:
    """One update, unless the gradient holds NaN or infinity; of its length (L2, over all
    parameters) at most `longest` is left, where that is not 0. Gives for each network the length
    of its own part, as it was before.
    """
    scaler.unscale_(optimizer)
    gradients = {name: _gradients(parameters) for name, parameters in networks.items()}
    together = torch._foreach_norm([each for part in gradients.values() for each in part])
    lengths: dict[str, Tensor] = {}
    for name, part in gradients.items():
        if part:
            lengths[name] = torch.linalg.vector_norm(torch.stack(together[: len(part)]))
        together = together[len(part) :]
    length = torch.linalg.vector_norm(torch.stack(list(lengths.values())))
    if longest:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grads_with_norm_(parameters, longest, length)
    if scaler.is_enabled():
        # In fp16 the scaler looks for what is not finite, and lowers the scale.
        scaler.step(optimizer)
        scaler.update()
    else:
        _update_if_finite(optimizer, length)
    return lengths


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _update_if_finite(optimizer: torch.optim.Optimizer, length: Tensor) -> None:
    fused: Any = optimizer
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        if bool(length.isfinite()):
            optimizer.step()
        return
    # Fused updates look for themselves, on the device: nobody waits for the answer.
    fused.grad_scale, fused.found_inf = None, (~length.isfinite()).float()
    try:
        fused.step()
    finally:
        del fused.grad_scale, fused.found_inf


def can_be_recorded(settings: TrainSettings) -> bool:
    """Whether the updates of both optimizers may be part of a CUDA graph."""
    chosen = (settings.optimizer, settings.optimizer_D or settings.optimizer)
    return all(term.name in CAPTURABLE for term in chosen)


def _kernels(
    term: Term, rate: float, parameters: list[nn.Parameter], speed: Speed
) -> dict[str, Any]:
    """Options of an optimizer that say how, not what, it computes."""
    options: dict[str, Any] = {"lr": rate}
    # The two exclude each other.
    if speed.fused and "foreach" not in term.options:
        options["fused"] = True
    if speed.graph:
        # A number would be recorded as it is: the schedule then changed nothing.
        # Of a group without parameters nobody reads the rate.
        device = parameters[0].device if parameters else None
        options["lr"] = torch.tensor(rate, device=device)
        options["capturable"] = True
    return options


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
        # A run that begins to average only now begins from its present weights.
        self.networks.load_state_dict(state["networks"] or self.source.state_dict())
        self.updates = int(state["updates"])


def _frozen_copy(networks: nn.ModuleDict) -> nn.ModuleDict:
    return copy.deepcopy(networks).requires_grad_(False).eval()
