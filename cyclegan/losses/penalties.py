"""Penalties on a discriminator's slope: its gradient with respect to the images it judges.

An image's logit is the mean over its map, and over the maps of a multiscale discriminator, as in
the losses. Some codes differentiate the sum over a map instead: of P patches its squared slope is
P^2 times as large, so a weight for zero-centred penalties found there is to be multiplied by P^2.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_count, check_number
from cyclegan.losses.adversarial import judge


class Penalty(Protocol):
    """NCHW images in [-1, 1] to a scalar, with a graph that reaches the discriminator's weights.

    The discriminators' step adds it each `every`-th time, then `every` times its weight (lazy
    regularization, Karras et al., 2020), so that its mean strength does not depend on `every`.
    """

    every: int

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor: ...


class GradientPenalty:
    """WGAN-GP (Gulrajani et al., 2017): E (|grad D(x)| - target)^2, x at a uniformly random place
    on the line between a real image and a fake. The paper's weight is 10, with every=1.

    Raises ValueError for fakes and real images of different shapes.
    """

    def __init__(self, *, every: int = 16, target: float = 1.0) -> None:
        self.every = check_count("every", every)
        self.target = check_number("target", target)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        slopes = _slopes(discriminator, _between(fake, real), real=False)
        # Of a slope of exactly 0 this norm has the gradient 0; a square root of squares has NaN.
        excess: Tensor = torch.linalg.vector_norm(slopes, dim=1) - self.target
        return excess.square().mean()


class ZeroCentered:
    """E |grad D(x)|^2, x real images or fakes (Mescheder et al., 2018), or mixed: at a uniformly
    random place on the line between the two (Thanh-Tung et al., 2019).

    Raises ValueError for `mixed` fakes and real images of different shapes.
    """

    def __init__(self, *, on: str = "mixed", every: int = 16) -> None:
        self.on = check_choice("on", on, ("real", "fake", "mixed"))
        self.every = check_count("every", every)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        if self.on == "real":
            return _squared_slope(discriminator, real, real=True)
        images = fake if self.on == "fake" else _between(fake, real)
        return _squared_slope(discriminator, images, real=False)


class R1:
    """E |grad D(real)|^2 / 2 (Mescheder et al., 2018): its weight is the papers' gamma, where they
    write gamma/2 before the square; 10 with one logit an image in StyleGAN.
    """

    def __init__(self, *, every: int = 16) -> None:
        self.every = check_count("every", every)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * _squared_slope(discriminator, real, real=True)


class R2:
    """E |grad D(fake)|^2 / 2 (Mescheder et al., 2018), the mirror of R1; its weight is gamma."""

    def __init__(self, *, every: int = 16) -> None:
        self.every = check_count("every", every)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * _squared_slope(discriminator, fake, real=False)


def _squared_slope(discriminator: nn.Module, images: Tensor, *, real: bool) -> Tensor:
    return _slopes(discriminator, images, real=real).square().sum(1).mean()


def _slopes(discriminator: nn.Module, images: Tensor, *, real: bool) -> Tensor:
    """Each image's gradient of its mean logit, N x (C * H * W), in float32 at least."""
    images = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
    # Squares of small gradients vanish in half precision, and the double backward amplifies.
    with torch.autocast(images.device.type, enabled=False):
        maps = judge(discriminator, images, real=real)
        logits = torch.stack([each.flatten(1).mean(1) for each in maps]).mean(0)
        (slopes,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slopes.flatten(1)


def _between(fake: Tensor, real: Tensor) -> Tensor:
    """Mixtures of a fake and a real image each, by one uniform number an image."""
    if fake.shape != real.shape:
        shapes = f"{tuple(fake.shape)} and {tuple(real.shape)}"
        raise ValueError(f"there is no line between fakes and real images of shapes {shapes}")
    place = torch.rand(len(real), 1, 1, 1, device=real.device)
    return place * real + (1 - place) * fake
