"""How long a run is, and how its learning rates change."""

import math
from dataclasses import dataclass
from typing import Any

from cyclegan.config import parts
from cyclegan.config.checks import check_count, check_number
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.losses.weighted import Clock

SCHEDULES = {
    "linear": "cyclegan.training.algorithm.lr_schedule.Linear",
    "cosine": "cyclegan.training.algorithm.lr_schedule.Cosine",
    "step": "cyclegan.training.algorithm.lr_schedule.Step",
    "plateau": "cyclegan.training.algorithm.lr_schedule.Plateau",
    "constant": "cyclegan.training.algorithm.lr_schedule.Constant",
}


@dataclass(frozen=True)
class Moment:
    """A point of a run. Ticks are epochs, or steps if --steps gives the length. In the published
    schedule, `constant` ticks have the first learning rate and `decay` ticks a falling one.
    """

    tick: int
    constant: int
    decay: int
    progress: float


class Linear:
    """1 for `constant` ticks, then a straight line that would reach 0 one tick after the last
    (CycleGAN, Zhu et al., 2017: ticks are epochs).
    """

    def factor(self, moment: Moment) -> float:
        late = max(0, moment.tick + 1 - moment.constant)
        return 1.0 - late / (moment.decay + 1)


class Cosine:
    """Half a cosine over the whole run, from 1 down to `lowest` (Loshchilov & Hutter, 2017,
    without restarts): lowest + (1 - lowest) (1 + cos(pi progress)) / 2.
    """

    def __init__(self, lowest: float = 0.0) -> None:
        self.lowest = check_number("lowest", lowest, most=1.0)

    def factor(self, moment: Moment) -> float:
        falling = 0.5 * (1 + math.cos(math.pi * min(moment.progress, 1.0)))
        return self.lowest + (1 - self.lowest) * falling


class Step:
    """Multiplies the rate by `gamma` after every `every` ticks."""

    def __init__(self, every: int = 50, gamma: float = 0.1) -> None:
        self.every, self.gamma = check_count("every", every), check_number("gamma", gamma, most=1.0)

    def factor(self, moment: Moment) -> float:
        return float(self.gamma ** (moment.tick // self.every))


class Plateau:
    """Multiplies the rate by `reduce` if `patience` measurements in a row do not improve the best
    one by the fraction `threshold`. The measurement is the sliced Wasserstein distance between
    translated and real test images, every --evaluate_every steps.
    """

    def __init__(
        self, reduce: float = 0.5, patience: int = 5, threshold: float = 0.01, lowest: float = 0.01
    ) -> None:
        self.reduce, self.lowest = (
            check_number("reduce", reduce),
            check_number("lowest", lowest, most=1.0),
        )
        self.threshold = check_number("threshold", threshold)
        self.patience = check_count("patience", patience)
        self.best, self.worse, self.current = math.inf, 0, 1.0

    def factor(self, moment: Moment) -> float:
        return self.current

    def observe(self, distance: float) -> None:
        """A new measurement; smaller is better."""
        if distance < self.best * (1 - self.threshold):
            self.best, self.worse = distance, 0
            return
        self.worse += 1
        if self.worse >= self.patience:
            self.current, self.worse = max(self.current * self.reduce, self.lowest), 0

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best, "worse": self.worse, "current": self.current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.current = float(state["best"]), float(state["current"])
        self.worse = int(state["worse"])


class Constant:
    """1 to the end."""

    def factor(self, moment: Moment) -> float:
        return 1.0


class Schedule:
    """The length of a run, and the factor of its learning rates at each step.

    Ticks are epochs, or steps if `steps` gives the length: `constant` and `decay` ticks.
    """

    def __init__(
        self,
        term: Term,
        *,
        epoch_length: int,
        images_per_step: int,
        n_epochs: int,
        n_epochs_decay: int,
        steps: int | None = None,
        warmup_steps: int = 0,
        evaluate_every: int = 0,
    ) -> None:
        self.epoch_length = epoch_length
        self.steps_per_epoch = -(-epoch_length // images_per_step)
        self.counts_steps = steps is not None
        self.total_steps = steps or (n_epochs + n_epochs_decay) * self.steps_per_epoch
        self.constant, self.decay = n_epochs, n_epochs_decay
        if steps is not None:
            self.constant, self.decay = steps // 2, steps - steps // 2
        if warmup_steps >= self.total_steps:
            raise UserError(
                f"--warmup_steps {warmup_steps} is as long as the run of {self.total_steps} "
                "steps: lower it"
            )
        self.warmup_steps = warmup_steps
        self.curve: Any = parts.build(term, SCHEDULES)
        if not hasattr(self.curve, "factor"):
            raise UserError(f"--schedule: {term.name} is no schedule: it has no factor(moment)")
        self.wants_measurements = hasattr(self.curve, "observe")
        # Steps between measurements; 0: none before the end.
        self.evaluate_every = evaluate_every
        if self.wants_measurements:
            self.evaluate_every = evaluate_every or self.steps_per_epoch

    def observe(self, distance: float) -> None:
        if self.wants_measurements:
            self.curve.observe(distance)

    def clock(self, step: int) -> Clock:
        return Clock(step, step / self.total_steps)

    def factor(self, *, step: int, position: int) -> float:
        """The factor of the step that follows `step` steps and `position` samples."""
        tick = step if self.counts_steps else position // self.epoch_length
        moment = Moment(tick, self.constant, self.decay, step / self.total_steps)
        # The first step has a rate above 0: at rate 0 it would be wasted.
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return warmup * float(self.curve.factor(moment))

    def state_dict(self) -> dict[str, Any]:
        return self.curve.state_dict() if hasattr(self.curve, "state_dict") else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and hasattr(self.curve, "load_state_dict"):
            self.curve.load_state_dict(state)
