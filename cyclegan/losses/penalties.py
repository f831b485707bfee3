"""Penalties on a discriminator's gradient with respect to its input images.

A penalty maps NCHW images in [-1, 1] to a scalar, with a graph that reaches the discriminator's
weights. The discriminators' step adds it every `every` steps, with `every` times its weight (lazy
regularization, Karras et al., 2020), so that its mean strength does not depend on `every`.

An image's logit is the mean over its map, and over the maps of a multiscale discriminator, as in
the losses. Some implementations differentiate the sum over a map of P patches: their squared norm
is P^2 times as large, so multiply the weight of a zero-centred penalty found there by P^2.
"""

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_count, check_number
from cyclegan.losses.adversarial import discriminator_logits


class GradientPenalty:
    """WGAN-GP (Gulrajani et al., 2017): E (|grad D(x)| - target)^2, x at a uniformly random place
    on the line between a real image and a fake. The paper's weight is 10, with every=1.

    Raises ValueError if fakes and real images have different shapes.
    """

    def __init__(self, *, every: int = 16, target: float = 1.0) -> None:
        self.every = check_count("every", every)
        self.target = check_number("target", target)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        gradients = _gradients(discriminator, _interpolated(fake, real), real=False)
        # vector_norm has the gradient 0 at 0; the square root of a sum of squares has NaN.
        excess: Tensor = torch.linalg.vector_norm(gradients, dim=1) - self.target
        return excess.square().mean()


class ZeroCentered:
    """E |grad D(x)|^2, x real images or fakes (Mescheder et al., 2018), or mixed: at a uniformly
    random place on the line between the two (Thanh-Tung et al., 2019).

    Raises ValueError if fakes and real images of different shapes are to be mixed.
    """

    def __init__(self, *, on: str = "mixed", every: int = 16) -> None:
        self.on = check_choice("on", on, ("real", "fake", "mixed"))
        self.every = check_count("every", every)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        if self.on == "real":
            return _squared_norm(discriminator, real, real=True)
        images = fake if self.on == "fake" else _interpolated(fake, real)
        return _squared_norm(discriminator, images, real=False)


class R1:
    """E |grad D(real)|^2 / 2 (Mescheder et al., 2018): its weight is the papers' gamma, where they
    write gamma/2 before the square; 10 with one logit an image in StyleGAN.
    """

    def __init__(self, *, every: int = 16) -> None:
        self.every = check_count("every", every)

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * _squared_norm(discriminator, real, real=True)


class R2(R1):
    """E |grad D(fake)|^2 / 2 (Mescheder et al., 2018), the mirror of R1; its weight is gamma."""

    def __call__(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return 0.5 * _squared_norm(discriminator, fake, real=False)


def _squared_norm(discriminator: nn.Module, images: Tensor, *, real: bool) -> Tensor:
    return _gradients(discriminator, images, real=real).square().sum(1).mean()


def _gradients(discriminator: nn.Module, images: Tensor, *, real: bool) -> Tensor:
    """The gradient of each image's mean logit, N x (C * H * W), in float32 at least."""
    images = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
    # Squares of small gradients underflow in half precision, and the double backward amplifies.
    with torch.autocast(images.device.type, enabled=False):
        maps = discriminator_logits(discriminator, images, real=real)
        logits = torch.stack([each.flatten(1).mean(1) for each in maps]).mean(0)
        (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.flatten(1)


def _interpolated(fake: Tensor, real: Tensor) -> Tensor:
    """Mixtures of a fake and a real image each, with one uniform random weight per image."""
    if fake.shape != real.shape:
        shapes = f"{tuple(fake.shape)} and {tuple(real.shape)}"
        raise ValueError(f"fakes and real images of shapes {shapes} cannot be interpolated")
    weight = torch.rand(len(real), 1, 1, 1, device=real.device)
    return weight * real + (1 - weight) * fake
