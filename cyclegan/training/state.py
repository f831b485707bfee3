"""Everything that a training loop changes, as one dictionary of tensors and plain data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cyclegan.errors import UserError
from cyclegan.training.optim import Averaged
from cyclegan.training.schedule import Schedule
from cyclegan.training.step import Stepper


@dataclass
class Progress:
    """Where a run is: steps taken, and samples drawn from the stream."""

    step: int = 0
    position: int = 0


def capture(
    progress: Progress, stepper: Stepper, averaged: Averaged, schedule: Schedule
) -> dict[str, Any]:
    return {
        "progress": {"step": progress.step, "position": progress.position},
        "model": stepper.model.state_dict(),
        "heads": stepper.heads.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer_G": stepper.optimizer_G.state_dict(),
        "optimizer_D": stepper.optimizer_D.state_dict(),
        "optimizers": {
            "optimizer_G": type(stepper.optimizer_G).__name__,
            "optimizer_D": type(stepper.optimizer_D).__name__,
        },
        "scalers": {name: scaler.state_dict() for name, scaler in _scalers(stepper).items()},
        "schedule": schedule.state_dict(),
        "pools": {domain: pool.state_dict() for domain, pool in stepper.pools.items()},
        "random": {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }


def restore(
    state: dict[str, Any],
    progress: Progress,
    stepper: Stepper,
    averaged: Averaged,
    schedule: Schedule,
) -> None:
    """Puts a captured state back; raises UserError where it belongs to other networks."""
    device = next(stepper.model.parameters()).device
    optimizers = {"optimizer_G": stepper.optimizer_G, "optimizer_D": stepper.optimizer_D}
    _check_kinds(state, optimizers)
    # Rates, momenta and decays are those of the settings at hand, which may have changed.
    chosen = {name: _group_options(optimizer) for name, optimizer in optimizers.items()}
    try:
        stepper.model.load_state_dict(state["model"])
        # States of earlier versions hold neither heads nor a schedule: they had none.
        stepper.heads.load_state_dict(state.get("heads", {}))
        schedule.load_state_dict(state.get("schedule", {}))
        averaged.load_state_dict(state["averaged"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state[name])
            for group, options in zip(optimizer.param_groups, chosen[name], strict=True):
                group.update(options)
                _fit_memory(optimizer, group)
        for name, scaler in _scalers(stepper).items():
            # Empty unless both this run and the one before it are in fp16.
            if (scale := state.get("scalers", {}).get(name)) and scaler.is_enabled():
                scaler.load_state_dict(scale)
        for domain, pool in stepper.pools.items():
            pool.load_state_dict(state["pools"][domain], device=device)
        progress.step = int(state["progress"]["step"])
        progress.position = int(state["progress"]["position"])
        torch.set_rng_state(state["random"]["torch"])
        if torch.cuda.is_available() and state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(
            f"the saved state does not fit these settings ({first}): continue without changing "
            "generator, discriminator, ngf, ndf, ema, optimizer, scale, or which slots are none"
        ) from None


def _scalers(stepper: Stepper) -> dict[str, torch.amp.GradScaler]:
    """Those of fp16; of other precisions they do nothing."""
    return {
        "optimizer_G": stepper.scalers[stepper.optimizer_G],
        "optimizer_D": stepper.scalers[stepper.optimizer_D],
    }


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


def _check_kinds(state: dict[str, Any], optimizers: dict[str, torch.optim.Optimizer]) -> None:
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
