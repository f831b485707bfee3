"""Everything that the training loop changes, as one dictionary of tensors and plain data."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.hardware.distributed import SINGLE_PROCESS, ProcessGroup
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.optimizers import MovingAverage
from cyclegan.training.statistics.hard_examples import HardExamples
from cyclegan.training.statistics.running_means import RunningMeans
from cyclegan.training.step import Side, TrainingStep


@dataclass
class Progress:
    """Where a run is.

    step: steps taken. position: samples drawn from the data. times_back: rollbacks so far.
    rate: the learning-rate factor that they left. best, best_step: the smallest distance that was
    measured, and the step of that measurement.
    """

    step: int = 0
    position: int = 0
    times_back: int = 0
    rate: float = 1.0
    best: float | None = None
    best_step: int = 0


@dataclass
class RunState:
    """The parts of a run that have a state; `history` holds each reported step and its values."""

    step: TrainingStep
    average: MovingAverage
    schedule: Schedule
    hard_examples: HardExamples
    process_group: ProcessGroup = SINGLE_PROCESS
    progress: Progress = field(default_factory=Progress)
    means: RunningMeans = field(default_factory=RunningMeans)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return next(self.step.model.parameters()).device

    def published(self) -> dict[str, nn.Module]:
        """The networks to save as weights: the averaged generators, and the discriminators."""
        discriminators = self.step.model.discriminators
        return {**dict(self.average.networks.items()), **dict(discriminators.items())}

    def capture(self) -> dict[str, Any]:
        """References to the whole state, without copies. All ranks must call it together."""
        sides = self._sides()
        return {
            "progress": asdict(self.progress),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "optimizers": {name: type(side.optimizer).__name__ for name, side in sides.items()},
            "scalers": {name: side.scaler.state_dict() for name, side in sides.items()},
            "history": list(self.history),
            # What each rank has for itself.
            "ranks": self.process_group.gather(
                {
                    "pools": self._pools(),
                    "random": random_states(self.device),
                    "lessons": self.hard_examples.state_dict(),
                }
            ),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads a captured state; raises UserError if it belongs to other networks."""
        sides = self._sides()
        _check_optimizer_types(state, sides)
        # Learning rates, momenta and decays come from the present settings, not from the state.
        chosen = {name: _group_options(side.optimizer) for name, side in sides.items()}
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            for name, side in sides.items():
                for group, options in zip(side.optimizer.param_groups, chosen[name], strict=True):
                    group.update(options)
                    _fit_optimizer_state(side.optimizer, group)
                # Empty unless both this run and the saved one use fp16.
                if (scale := state["scalers"].get(name)) and side.scaler.is_enabled():
                    side.scaler.load_state_dict(scale)
            self.progress = Progress(**state["progress"])
            self.history = [(int(step), dict(values)) for step, values in state["history"]]
            self._restore_rank(state["ranks"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            first = " ".join(str(error).split())[:200]
            raise UserError(
                f"the saved state does not fit these settings ({first}): continue without "
                "changing generator, discriminator, ngf, ndf, ema, optimizer, scale, or which "
                "slots are none"
            ) from None

    def _parts(self) -> dict[str, Any]:
        """The objects with a state_dict, by their keys in a saved state."""
        return {
            "model": self.step.model,
            "heads": self.step.loss_modules,
            "averaged": self.average,
            "schedule": self.schedule,
            "meter": self.means,
            **{name: side.optimizer for name, side in self._sides().items()},
        }

    def _sides(self) -> dict[str, Side]:
        return {"optimizer_G": self.step.generators, "optimizer_D": self.step.discriminators}

    def _pools(self) -> dict[str, Any]:
        pools = {domain: pool.state_dict() for domain, pool in self.step.pools.items()}
        if self.process_group.size == 1:
            return pools
        # On the CPU, to be sent to the rank that writes.
        return {d: {**p, "images": [i.cpu() for i in p["images"]]} for d, p in pools.items()}

    def _restore_rank(self, ranks: Sequence[Mapping[str, Any]]) -> None:
        """Loads what this rank had. If the number of ranks has changed, each gets an equal part of
        the pooled images, and continues the random streams of one of the earlier ranks.
        """
        rank, size = self.process_group.rank, self.process_group.size
        own = ranks[rank % len(ranks)]
        for domain, pool in self.step.pools.items():
            kept = own["pools"][domain]
            if len(ranks) != size:
                images = [image for each in ranks for image in each["pools"][domain]["images"]]
                kept = {**kept, "images": images[rank::size]}
            pool.load_state_dict(kept, device=self.device)
        seen = [own] if len(ranks) == size else ranks
        self.hard_examples.load_state_dicts(each["lessons"] for each in seen)
        if rank < len(ranks):
            restore_random(own["random"], self.device)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of every global generator that users' own parts may draw from."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [str(kind), torch.tensor(np.asarray(keys, dtype=np.int64)), *rest],
        "python": random.getstate(),
    }


def restore_random(states: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))


@contextmanager
def preserve_state(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Restores the networks' training flags and buffers and all random states afterwards. Within
    it every random draw starts from seed 0.
    """
    random_before = random_states(device)
    modules = [module for network in networks for module in network.modules()]
    flags = [(module, module.training) for module in modules]
    buffers = [
        (m, n, b, b.clone()) for m in modules for n, b in m._buffers.items() if b is not None
    ]
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        restore_random(random_before, device)
        for module, training in flags:
            module.training = training
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer.copy_(value)


def _fit_optimizer_state(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> None:
    """Gives moments the memory format of their weights, and puts step counts on the device that
    the update reads them from: the saved run may have had another execution plan.
    """
    on_device = group.get("fused") or group.get("capturable")
    for parameter in group["params"]:
        kept = optimizer.state.get(parameter, {})
        for name, value in kept.items():
            if not isinstance(value, Tensor):
                continue
            if name == "step":
                kept[name] = value.to(parameter.device if on_device else "cpu", torch.float32)
            elif value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_optimizer_types(state: Mapping[str, Any], sides: Mapping[str, Side]) -> None:
    for name, side in sides.items():
        before, now = state.get("optimizers", {}).get(name), type(side.optimizer).__name__
        if before is not None and before != now:
            option = "--optimizer_D" if name == "optimizer_D" else "--optimizer"
            raise UserError(
                f"{option}: the run was begun with {before}, whose state {now} cannot use: "
                f"leave {option} out, or begin a new run without --continue_train"
            )


def _group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
