"""Everything that a training loop changes, as one dictionary of tensors and plain data."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.hardware.distributed import ALONE, World
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.algorithm.optimizers import Averaged
from cyclegan.training.statistics.hard_examples import Lessons
from cyclegan.training.statistics.meter import Meter
from cyclegan.training.step import Stepper

# What a report told: the step, and values by name.
Point = tuple[int, dict[str, float]]


@dataclass
class Progress:
    """Where a run is: steps taken, and samples drawn from the stream; how often it went back, and
    what that left of the learning rate; the least distance that was measured, and when.
    """

    step: int = 0
    position: int = 0
    times_back: int = 0
    rate: float = 1.0
    best: float | None = None
    best_step: int = 0


@dataclass
class RunState:
    """The parts of a run that remember something."""

    stepper: Stepper
    averaged: Averaged
    schedule: Schedule
    progress: Progress = field(default_factory=Progress)
    meter: Meter = field(default_factory=Meter)
    history: list[Point] = field(default_factory=list)
    lessons: Lessons = field(default_factory=lambda: Lessons(((), ())))
    world: World = ALONE

    @property
    def device(self) -> torch.device:
        return next(self.stepper.model.parameters()).device

    def published(self) -> dict[str, nn.Module]:
        """The networks as others get them: the generators averaged, where that is on."""
        discriminators = self.stepper.model.discriminators
        return {**dict(self.averaged.networks.items()), **dict(discriminators.items())}

    def capture(self) -> dict[str, Any]:
        """Views, not copies, of all of it; to be asked for by all processes at once."""
        stepper = self.stepper
        return {
            "progress": asdict(self.progress),
            "model": stepper.model.state_dict(),
            "heads": stepper.heads.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer_G": stepper.optimizer_G.state_dict(),
            "optimizer_D": stepper.optimizer_D.state_dict(),
            "optimizers": {name: type(o).__name__ for name, o in _optimizers(stepper).items()},
            "scalers": {name: scaler.state_dict() for name, scaler in _scalers(stepper).items()},
            "schedule": self.schedule.state_dict(),
            "meter": self.meter.state_dict(),
            "history": list(self.history),
            # What each process has of its own, in the order of ranks.
            "ranks": self.world.gather(
                {
                    "pools": self._pools(),
                    "random": random_states(self.device),
                    "lessons": self.lessons.state_dict(),
                }
            ),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts a captured state back; raises UserError where it belongs to other networks."""
        stepper = self.stepper
        optimizers = _optimizers(stepper)
        _check_kinds(state, optimizers)
        # Rates, momenta and decays are those of the settings at hand, which may have changed.
        chosen = {name: _group_options(optimizer) for name, optimizer in optimizers.items()}
        try:
            stepper.model.load_state_dict(state["model"])
            stepper.heads.load_state_dict(state["heads"])
            self.schedule.load_state_dict(state["schedule"])
            self.averaged.load_state_dict(state["averaged"])
            for name, optimizer in optimizers.items():
                optimizer.load_state_dict(state[name])
                for group, options in zip(optimizer.param_groups, chosen[name], strict=True):
                    group.update(options)
                    _fit_memory(optimizer, group)
            for name, scaler in _scalers(stepper).items():
                # Empty unless both this run and the one before it are in fp16.
                if (scale := state["scalers"].get(name)) and scaler.is_enabled():
                    scaler.load_state_dict(scale)
            self.progress = Progress(**state["progress"])
            self.meter.load_state_dict(state["meter"])
            self.history = [(int(step), dict(values)) for step, values in state["history"]]
            self._restore_own(state["ranks"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            first = " ".join(str(error).split())[:200]
            raise UserError(
                f"the saved state does not fit these settings ({first}): continue without "
                "changing generator, discriminator, ngf, ndf, ema, optimizer, scale, or which "
                "slots are none"
            ) from None

    def _pools(self) -> dict[str, Any]:
        """On the host: they may travel to the process that writes."""
        pools = {domain: pool.state_dict() for domain, pool in self.stepper.pools.items()}
        if self.world.size == 1:
            return pools
        return {d: {**p, "images": [i.cpu() for i in p["images"]]} for d, p in pools.items()}

    def _restore_own(self, ranks: list[dict[str, Any]]) -> None:
        """What this process had. Of a run that goes on in another number of processes, each gets
        an equal part of the images, and goes on drawing as one of the earlier ones did.
        """
        world = self.world
        device = self.device
        own = ranks[world.rank % len(ranks)]
        for domain, pool in self.stepper.pools.items():
            kept = own["pools"][domain]
            if len(ranks) != world.size:
                images = [image for rank in ranks for image in rank["pools"][domain]["images"]]
                kept = {**kept, "images": images[world.rank :: world.size]}
            pool.load_state_dict(kept, device=device)
        seen = [own] if len(ranks) == world.size else ranks
        self.lessons.load(rank["lessons"] for rank in seen)
        if world.rank < len(ranks):
            restore_random(own["random"], device)


def random_states(device: torch.device) -> dict[str, Any]:
    """Of all generators that parts of the user's own may draw from, too."""
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


def _optimizers(stepper: Stepper) -> dict[str, torch.optim.Optimizer]:
    return {"optimizer_G": stepper.optimizer_G, "optimizer_D": stepper.optimizer_D}


def _scalers(stepper: Stepper) -> dict[str, torch.amp.GradScaler]:
    """Those of fp16; of other precisions they do nothing."""
    return {name: stepper.scalers[optimizer] for name, optimizer in _optimizers(stepper).items()}


def _fit_memory(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
    """Moments in the layout of their weights, and counts of steps where the update looks for them:
    the run may have been saved by another way of computing it.
    """
    counts_there = group.get("fused") or group.get("capturable")
    for parameter in group["params"]:
        kept = optimizer.state.get(parameter, {})
        for name, value in kept.items():
            if not isinstance(value, Tensor):
                continue
            if name == "step":
                kept[name] = value.to(parameter.device if counts_there else "cpu", torch.float32)
            elif value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_kinds(state: Mapping[str, Any], optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """Raises UserError where the state is another kind of optimizer's: its memory is of no use."""
    for name, optimizer in optimizers.items():
        before, now = state.get("optimizers", {}).get(name), type(optimizer).__name__
        if before is not None and before != now:
            option = "--optimizer_D" if name == "optimizer_D" else "--optimizer"
            raise UserError(
                f"{option}: the run was begun with {before}, which {now} cannot take over: "
                f"leave {option} out, or begin a new run without --continue_train"
            )


def _group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
