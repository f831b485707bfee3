"""A slot's weighted losses, and their values under the names that the curves carry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan import spec
from cyclegan.errors import UserError


@dataclass(frozen=True)
class WeightedLoss:
    label: str
    weight: float
    loss: Any


class Slot:
    """The losses of one option, such as --cycle: `image_losses` calls each on a pair of images.

    A slot of one loss reports under the slot's name (cycle_A), one of several under the name and
    each loss's label (cycle_A.l1, cycle_A.ssim). Values include their weights.
    """

    def __init__(
        self,
        expression: str,
        table: spec.Table,
        *,
        slot: str,
        trusted: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.slot = slot
        self.losses = [
            WeightedLoss(
                term.label, term.weight, spec.build(term, table, slot=slot, trusted=trusted)
            )
            for term in spec.parse(expression, slot=slot)
        ]
        for part in self.losses:
            if not callable(part.loss) and not hasattr(part.loss, "generator"):
                raise UserError(f"--{slot}: {part.label} makes no loss, but {part.loss!r}")
            if isinstance(part.loss, nn.Module):
                part.loss.requires_grad_(False).eval().to(device)

    def __bool__(self) -> bool:
        return bool(self.losses)

    def image_losses(self, name: str, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.evaluate(name, lambda loss: loss(input, target))

    def evaluate(
        self, name: str, call: Callable[[Any], Tensor], *, weighted: bool = True
    ) -> dict[str, Tensor]:
        """One scalar a loss; raises UserError where a loss gives anything else."""
        values = {}
        for part in self.losses:
            value = call(part.loss)
            if not isinstance(value, Tensor) or value.ndim != 0:
                raise UserError(
                    f"--{self.slot}: {part.label} gives no single number: use a loss that averages"
                )
            key = name if len(self.losses) == 1 else f"{name}.{part.label}"
            values[key] = part.weight * value if weighted else value
        return values
