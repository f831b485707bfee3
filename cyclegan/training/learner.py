"""One step of a run, with all that goes by it: rates, random states, readings, what is watched."""

from collections.abc import Callable, Iterable
from typing import Any

from cyclegan.config.errors import UserError
from cyclegan.data.loading.loader import Batch
from cyclegan.runs.checkpoints import copied
from cyclegan.training.algorithm.objective import Losses
from cyclegan.training.algorithm.optimizers import scale_learning_rate
from cyclegan.training.build import Run
from cyclegan.training.resources.execution_plan import compiled_step
from cyclegan.training.state import random_states, restore_random
from cyclegan.training.statistics.async_metrics import Guard, Reading, Readings
from cyclegan.training.statistics.weight_statistics import ratios, samples


class GoBack(UserError):
    """The run is to go on from what was saved; where it cannot, this is why it ends."""


class Learner:
    """Takes a run's steps, one batch after another."""

    def __init__(self, run: Run, *, say: Callable[[str], object]) -> None:
        self.run = run
        self.state = run.state
        self.stepper = run.state.stepper
        self.say = say
        self.readings = Readings(run.device)
        fp16 = run.speed.precision == "fp16"
        self.guard = Guard(fp16=fp16, alone=run.world.size == 1, say=say)
        self.compiled = False
        # Of the last step that was watched: how far it moved each network.
        self.moved: dict[str, float] = {}
        # Within a step, the random states before it.
        self.drawn: dict[str, Any] | None = None

    def learn(self, batch: Batch, *, watched: bool) -> None:
        """Raises GoBack where losses are not finite for too long."""
        progress = self.state.progress
        factor = self.state.schedule.factor(step=progress.step, position=progress.position)
        for optimizer in (self.stepper.optimizer_G, self.stepper.optimizer_D):
            scale_learning_rate(optimizer, progress.rate * factor)
        count = self.run.positions.count(progress.position)
        whole = count == self.run.settings.images_per_step
        shares = None if whole else self.run.positions.shares(progress.position)
        clock = self.state.schedule.clock(progress.step)
        networks = self.stepper.model.networks()
        before = samples(networks) if watched else {}
        self.drawn = random_states(self.run.device)
        losses = self._step(batch.real_A, batch.real_B, clock, shares)
        self._count(count)
        self.moved = ratios(before, samples(networks)) if watched else {}
        self._look(self.readings.put(progress.step, losses, self._errors(batch)))

    def catch_up(self) -> None:
        """Looks at all readings that are still under way; raises as `learn` does."""
        self._look(self.readings.rest())

    def forget(self) -> None:
        """The run has gone back."""
        self.readings.forget()
        self.guard.forget()

    def settle(self) -> None:
        """After a step that has failed, counts it or makes it as if it had not begun."""
        if self.stepper.is_halfway:
            # A step without the discriminators' update: the generators' is not made twice.
            self._count(self.run.positions.count(self.state.progress.position))
        elif self.drawn is not None:
            restore_random(self.drawn, self.run.device)

    def _step(self, *batch: Any) -> Losses:
        if self.run.speed.compile == "off" or self.compiled:
            return self.stepper.step(*batch)
        self.compiled = True
        before = copied(self.state.capture())
        return compiled_step(
            lambda: self.stepper.step(*batch),
            undo=lambda: self.state.restore(before),
            networks=self.stepper.model.running.values(),
            say=self.say,
        )

    def _count(self, images: int) -> None:
        self.state.averaged.update()
        self.state.progress.step += 1
        self.state.progress.position += images
        self.drawn = None

    def _errors(self, batch: Batch) -> dict[str, Any]:
        places = {"error_A": batch.indices_A, "error_B": batch.indices_B}
        return {name[-1]: (places[name], each) for name, each in self.stepper.errors.items()}

    def _look(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            self.state.meter.update(reading.values)
            self.state.lessons.update(reading.step, reading.errors)
            if self.guard.look(reading):
                raise GoBack("losses are not finite: lower --lr, look for flat images")
