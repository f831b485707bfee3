"""Weighted losses of one option, and their values under the names of the curves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_count, check_number
from cyclegan.config.errors import UserError, explain, shorten
from cyclegan.config.expressions import LABEL, Expression, Term
from cyclegan.config.parts import Table, build
from cyclegan.losses.adversarial import AdversarialLoss

# Options of every term, whatever its loss: how its weight changes in the course of the run.
SCHEDULE_OPTIONS = ("decay_to", "over")
MIN_OVER = 1e-9
# Upper bound of the attribute `every` of a loss; no run has as many steps.
MAX_EVERY = 1_000_000_000

# An image loss, a penalty and a contrastive loss are callables, each with its own arguments.
Loss = Callable[..., Tensor] | AdversarialLoss


@dataclass(frozen=True)
class Clock:
    """The number of steps taken before this one, and which share of the run they are, 0 to 1."""

    step: int = 0
    progress: float = 0.0


START = Clock()


@dataclass(frozen=True)
class WeightedLoss:
    """A loss whose weight changes linearly from `weight` to `decay_to` over the first share `over`
    of the run. Errors name `option`, in which it was written.
    """

    option: str
    label: str
    weight: float
    loss: Loss
    decay_to: float | None = None
    over: float = 1.0

    def weight_at(self, progress: float) -> float:
        if self.decay_to is None:
            return self.weight
        done = min(progress / self.over, 1.0)
        return self.weight + (self.decay_to - self.weight) * done

    @property
    def every(self) -> int:
        """A loss is computed every so many steps, with a weight that is as many times larger."""
        return int(getattr(self.loss, "every", 1))

    def due(self, clock: Clock) -> bool:
        return clock.step % self.every == 0 and self.weight_at(clock.progress) > 0

    def value(self, *arguments: Any, method: str = "__call__") -> Tensor:
        """The loss without its weight; raises UserError if it is not a scalar with a gradient."""
        try:
            value = getattr(self.loss, method)(*arguments)
        except (torch.OutOfMemoryError, UserError):
            raise
        except (Exception, SystemExit) as error:
            # A fault of this package needs its traceback.
            if is_builtin(self.loss):
                raise
            raise UserError(f"--{self.option}: {self.label} failed: {explain(error)}") from error
        if not isinstance(value, Tensor) or value.ndim != 0:
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
            raise UserError(
                f"--{self.option}: {self.label} gives no single number ({shorten(what, 60)}): "
                "return one tensor without dimensions, as .mean() makes it"
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise UserError(
                f"--{self.option}: {self.label} gives a number without gradient, which trains "
                "nothing: compute it from `input` with torch alone, without detach(), item() or "
                "numpy"
            )
        return value


class WeightedLosses:
    """The losses of one option, such as --cycle, on a device.

    A single loss is reported under the name given to `evaluate` (cycle_A), several under that name
    and each loss's label (cycle_A.l1, cycle_A.ssim).
    """

    def __init__(
        self, terms: Expression, table: Table, *, device: torch.device | None = None
    ) -> None:
        self.option = terms.option
        self.losses = [_weighted_loss(term, table) for term in terms]
        for part in self.losses:
            if isinstance(part.loss, nn.Module):
                part.loss.to(device)
                if part.label not in self.trainable_modules():
                    part.loss.requires_grad_(False).eval()

    def __bool__(self) -> bool:
        """Whether any loss has a weight above 0 at some step."""
        return any(part.weight > 0 or (part.decay_to or 0) > 0 for part in self.losses)

    @property
    def always_due(self) -> bool:
        """Whether some loss is computed at every step."""
        return any(p.every == 1 and p.weight > 0 and p.decay_to is None for p in self.losses)

    def due(self, clock: Clock) -> bool:
        """Whether any loss is computed at this step."""
        return any(part.due(clock) for part in self.losses)

    def trainable_modules(self) -> dict[str, nn.Module]:
        """The losses that learn, such as the heads of a contrastive loss, by label."""
        return {
            part.label: part.loss
            for part in self.losses
            if isinstance(part.loss, nn.Module) and getattr(part.loss, "trainable", False)
        }

    def evaluate(
        self,
        name: str,
        *arguments: Any,
        method: str = "__call__",
        clock: Clock = START,
        weighted: bool = True,
    ) -> dict[str, Tensor]:
        """One scalar for each loss that is due, times its weight. With weighted=False, every loss
        without its weight.
        """
        values = {}
        for part in self.losses:
            if weighted and not part.due(clock):
                continue
            value = part.value(*arguments, method=method)
            key = name if len(self.losses) == 1 else f"{name}.{part.label}"
            weight = part.weight_at(clock.progress) * part.every
            values[key] = weight * value if weighted else value
        return values


def is_builtin(part: Any) -> bool:
    """Whether a loss or network is defined in this package, so that its faults are not a user's."""
    return type(part).__module__.partition(".")[0] == __name__.partition(".")[0]


def _weighted_loss(term: Term, table: Table) -> WeightedLoss:
    where = f"--{term.option}: {term.name}"
    schedule = {name: term.options[name] for name in SCHEDULE_OPTIONS if name in term.options}
    own = {name: value for name, value in term.options.items() if name not in (LABEL, *schedule)}
    loss = build(replace(term, options=own), table)
    try:
        check_number("decay_to", schedule.get("decay_to", 0.0))
        check_number("over", schedule.get("over", 1.0), least=MIN_OVER, most=1.0)
        check_count("every", getattr(loss, "every", 1), most=MAX_EVERY)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if "over" in schedule and "decay_to" not in schedule:
        raise UserError(f"{where} has over= without decay_to=: give both")
    if not term.label.isidentifier():
        raise UserError(f"{where}: label={term.label} must be a word")
    if not callable(loss) and not hasattr(loss, "generator"):
        raise UserError(f"{where} makes no loss, but {loss!r}")
    return WeightedLoss(term.option, term.label, term.weight, loss, **schedule)
