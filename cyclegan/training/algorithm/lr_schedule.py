"""How long a run is, and how its learning rates change on the way."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from cyclegan.config import parts
from cyclegan.config.checks import check_count, check_number
from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
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
    """Where a run is. Ticks are epochs, or steps where --steps gives the length: the first
    `constant` of them are at the first rate by the published schedule, `decay` more follow.
    """

    tick: int
    constant: int
    decay: int
    progress: float


class Curve(Protocol):
    """What the first learning rate is multiplied by."""

    def factor(self, moment: Moment) -> float: ...


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
    """Multiplied by `gamma` after every `every` ticks."""

    def __init__(self, every: int = 50, gamma: float = 0.1) -> None:
        self.every, self.gamma = check_count("every", every), check_number("gamma", gamma, most=1.0)

    def factor(self, moment: Moment) -> float:
        return float(self.gamma ** (moment.tick // self.every))


class Plateau:
    """Multiplied by `reduce` when `patience` measurements in a row were no better than the best by
    more than the share `threshold`. The measure is the sliced Wasserstein distance of the
    translated test images to real ones, taken every --evaluate_every steps.
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
    """How long a run is, and what its learning rates are multiplied by at each step."""

    def __init__(self, settings: TrainSettings, *, epoch_length: int) -> None:
        self.settings = settings
        self.epoch_length = epoch_length
        self.steps_per_epoch = -(-epoch_length // settings.images_per_step)
        epochs = settings.n_epochs + settings.n_epochs_decay
        self.total_steps = settings.steps or epochs * self.steps_per_epoch
        if settings.warmup_steps >= self.total_steps:
            raise UserError(
                f"--warmup_steps {settings.warmup_steps} is as long as the run of "
                f"{self.total_steps} steps: lower it"
            )
        term = settings.schedule
        self.curve: Any = parts.build(term, SCHEDULES)
        if not hasattr(self.curve, "factor"):
            raise UserError(f"--schedule: {term.name} is no schedule: it has no factor(moment)")

    @property
    def wants_measurements(self) -> bool:
        return hasattr(self.curve, "observe")

    @property
    def evaluate_every(self) -> int:
        """Steps between measurements; 0: none before the end."""
        if self.wants_measurements:
            return self.settings.evaluate_every or self.steps_per_epoch
        return self.settings.evaluate_every

    def observe(self, distance: float) -> None:
        if self.wants_measurements:
            self.curve.observe(distance)

    def clock(self, step: int) -> Clock:
        return Clock(step, step / self.total_steps)

    def factor(self, *, step: int, position: int) -> float:
        """For the step that is taken after `step` steps and `position` samples."""
        settings = self.settings
        if settings.steps is None:
            tick, constant, decay = (
                position // self.epoch_length,
                settings.n_epochs,
                settings.n_epochs_decay,
            )
        else:
            constant = settings.steps // 2
            tick, decay = step, settings.steps - constant
        moment = Moment(tick, constant, decay, step / self.total_steps)
        # The rate of the first step is above 0: a step at rate 0 would be wasted.
        rising = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        return rising * float(self.curve.factor(moment))

    def state_dict(self) -> dict[str, Any]:
        return self.curve.state_dict() if hasattr(self.curve, "state_dict") else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and hasattr(self.curve, "load_state_dict"):
            self.curve.load_state_dict(state)
