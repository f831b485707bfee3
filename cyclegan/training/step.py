"""One training step: the generators learn, then the discriminators."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.losses.terms import START, Clock
from cyclegan.settings import TrainSettings
from cyclegan.training.model import CycleGAN, Images
from cyclegan.training.optim import build_optimizer
from cyclegan.training.pool import ImagePool
from cyclegan.training.slots import PAIRS, build_slots, judges

Losses = dict[str, Tensor]


class Stepper:
    """The two sides' losses, optimizers and pools; `step` is the whole algorithm."""

    def __init__(self, model: CycleGAN, settings: TrainSettings, *, trusted: bool = True) -> None:
        self.model = model
        self.clip_grad = settings.clip_grad
        self.slots = build_slots(settings, model, trusted=trusted)
        self.judges = judges(settings, model, trusted=trusted)
        # What losses learn by themselves: the heads of a contrastive one, which both domains may
        # share.
        heads = {
            module: f"{name}_{label}"
            for name, slot in self.slots.items()
            for label, module in slot.modules().items()
        }
        self.heads = nn.ModuleDict({name: module for module, name in heads.items()})
        common: dict[str, Any] = {"settings": settings, "trusted": trusted}
        learners = nn.ModuleList([model.generators, self.heads])
        self.optimizer_G = build_optimizer(learners.parameters(), of="G", **common)
        self.optimizer_D = build_optimizer(model.discriminators.parameters(), of="D", **common)
        self.pools = {
            domain: ImagePool(settings.pool_size, seed=settings.seed + offset)
            for offset, domain in enumerate("AB")
        }

    def step(self, real_A: Tensor, real_B: Tensor, clock: Clock = START) -> Losses:
        """NCHW batches of either domain in [-1, 1]; gives the losses, detached, on the device."""
        images = self.model(real_A, real_B, self.passes(clock))

        self.model.discriminators.requires_grad_(False)
        losses_G = self.minimize(self.optimizer_G, self.generator_losses(images, clock))

        self.model.discriminators.requires_grad_(True)
        losses_D = self.minimize(self.optimizer_D, self.discriminator_losses(images, clock))

        return losses_G | losses_D

    def passes(self, clock: Clock) -> set[str]:
        """The images that some loss looks at in this step."""
        wanted = {made for slot, (made, _) in PAIRS.items() if self.slots[slot].due(clock)}
        wanted |= {f"fake_{domain}" for domain in "AB" if f"D_{domain}" in self.judges}
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
                    name, self.model.generators, domain, *pair, clock=clock
                )
        return losses

    def discriminator_losses(self, images: Images, clock: Clock = START) -> Losses:
        losses: Losses = {}
        for domain in "AB":
            if judge := self.judges.get(f"D_{domain}"):
                # Fakes are detached by the pools: this step must not reach the generators.
                fake = self.pools[domain].query(images.get(f"fake_{domain}"))
                args = judge, fake, images.get(f"real_{domain}")
                # A weight on the adversarial loss balances it against the generators' other
                # losses; a discriminator has no others.
                losses |= self.slots[f"adversarial_{domain}"].evaluate(
                    f"D_{domain}", *args, method="discriminator", weighted=False
                )
                losses |= self.slots[f"penalty_{domain}"].evaluate(
                    f"penalty_{domain}", *args, clock=clock
                )
        return losses

    def minimize(self, optimizer: torch.optim.Optimizer, losses: Losses) -> Losses:
        """One update towards a smaller sum; gives the values, detached."""
        if not losses:
            return {}
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        if self.clip_grad:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_grad)
        optimizer.step()
        return {name: value.detach() for name, value in losses.items()}


def equally_large(made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The pair as it is or, where --scale makes a translation larger or smaller than its source,
    with the larger image reduced to the size of the smaller by bicubic interpolation.
    """
    if made.shape == target.shape:
        return made, target
    size = min(made.shape[-2:], target.shape[-2:])
    return _reduced(made, size), _reduced(target, size)


def _reduced(image: Tensor, size: torch.Size) -> Tensor:
    if image.shape[-2:] == size:
        return image
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True)
