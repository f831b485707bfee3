"""A slot's weighted losses, and their values under the names that the curves carry."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError, explain, short

# Options of every term, whatever its loss: how its weight changes in the course of the run.
SCHEDULE_OPTIONS = ("decay_to", "over")

# Every so many steps is never: no run is as long.
LONGEST_EVERY = 1_000_000_000


@dataclass(frozen=True)
class Clock:
    """Where a run is: steps taken before this one, and which share of the run that is, 0 to 1."""

    step: int = 0
    progress: float = 0.0


START = Clock()


@dataclass(frozen=True)
class WeightedLoss:
    """A loss whose weight goes from `weight` in a straight line to `decay_to`, over the first
    share `over` of the run.
    """

    label: str
    weight: float
    loss: Any
    decay_to: float | None = None
    over: float = 1.0

    def weight_at(self, progress: float) -> float:
        if self.decay_to is None:
            return self.weight
        done = min(progress / self.over, 1.0)
        return self.weight + (self.decay_to - self.weight) * done

    @property
    def every(self) -> int:
        """A loss may be due only every so many steps; its weight is then so many times larger."""
        return int(getattr(self.loss, "every", 1))

    def due(self, clock: Clock) -> bool:
        return clock.step % self.every == 0 and self.weight_at(clock.progress) > 0


class Slot:
    """The losses of one option, such as --cycle: `image_losses` calls each on a pair of images.

    A slot of one loss reports under the slot's name (cycle_A), one of several under the name and
    each loss's label (cycle_A.l1, cycle_A.ssim). Values include their weights.
    """

    def __init__(
        self,
        terms: expressions.Expression,
        table: parts.Table,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.option = terms.option
        self.losses = [_weighted(term, table) for term in terms]
        for part in self.losses:
            if not callable(part.loss) and not hasattr(part.loss, "generator"):
                raise UserError(f"--{self.option}: {part.label} makes no loss, but {part.loss!r}")
            if isinstance(part.loss, nn.Module):
                part.loss.to(device)
                # Some losses learn: the heads of a contrastive one.
                if not getattr(part.loss, "trainable", False):
                    part.loss.requires_grad_(False).eval()

    def __bool__(self) -> bool:
        """Whether any loss ever counts."""
        return any(part.weight > 0 or (part.decay_to or 0) > 0 for part in self.losses)

    @property
    def always_due(self) -> bool:
        """Whether some loss counts at every step."""
        return any(p.every == 1 and p.weight > 0 and p.decay_to is None for p in self.losses)

    def due(self, clock: Clock) -> bool:
        """Whether any loss has something to say at this step."""
        return any(part.due(clock) for part in self.losses)

    def modules(self) -> dict[str, nn.Module]:
        """The losses with something to learn or to keep, by label."""
        return {
            part.label: part.loss
            for part in self.losses
            if isinstance(part.loss, nn.Module) and getattr(part.loss, "trainable", False)
        }

    def image_losses(
        self, name: str, input: Tensor, target: Tensor, clock: Clock = START
    ) -> dict[str, Tensor]:
        return self.evaluate(name, input, target, clock=clock)

    def evaluate(
        self,
        name: str,
        *arguments: Any,
        method: str = "__call__",
        clock: Clock = START,
        weighted: bool = True,
    ) -> dict[str, Tensor]:
        """One scalar for each loss that is due; raises UserError where a loss gives anything else,
        or nothing that a network could learn from.
        """
        values = {}
        for part in self.losses:
            if weighted and not part.due(clock):
                continue
            value = self.value(part, method, arguments)
            key = name if len(self.losses) == 1 else f"{name}.{part.label}"
            weight = part.weight_at(clock.progress) * part.every
            values[key] = weight * value if weighted else value
        return values

    def value(self, part: WeightedLoss, method: str, arguments: tuple[Any, ...]) -> Tensor:
        """One loss without its weight."""
        try:
            value = getattr(part.loss, method)(*arguments)
        except (torch.OutOfMemoryError, UserError):
            raise
        except (Exception, SystemExit) as error:
            # A mistake of ours is to show where it is.
            if is_ours(part.loss):
                raise
            raise UserError(f"--{self.option}: {part.label} failed: {explain(error)}") from error
        if not isinstance(value, Tensor) or value.ndim != 0:
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
            raise UserError(
                f"--{self.option}: {part.label} gives no single number ({short(what, 60)}): "
                "return one tensor without dimensions, as .mean() makes it"
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise UserError(
                f"--{self.option}: {part.label} gives a number without gradient, which trains "
                "nothing: compute it from `input` with torch alone, without detach(), item() or "
                "numpy"
            )
        return value


def _weighted(term: expressions.Term, table: parts.Table) -> WeightedLoss:
    schedule = {name: term.options[name] for name in SCHEDULE_OPTIONS if name in term.options}
    _check_schedule(schedule, term)
    if not str(term.label).isidentifier():
        raise UserError(f"--{term.option}: {term.name}: label={term.label} must be a word")
    kept = {expressions.LABEL, *schedule}
    rest = {name: value for name, value in term.options.items() if name not in kept}
    loss = parts.build(replace(term, options=rest), table)
    every = getattr(loss, "every", 1)
    if not isinstance(every, int) or not 1 <= every <= LONGEST_EVERY:
        raise UserError(
            f"--{term.option}: {term.name}: every={every} must be a whole number from 1 up"
        )
    return WeightedLoss(term.label, term.weight, loss, **schedule)


def _check_schedule(schedule: Mapping[str, Any], term: expressions.Term) -> None:
    for name, value in schedule.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not number
            or not 0 <= value <= sys.float_info.max
            or (name == "over" and not 0 < value <= 1)
        ):
            allowed = "a share of the run above 0, up to 1" if name == "over" else "a weight from 0"
            raise UserError(f"--{term.option}: {term.name}: {name}={value} must be {allowed}")
    if "over" in schedule and "decay_to" not in schedule:
        raise UserError(f"--{term.option}: {term.name} has over= without decay_to=: give both")


def is_ours(loss: Any) -> bool:
    """Whether the loss is of this package, and no mistake of it can be the user's."""
    return type(loss).__module__.partition(".")[0] == __name__.partition(".")[0]
