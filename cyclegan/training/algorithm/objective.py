"""What the generators, and what the discriminators, minimize."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config import parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Expression
from cyclegan.losses.weighted import START, Clock, WeightedLosses
from cyclegan.networks import DIFFAUGMENTS
from cyclegan.networks.diffaugment import AugmentedDiscriminator
from cyclegan.training.algorithm.loss_slots import OTHER_DOMAIN, SLOT_NAMES, LossSlot
from cyclegan.training.algorithm.model import CycleGAN, Images

# Scalars by the names of their curves.
Losses = dict[str, Tensor]


class Objective:
    """The losses of both sides on the images of a micro-batch.

    `generators` and `discriminators` return one flat dict each: its sum is the loss, and its keys
    are the names of the curves.
    """

    def __init__(
        self, model: CycleGAN, losses: Mapping[str, WeightedLosses], *, diffaugment: Expression
    ) -> None:
        self.model = model
        self.losses = losses
        executors = {name: model.executors[name] for name in model.discriminators}
        self.D = augment(executors, diffaugment)
        # Penalties differentiate twice, which half precision and compiled code do not support.
        self.eager_D = augment(dict(model.discriminators.items()), diffaugment)
        # The translations that discriminators see.
        self.fakes = [f"fake_{domain}" for domain in "AB" if f"D_{domain}" in self.D]

    @property
    def adversarial_every_step(self) -> bool:
        """Whether an adversarial loss trains both generators at every step."""
        return all(self.losses[f"adversarial_{domain}"].always_due for domain in "AB")

    def passes(self, clock: Clock) -> set[str]:
        """The images that some loss needs at this step."""
        needed = set(self.fakes)
        for name, (slot, domain) in SLOT_NAMES.items():
            if self.losses[name].due(clock):
                if slot.compares is not None:
                    needed.add(slot.images(domain)[0])
                elif slot.kind == "nce":
                    needed.add(f"fake_{domain}")
        return needed

    def generators(self, images: Images, clock: Clock = START) -> tuple[Images, Losses]:
        """The forward pass of the generators' update: the detached translations that the
        discriminators train on, with the cycle error of each image; and the losses.
        """
        images = self.model(images, self.passes(clock))
        outputs = {name: images[name].detach() for name in self.fakes}
        return outputs | cycle_errors(images), self.generator_losses(images, clock)

    def discriminators(self, images: Images, clock: Clock = START) -> tuple[Images, Losses]:
        """The forward pass of the discriminators' update on real images and detached fakes."""
        return {}, self.discriminator_losses(images, clock)

    def generator_losses(self, images: Images, clock: Clock = START) -> Losses:
        losses: Losses = {}
        for name, (slot, domain) in SLOT_NAMES.items():
            if slot.kind != "penalty" and self.losses[name].due(clock):
                method = "generator" if slot.kind == "adversarial" else "__call__"
                arguments = self._arguments(slot, domain, images)
                losses |= self.losses[name].evaluate(name, *arguments, method=method, clock=clock)
        return losses

    def discriminator_losses(self, images: Images, clock: Clock = START) -> Losses:
        losses: Losses = {}
        for domain in "AB":
            if D := self.D.get(f"D_{domain}"):
                fake, real = images[f"fake_{domain}"], images[f"real_{domain}"]
                # The weight of an adversarial loss balances it against the generators' other
                # losses; a discriminator has no others.
                losses |= self.losses[f"adversarial_{domain}"].evaluate(
                    f"D_{domain}", D, fake, real, method="discriminator", weighted=False
                )
                name = f"penalty_{domain}"
                eager_D = self.eager_D[f"D_{domain}"]
                losses |= self.losses[name].evaluate(name, eager_D, fake, real, clock=clock)
        return losses

    def due_generators(self, clock: Clock) -> Hashable:
        """Key of the CUDA graph to use: which generator losses are active at this step."""
        return self._due(clock, penalties=False)

    def due_discriminators(self, clock: Clock) -> Hashable:
        """The same for the discriminators, whose adversarial losses are always active."""
        return self._due(clock, penalties=True)

    def _due(self, clock: Clock, *, penalties: bool) -> Hashable:
        names = [n for n, (slot, _) in SLOT_NAMES.items() if (slot.kind == "penalty") == penalties]
        return tuple(part.due(clock) for name in names for part in self.losses[name].losses)

    def _arguments(self, slot: LossSlot, domain: str, images: Images) -> tuple[Any, ...]:
        if slot.compares is not None:
            made, target = slot.images(domain)
            return same_size(images[made], images[target])
        if slot.kind == "nce":
            source, fake = images[f"real_{OTHER_DOMAIN[domain]}"], images[f"fake_{domain}"]
            return self.model.executors, domain, source, fake
        return self.D[f"D_{domain}"], images[f"fake_{domain}"], images[f"real_{domain}"]


def augment(discriminators: Mapping[str, Any], diffaugment: Expression) -> dict[str, Any]:
    """The discriminators, which see real and fake images augmented alike (Zhao et al., 2020)."""
    for term in diffaugment:
        if term.weight != 1:
            raise UserError(
                f"--{term.option}: {term.name} takes no weight: leave {term.weight:g}* out"
            )
    augmentations = [parts.build(term, DIFFAUGMENTS) for term in diffaugment]
    if not augmentations:
        return dict(discriminators)
    if not discriminators:
        raise UserError("--diffaugment is for discriminators, and --adversarial none has none")
    return {name: AugmentedDiscriminator(D, augmentations) for name, D in discriminators.items()}


def cycle_errors(images: Images) -> Losses:
    """The cycle error of each reconstructed image, the mean of |rec - real| on the scale 0 to 255:
    error_A and error_B, each of shape (N,).
    """
    return {
        f"error_{domain}": 127.5
        * (images[f"rec_{domain}"].detach().float() - images[f"real_{domain}"])
        .abs()
        .flatten(1)
        .mean(1)
        for domain in "AB"
        if f"rec_{domain}" in images
    }


def same_size(image: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both images at the size of the smaller one: with --scale a translation and its source
    differ in size, and the larger is reduced by bicubic interpolation.
    """
    if image.shape == other.shape:
        return image, other
    size = min(image.shape[-2:], other.shape[-2:])
    return _reduced(image, size), _reduced(other, size)


def _reduced(image: Tensor, size: torch.Size) -> Tensor:
    if image.shape[-2:] == size:
        return image
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True)
