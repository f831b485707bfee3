"""Adversarial losses: what a generator and its discriminator each minimize."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialLoss(Protocol):
    """Both methods take the discriminator itself, so that relativistic losses fit; `fake` and
    `real` are NCHW in [-1, 1]. The discriminator's weights are frozen in `generator`, and `fake` is
    detached in `discriminator`. A loss that diverges without a penalty on the discriminator has the
    attribute `needs_penalty = True`.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...


def discriminator_logits(discriminator: nn.Module, images: Tensor, *, real: bool) -> list[Tensor]:
    """The discriminator's maps of logits: one, or several of a multiscale discriminator.

    They are in float32 at least, also under autocast. A discriminator with the attribute
    `keeps_queues` is told whether the images are real.
    """
    told = {"real": real} if getattr(discriminator, "keeps_queues", False) else {}
    return _float32_maps(discriminator(images, **told))


# The former name, which users' own losses may import.
judge = discriminator_logits


def fake_and_real_logits(
    discriminator: nn.Module, fake: Tensor, real: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The maps of fake and of real images, computed in one pass if the attribute `per_sample` says
    that the discriminator treats each image separately.
    """
    if not getattr(discriminator, "per_sample", False) or fake.shape[1:] != real.shape[1:]:
        reals = discriminator_logits(discriminator, real, real=True)
        return discriminator_logits(discriminator, fake, real=False), reals
    maps = _float32_maps(discriminator(torch.cat([fake, real])))
    return [each[: len(fake)] for each in maps], [each[len(fake) :] for each in maps]


class LeastSquares:
    """LSGAN (Mao et al., 2017, with labels 1 and 0): E (D(fake) - 1)^2 for the generator,
    (E (D(real) - 1)^2 + E D(fake)^2) / 2 for the discriminator, which is 0.25 at equilibrium.
    At logits 0 they are 1 and 0.5.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes = discriminator_logits(discriminator, fake, real=False)
        return _mean(_squared_error(logits, 1.0) for logits in fakes)

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes, reals = fake_and_real_logits(discriminator, fake, real)
        on_real = _mean(_squared_error(logits, 1.0) for logits in reals)
        return 0.5 * (on_real + _mean(_squared_error(logits, 0.0) for logits in fakes))


class NonSaturating:
    """The first GAN loss on logits (Goodfellow et al., 2014) as StyleGAN writes it, s the sigmoid:
    -E log s(D(fake)) for the generator, -E log s(D(real)) - E log(1 - s(D(fake))) for the
    discriminator. At logits 0 they are log 2 = 0.693 and 2 log 2 = 1.386.

    `vanilla` halves the discriminator's loss, as the classic implementation does. Adam cancels the
    factor, but not against a penalty, whose published weights are for this loss.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes = discriminator_logits(discriminator, fake, real=False)
        return _mean(functional.softplus(-logits).mean() for logits in fakes)

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes, reals = fake_and_real_logits(discriminator, fake, real)
        on_real = _mean(functional.softplus(-logits).mean() for logits in reals)
        return on_real + _mean(functional.softplus(logits).mean() for logits in fakes)


class CrossEntropy(NonSaturating):
    """The first GAN loss on logits (Goodfellow et al., 2014), non-saturating for the generator:
    -E log s(D(fake)); discriminator -(E log s(D(real)) + E log(1 - s(D(fake)))) / 2, s the sigmoid.
    At logits 0 both are log 2 = 0.693.
    """

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * super().discriminator(discriminator, fake, real)


class Wasserstein:
    """WGAN (Arjovsky et al., 2017): -E D(fake) for the generator, E D(fake) - E D(real) for the
    discriminator, a critic whose output is unbounded. At logits 0 both are 0.

    It estimates the Wasserstein distance only if a penalty keeps the critic 1-Lipschitz.
    """

    needs_penalty = True

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes = discriminator_logits(discriminator, fake, real=False)
        return -_mean(logits.mean() for logits in fakes)

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes, reals = fake_and_real_logits(discriminator, fake, real)
        on_real = _mean((-logits).mean() for logits in reals)
        return on_real + _mean(logits.mean() for logits in fakes)


class Hinge(Wasserstein):
    """Hinge loss (Lim and Ye, 2017; SAGAN, Zhang et al., 2019): -E D(fake) for the generator, as in
    WGAN, E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) for the discriminator, which gets no
    gradient from images beyond the margin. At logits 0 they are 0 and 2.
    """

    needs_penalty = False

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes, reals = fake_and_real_logits(discriminator, fake, real)
        on_real = _mean(functional.relu(1 - logits).mean() for logits in reals)
        return on_real + _mean(functional.relu(1 + logits).mean() for logits in fakes)


class Relativistic:
    """Relativistic pairing (R3GAN, Huang et al., 2024; Jolicoeur-Martineau, 2018): each fake is
    compared with one real image, -E log s(D(fake) - D(real)) for the generator and
    -E log s(D(real) - D(fake)) for the discriminator, s the sigmoid, D(.) the mean of an image's
    map. At logits 0 both are log 2 = 0.693. It converges with `r1` and `r2` as penalties.

    The first fake is paired with the first real image, and so on: raises ValueError if the batches
    have different sizes.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        with torch.no_grad():
            reals = discriminator_logits(discriminator, real, real=True)
        fakes = discriminator_logits(discriminator, fake, real=False)
        return _mean(map(self.compare, fakes, reals))

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        fakes, reals = fake_and_real_logits(discriminator, fake, real)
        return _mean(map(self.compare, reals, fakes))

    def compare(self, higher: Tensor, lower: Tensor) -> Tensor:
        """The loss on one map, which decreases as the logits `higher` exceed `lower`."""
        if len(higher) != len(lower):
            sizes = f"not {len(higher)} with {len(lower)}"
            raise ValueError(f"relativistic pairs as many fakes as real images, {sizes}")
        difference = higher.flatten(1).mean(1) - lower.flatten(1).mean(1)
        return functional.softplus(-difference).mean()


class RelativisticAverageLeastSquares(Relativistic):
    """RaLSGAN (Jolicoeur-Martineau, 2018): every patch is compared with the average patch of the
    other side. (E (D(fake) - E D(real) - 1)^2 + E (D(real) - E D(fake) + 1)^2) / 2 for the
    generator, the same with the two signs exchanged for the discriminator. At logits 0 both are 1.

    The factor 1/2 is in the author's code, not in the paper's equations.
    """

    def compare(self, higher: Tensor, lower: Tensor) -> Tensor:
        above = _squared_error(higher - lower.mean(), 1.0)
        return 0.5 * (above + _squared_error(lower - higher.mean(), -1.0))


def _float32_maps(logits: Tensor | list[Tensor]) -> list[Tensor]:
    maps = [logits] if isinstance(logits, Tensor) else list(logits)
    # Losses are differences of logits, and half precision would leave two digits of them.
    return [each.to(torch.promote_types(each.dtype, torch.float32)) for each in maps]


def _mean(losses: Iterable[Tensor]) -> Tensor:
    """The mean over the discriminator's maps."""
    return torch.stack(list(losses)).mean()


def _squared_error(logits: Tensor, label: float) -> Tensor:
    return functional.mse_loss(logits, torch.full_like(logits, label))
