"""Warns of skipped updates, whose losses or gradients are not finite, and asks for a rollback."""

import logging
import math

import torch
from torch import nn

from cyclegan.training.statistics.async_metrics import StepMetrics
from cyclegan.training.step import GRADIENT

# The run rolls back after this many steps in a row without an update.
MAX_NONFINITE_STEPS = 3

# GradScaler overflows while it searches for a scale; more than this many in a row is a fault.
MAX_OVERFLOWS = 20

logger = logging.getLogger(__name__)


class NonFiniteGuard:
    """Warns of metrics that are not finite. `TrainingStep.minimize` has skipped the update by then.

    single_process: several ranks share gradients but not losses, so that a gradient may overflow
    by the loss of another rank.
    """

    def __init__(self, *, fp16: bool, single_process: bool) -> None:
        self.fp16 = fp16
        self.single_process = single_process
        self.nonfinite_steps = 0
        self.overflows = 0

    def must_roll_back(self, metrics: StepMetrics) -> bool:
        names = [name for name, value in metrics.values.items() if not math.isfinite(value)]
        if not names:
            self.reset()
            return False
        overflow = not self.single_process or all(name.startswith(GRADIENT) for name in names)
        if self.fp16 and overflow and self.overflows < MAX_OVERFLOWS:
            self.overflows += 1
            return False
        self.nonfinite_steps += 1
        # The gradients of a non-finite loss are not finite either.
        named = [name for name in names if not name.startswith(GRADIENT)] or names
        logger.warning(
            "step %d: %s: not a finite number; its weights are left as they were",
            metrics.step,
            ", ".join(named),
        )
        return self.nonfinite_steps >= MAX_NONFINITE_STEPS

    def reset(self) -> None:
        self.nonfinite_steps = self.overflows = 0


def nonfinite_weights(model: nn.Module) -> list[str]:
    """The first few weights, or running statistics, that hold NaN or infinity."""
    return [
        f"weights of {name}"
        for name, value in model.state_dict().items()
        if not torch.isfinite(value).all()
    ][:3]
