"""The game between a generator and a discriminator, as pairs of losses."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialLoss(Protocol):
    """Both sides get the discriminator itself, so that relativistic pairs fit; `fake` and `real`
    are NCHW in [-1, 1]. The generator's side runs with the discriminator's weights frozen, the
    discriminator's with `fake` detached. A loss that is nothing without a penalty on the
    discriminator says so by the attribute `needs_penalty = True`.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...


def judge(discriminator: nn.Module, images: Tensor, *, real: bool) -> list[Tensor]:
    """The discriminator's maps of logits, one for a single judge, several for a multiscale one.

    In float32 at least, also under autocast. A discriminator with the attribute `keeps_queues` is
    told whether the images are real ones.
    """
    if getattr(discriminator, "keeps_queues", False):
        return _maps(discriminator(images, real=real))
    return _maps(discriminator(images))


def judge_both(
    discriminator: nn.Module, fake: Tensor, real: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The maps of fake and of real images: by one pass, where the discriminator says that it judges
    each image by itself (`per_sample`).
    """
    if not getattr(discriminator, "per_sample", False) or fake.shape[1:] != real.shape[1:]:
        reals = judge(discriminator, real, real=True)
        return judge(discriminator, fake, real=False), reals
    maps = _maps(discriminator(torch.cat([fake, real])))
    return [each[: len(fake)] for each in maps], [each[len(fake) :] for each in maps]


class LeastSquares:
    """LSGAN (Mao et al., 2017, with labels 1 and 0): E (D(fake) - 1)^2 for the generator,
    (E (D(real) - 1)^2 + E D(fake)^2) / 2 for the discriminator, which is 0.25 at equilibrium.
    At logits 0 they are 1 and 0.5.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return _mean([_squared(logits, 1.0) for logits in judge(discriminator, fake, real=False)])

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * _separate(
            discriminator,
            fake,
            real,
            on_fake=lambda logits: _squared(logits, 0.0),
            on_real=lambda logits: _squared(logits, 1.0),
        )


class NonSaturating:
    """The first GAN loss on logits (Goodfellow et al., 2014) as StyleGAN writes it, s the sigmoid:
    -E log s(D(fake)) for the generator, -E log s(D(real)) - E log(1 - s(D(fake))) for the
    discriminator. At logits 0 they are log 2 = 0.693 and 2 log 2 = 1.386.

    `vanilla` is the same with the discriminator's side halved, as the classic implementation has
    it. Adam undoes the factor, but not against a penalty, whose published weights are for this one.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        maps = judge(discriminator, fake, real=False)
        return _mean([functional.softplus(-logits).mean() for logits in maps])

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return _separate(
            discriminator,
            fake,
            real,
            on_fake=functional.softplus,
            on_real=lambda logits: functional.softplus(-logits),
        )


class CrossEntropy(NonSaturating):
    """The first GAN loss on logits (Goodfellow et al., 2014), non-saturating for the generator:
    -E log s(D(fake)); discriminator -(E log s(D(real)) + E log(1 - s(D(fake)))) / 2, s the sigmoid.
    At logits 0 both are log 2 = 0.693.
    """

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * super().discriminator(discriminator, fake, real)


class Wasserstein:
    """WGAN (Arjovsky et al., 2017): -E D(fake) for the generator, E D(fake) - E D(real) for the
    discriminator, a critic without bounds. At logits 0 both are 0.

    It measures a distance only while the critic's slope is held to 1, which a penalty does.
    """

    needs_penalty = True

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return -_mean([logits.mean() for logits in judge(discriminator, fake, real=False)])

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return _separate(
            discriminator,
            fake,
            real,
            on_fake=lambda logits: logits,
            on_real=lambda logits: -logits,
        )


class Hinge(Wasserstein):
    """Hinge loss (Lim and Ye, 2017; SAGAN, Zhang et al., 2019): -E D(fake) for the generator,
    E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) for the discriminator, which lets go of images
    it is sure of. At logits 0 they are 0 and 2. The generator's side is that of WGAN.
    """

    needs_penalty = False

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return _separate(
            discriminator,
            fake,
            real,
            on_fake=lambda logits: functional.relu(1 + logits),
            on_real=lambda logits: functional.relu(1 - logits),
        )


class Relativistic:
    """Relativistic pairing (R3GAN, Huang et al., 2024; Jolicoeur-Martineau, 2018): each fake is
    judged against one real image, -E log s(D(fake) - D(real)) for the generator and
    -E log s(D(real) - D(fake)) for the discriminator, s the sigmoid, D(.) the mean of an image's
    map. At logits 0 both are log 2 = 0.693. It converges with `r1` and `r2` as penalties.

    The first fake is paired with the first real image, and so on: ValueError for batches of
    different sizes.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        pairs = _pairs(discriminator, fake, real, frozen=True)
        return _mean([functional.softplus(-_lead(fakes, reals)).mean() for fakes, reals in pairs])

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        pairs = _pairs(discriminator, fake, real)
        return _mean([functional.softplus(_lead(fakes, reals)).mean() for fakes, reals in pairs])


class RelativisticAverageLeastSquares:
    """RaLSGAN (Jolicoeur-Martineau, 2018): every patch is judged against the average patch of the
    other side. (E (D(fake) - E D(real) - 1)^2 + E (D(real) - E D(fake) + 1)^2) / 2 for the
    generator, the same with the two signs exchanged for the discriminator. At logits 0 both are 1.

    The halves are those of the author's code; the paper's equations are without.
    """

    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        pairs = _pairs(discriminator, fake, real, frozen=True)
        return _mean([_average_game(above=fakes, below=reals) for fakes, reals in pairs])

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        pairs = _pairs(discriminator, fake, real)
        return _mean([_average_game(above=reals, below=fakes) for fakes, reals in pairs])


def _maps(logits: Tensor | list[Tensor]) -> list[Tensor]:
    maps = [logits] if isinstance(logits, Tensor) else list(logits)
    # Losses are differences of logits, of which half precision would leave two digits.
    return [each.to(torch.promote_types(each.dtype, torch.float32)) for each in maps]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def _squared(logits: Tensor, label: float) -> Tensor:
    return functional.mse_loss(logits, torch.full_like(logits, label))


def _separate(
    discriminator: nn.Module,
    fake: Tensor,
    real: Tensor,
    *,
    on_fake: Callable[[Tensor], Tensor],
    on_real: Callable[[Tensor], Tensor],
) -> Tensor:
    """The sum of a loss on the logits of real images and one on those of fakes."""
    fakes, reals = judge_both(discriminator, fake, real)
    loss_real = _mean([on_real(logits).mean() for logits in reals])
    return loss_real + _mean([on_fake(logits).mean() for logits in fakes])


def _pairs(
    discriminator: nn.Module, fake: Tensor, real: Tensor, *, frozen: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """The logits of fake and real images, map by map; with frozen=True those of the real images
    carry no gradient, because neither they nor the discriminator are to change.
    """
    if not frozen:
        return list(zip(*judge_both(discriminator, fake, real), strict=True))
    with torch.no_grad():
        reals = judge(discriminator, real, real=True)
    return list(zip(judge(discriminator, fake, real=False), reals, strict=True))


def _lead(fakes: Tensor, reals: Tensor) -> Tensor:
    """How far each fake's mean logit is above its real partner's, N."""
    if len(fakes) != len(reals):
        sizes = f"{len(fakes)} fakes and {len(reals)} real images"
        raise ValueError(f"relativistic pairs one fake with one real image, but there are {sizes}")
    return fakes.flatten(1).mean(1) - reals.flatten(1).mean(1)


def _average_game(*, above: Tensor, below: Tensor) -> Tensor:
    """Least when `above` is 1 above the average of `below`, and `below` 1 below that of `above`."""
    up = _squared(above - below.mean(), 1.0)
    return 0.5 * (up + _squared(below - above.mean(), -1.0))
