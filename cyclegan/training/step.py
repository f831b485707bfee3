"""One training step: the generators learn, then the discriminators."""

from typing import Any

import torch
from torch import Tensor

from cyclegan.errors import UserError
from cyclegan.losses import ADVERSARIAL_LOSSES, IMAGE_LOSSES
from cyclegan.losses.terms import Slot
from cyclegan.settings import TrainSettings
from cyclegan.training.model import CycleGAN, Images
from cyclegan.training.optim import adam
from cyclegan.training.pool import ImagePool

Losses = dict[str, Tensor]


class Stepper:
    """The two sides' losses, optimizers and pools; `step` is the whole algorithm."""

    def __init__(self, model: CycleGAN, settings: TrainSettings, *, trusted: bool = True) -> None:
        self.model = model
        common: dict[str, Any] = {"trusted": trusted, "device": next(model.parameters()).device}
        self.adversarial = Slot(
            settings.adversarial, ADVERSARIAL_LOSSES, slot="adversarial", **common
        )
        check_game(self.adversarial)
        self.cycle, self.identity, self.content = (
            {
                domain: Slot(
                    settings.slot(slot, domain),
                    IMAGE_LOSSES,
                    slot=settings.slot_option(slot, domain),
                    **common,
                )
                for domain in "AB"
            }
            for slot in ("cycle", "identity", "content")
        )
        self.optimizer_G = adam(model.generators.parameters(), lr=settings.lr, beta1=settings.beta1)
        self.optimizer_D = adam(
            model.discriminators.parameters(),
            lr=settings.lr if settings.lr_D is None else settings.lr_D,
            beta1=settings.beta1,
        )
        self.pools = {
            domain: ImagePool(settings.pool_size, seed=settings.seed + offset)
            for offset, domain in enumerate("AB")
        }

    def step(self, real_A: Tensor, real_B: Tensor) -> Losses:
        """NCHW batches of either domain in [-1, 1]; gives the losses, detached, on the device."""
        images = self.model(real_A, real_B)

        self.model.discriminators.requires_grad_(False)
        losses_G = minimize(self.optimizer_G, self.generator_losses(images))

        self.model.discriminators.requires_grad_(True)
        losses_D = minimize(self.optimizer_D, self.discriminator_losses(images))

        return losses_G | losses_D

    def generator_losses(self, images: Images) -> Losses:
        """One flat dict: its sum is what the generators minimize, its keys name the curves."""
        D_A, D_B = self.model.discriminators["D_A"], self.model.discriminators["D_B"]
        real_A, real_B = images.real_A, images.real_B
        losses = {
            **self.adversarial.evaluate(
                "adversarial_A", lambda loss: loss.generator(D_A, images.fake_A, real_A)
            ),
            **self.adversarial.evaluate(
                "adversarial_B", lambda loss: loss.generator(D_B, images.fake_B, real_B)
            ),
            **self.cycle["A"].image_losses("cycle_A", images.rec_A, real_A),
            **self.cycle["B"].image_losses("cycle_B", images.rec_B, real_B),
            **self.content["A"].image_losses("content_A", images.fake_A, real_B),
            **self.content["B"].image_losses("content_B", images.fake_B, real_A),
        }
        if images.idt_A is not None:
            losses |= self.identity["A"].image_losses("identity_A", images.idt_A, real_A)
        if images.idt_B is not None:
            losses |= self.identity["B"].image_losses("identity_B", images.idt_B, real_B)
        return losses

    def discriminator_losses(self, images: Images) -> Losses:
        # Fakes are detached by the pools: this step must not reach the generators.
        fake_A = self.pools["A"].query(images.fake_A)
        fake_B = self.pools["B"].query(images.fake_B)
        D_A, D_B = self.model.discriminators["D_A"], self.model.discriminators["D_B"]
        # A weight on the adversarial loss balances it against the generators' other losses; a
        # discriminator has no others.
        return {
            **self.adversarial.evaluate(
                "D_A", lambda loss: loss.discriminator(D_A, fake_A, images.real_A), weighted=False
            ),
            **self.adversarial.evaluate(
                "D_B", lambda loss: loss.discriminator(D_B, fake_B, images.real_B), weighted=False
            ),
        }


def minimize(optimizer: torch.optim.Optimizer, losses: Losses) -> Losses:
    """One update towards a smaller sum; gives the values, detached."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


def check_game(adversarial: Slot) -> None:
    """Raises UserError where the discriminators would have nothing to learn by."""
    if not adversarial:
        raise UserError("--adversarial none: the discriminators would learn nothing; name one")
    for part in adversarial.losses:
        if not (hasattr(part.loss, "generator") and hasattr(part.loss, "discriminator")):
            raise UserError(
                f"--adversarial {part.label} is an image loss, not a game: it has no "
                "generator(D, fake, real) and discriminator(D, fake, real)"
            )
