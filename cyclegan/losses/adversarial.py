"""The game between a generator and a discriminator, as pairs of losses."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialLoss(Protocol):
    """Both sides get the discriminator itself, so that penalties and relativistic pairs fit."""

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...


class LeastSquares:
    """LSGAN (Mao et al., 2017, with labels 1 and 0): E (D(fake) - 1)^2 for the generator,
    (E (D(real) - 1)^2 + E D(fake)^2) / 2 for the discriminator, which is 0.25 at equilibrium.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return _squared_distance(discriminator(fake), 1.0)

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        loss_real = _squared_distance(discriminator(real), 1.0)
        return 0.5 * (loss_real + _squared_distance(discriminator(fake), 0.0))


class CrossEntropy:
    """The first GAN loss on logits (Goodfellow et al., 2014), non-saturating for the generator:
    -E log s(D(fake)); discriminator -(E log s(D(real)) + E log(1 - s(D(fake)))) / 2, s the sigmoid.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return functional.softplus(-discriminator(fake)).mean()

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        loss_real = functional.softplus(-discriminator(real)).mean()
        return 0.5 * (loss_real + functional.softplus(discriminator(fake)).mean())


def _squared_distance(logits: Tensor, label: float) -> Tensor:
    return functional.mse_loss(logits, torch.full_like(logits, label))
