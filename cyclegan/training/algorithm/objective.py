"""What the two sides of a run are to make small."""

from collections.abc import Hashable, Iterable

from torch import Tensor

from cyclegan.config.train_options import TrainSettings
from cyclegan.losses.weighted import START, Clock
from cyclegan.training.algorithm.loss_slots import (
    PAIRS,
    build_slots,
    equally_large,
    heads,
    judges,
)
from cyclegan.training.algorithm.model import CycleGAN, Images

Losses = dict[str, Tensor]


class Objective:
    """The losses of every slot, of the images of a step."""

    def __init__(self, model: CycleGAN, settings: TrainSettings) -> None:
        self.slots = build_slots(settings, model)
        self.model = model
        networks = {name: model.running[name] for name in model.discriminators}
        self.judges = judges(settings.diffaugment, networks)
        # Penalties differentiate twice, which neither half precision nor compiled code is for.
        self.plain_judges = judges(settings.diffaugment, dict(model.discriminators.items()))
        self.heads = heads(self.slots)

    @property
    def plays(self) -> bool:
        """Whether there is a game in both domains, in every step."""
        return all(self.slots[f"adversarial_{domain}"].always_due for domain in "AB")

    def judged(self) -> list[str]:
        return [f"fake_{domain}" for domain in "AB" if f"D_{domain}" in self.judges]

    def generators_pattern(self, clock: Clock) -> Hashable:
        """All that the generators' half goes by, but for its images: which losses are due."""
        return self._due(clock, [name for name in self.slots if not name.startswith("penalty")])

    def discriminators_pattern(self, clock: Clock) -> Hashable:
        """The same for the discriminators' half, whose games are always due."""
        return self._due(clock, ["penalty_A", "penalty_B"])

    def _due(self, clock: Clock, names: Iterable[str]) -> Hashable:
        return tuple(part.due(clock) for name in names for part in self.slots[name].losses)

    def passes(self, clock: Clock) -> set[str]:
        """The images that some loss looks at in this step."""
        wanted = {made for slot, (made, _) in PAIRS.items() if self.slots[slot].due(clock)}
        wanted |= set(self.judged())
        return wanted | {f"fake_{d}" for d in "AB" if self.slots[f"nce_{d}"].due(clock)}

    def generator_losses(self, images: Images, clock: Clock = START) -> Losses:
        """One flat dict: its sum is what the generators minimize, its keys name the curves."""
        losses: Losses = {}
        for domain in "AB":
            if judge := self.judges.get(f"D_{domain}"):
                pair = images.get(f"fake_{domain}"), images.get(f"real_{domain}")
                name = f"adversarial_{domain}"
                losses |= self.slots[name].evaluate(
                    name, judge, *pair, method="generator", clock=clock
                )
        for name, (made, target) in PAIRS.items():
            if self.slots[name].due(clock):
                pair = equally_large(images.get(made), images.get(target))
                losses |= self.slots[name].image_losses(name, *pair, clock)
        for domain, source in (("A", images.real_B), ("B", images.real_A)):
            name = f"nce_{domain}"
            if self.slots[name].due(clock):
                pair = source, images.get(f"fake_{domain}")
                losses |= self.slots[name].evaluate(
                    name, self.model.running, domain, *pair, clock=clock
                )
        return losses

    def discriminator_losses(self, images: Images, clock: Clock = START) -> Losses:
        losses: Losses = {}
        for domain in "AB":
            if judge := self.judges.get(f"D_{domain}"):
                pair = images.get(f"fake_{domain}"), images.get(f"real_{domain}")
                # A weight on the adversarial loss balances it against the generators' other
                # losses; a discriminator has no others.
                losses |= self.slots[f"adversarial_{domain}"].evaluate(
                    f"D_{domain}", judge, *pair, method="discriminator", weighted=False
                )
                plain = self.plain_judges[f"D_{domain}"]
                losses |= self.slots[f"penalty_{domain}"].evaluate(
                    f"penalty_{domain}", plain, *pair, clock=clock
                )
        return losses


def cycle_errors(images: Images) -> Losses:
    """Of each image that was brought back its cycle error, the mean of |rec - real| in levels of
    255: `error_A` and `error_B`, each of shape (N,).
    """
    made = {d: (getattr(images, f"rec_{d}"), images.get(f"real_{d}")) for d in "AB"}
    return {
        f"error_{domain}": 127.5 * (rec.detach().float() - real).abs().flatten(1).mean(1)
        for domain, (rec, real) in made.items()
        if rec is not None
    }
