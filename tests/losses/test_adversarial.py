"""Adversarial losses: values by hand, signs of gradients, several maps, half precision."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.losses import ADVERSARIAL_LOSSES
from cyclegan.losses.adversarial import discriminator_logits, judge
from cyclegan.networks.discriminators.patchgan import PatchDiscriminator

LOG2 = math.log(2)


def part(name: str) -> Any:
    term = expressions.parse_one(name, option="adversarial")
    return parts.build(term, ADVERSARIAL_LOSSES)


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


class Chosen(nn.Module):
    """Returns its input, once or as several maps, so that a test can choose the logits."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        if not self.factors:
            return image
        # Maps of different sizes, as a multiscale discriminator has them.
        return [factor * image.repeat(1, 1, size, 1) for size, factor in enumerate(self.factors, 1)]


class Linear(nn.Module):
    """One logit a pixel, the same weights everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.score.weight.copy_(torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1))
            self.score.bias.fill_(0.25)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.score(image)
        return logits


class Queues(nn.Module):
    keeps_queues = True

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[float, bool]] = []

    def forward(self, image: Tensor, *, real: bool = False) -> Tensor:
        self.told.append((float(image.flatten()[0].detach()), real))
        return image[:, :1]


def images(seed: int, count: int = 2, side: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1


def logits(*values: float) -> Tensor:
    """One image for each number, with a map of 2 x 2 patches of that value."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("lsgan", 1.0, 0.5),
        ("vanilla", LOG2, LOG2),
        ("nonsaturating", LOG2, 2 * LOG2),
        ("hinge", 0.0, 2.0),
        ("wgan", 0.0, 0.0),
        ("relativistic", LOG2, LOG2),
        ("ralsgan", 1.0, 1.0),
    ],
)
def test_values_at_logits_of_zero(name: str, generator: float, discriminator: float) -> None:
    zero = logits(0, 0)
    assert float(part(name).generator(Chosen(), zero, zero)) == pytest.approx(generator)
    assert float(part(name).discriminator(Chosen(), zero, zero)) == pytest.approx(discriminator)


# The logits of fakes are -0.5 and 2, of real images 3 and 0.
@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("lsgan", (2.25 + 1) / 2, 0.5 * ((4 + 1) / 2 + (0.25 + 4) / 2)),
        (
            "nonsaturating",
            (softplus(0.5) + softplus(-2)) / 2,
            (softplus(-3) + LOG2) / 2 + (softplus(-0.5) + softplus(2)) / 2,
        ),
        (
            "vanilla",
            (softplus(0.5) + softplus(-2)) / 2,
            (softplus(-3) + LOG2 + softplus(-0.5) + softplus(2)) / 4,
        ),
        ("hinge", -0.75, (0 + 1) / 2 + (0.5 + 3) / 2),
        ("wgan", -0.75, 0.75 - 1.5),
        # Pairs: -0.5 against 3, 2 against 0.
        (
            "relativistic",
            (softplus(3.5) + softplus(-2)) / 2,
            (softplus(-3.5) + softplus(2)) / 2,
        ),
        # Averages: 0.75 of the fakes, 1.5 of the real ones.
        (
            "ralsgan",
            0.5 * ((3.0**2 + 0.5**2) / 2 + (3.25**2 + 0.25**2) / 2),
            0.5 * ((1.25**2 + 1.75**2) / 2 + (1.0**2 + 1.5**2) / 2),
        ),
    ],
)
def test_values_by_hand(name: str, generator: float, discriminator: float) -> None:
    fake, real = logits(-0.5, 2), logits(3, 0)
    assert float(part(name).generator(Chosen(), fake, real)) == pytest.approx(generator)
    assert float(part(name).discriminator(Chosen(), fake, real)) == pytest.approx(discriminator)


def test_every_loss_has_a_value_by_hand() -> None:
    by_hand = {
        name
        for mark in test_values_by_hand.pytestmark  # type: ignore[attr-defined]
        for name, *_ in mark.args[1]
    }
    assert by_hand == set(ADVERSARIAL_LOSSES)


def test_relativistic_pairs_the_means_of_maps_and_not_patches() -> None:
    fake = torch.tensor([[1.0, -1.0]]).view(1, 1, 1, 2)
    real = torch.tensor([[5.0, -5.0]]).view(1, 1, 1, 2)
    assert float(part("relativistic").generator(Chosen(), fake, real)) == pytest.approx(LOG2)


def test_least_squares_at_equilibrium_is_a_quarter() -> None:
    half = logits(0.5, 0.5)
    assert float(part("lsgan").generator(Chosen(), half, half)) == 0.25
    assert float(part("lsgan").discriminator(Chosen(), half, half)) == 0.25


def test_cross_entropy_agrees_with_torch_and_does_not_overflow() -> None:
    loss, fake, real = part("vanilla"), images(0), images(1)
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = 0.5 * (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake)))
    assert torch.allclose(loss.discriminator(Chosen(), fake, real), expected)
    assert torch.allclose(loss.generator(Chosen(), fake, real), bce(fake, torch.ones_like(fake)))
    assert float(loss.generator(Chosen(), logits(-500), logits(-500))) == pytest.approx(500)
    assert float(loss.discriminator(Chosen(), logits(-500), logits(-500))) == pytest.approx(250)


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_losses_of_equal_logits_have_opposite_gradients(name: str) -> None:
    loss, (fake, real) = part(name), (logits(0.5).clone().requires_grad_() for _ in range(2))
    (gradient,) = torch.autograd.grad(loss.generator(Chosen(), fake, real), fake)
    assert (gradient < 0).all()
    on_fake, on_real = torch.autograd.grad(loss.discriminator(Chosen(), fake, real), (fake, real))
    assert (on_fake > 0).all()
    assert (on_real < 0).all()


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_discriminators_loss_reaches_the_weights_of_a_patch_discriminator(name: str) -> None:
    discriminator = PatchDiscriminator(2)
    loss = part(name).discriminator(discriminator, images(0, side=32), images(1, side=32))
    loss.backward()
    assert loss.shape == ()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())
    assert discriminator.model[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_several_maps_count_the_same_whatever_their_sizes(name: str) -> None:
    loss, fake, real = part(name), logits(-0.5, 2), logits(3, 0)
    for side in (loss.generator, loss.discriminator):
        apart = [float(side(Chosen(), factor * fake, factor * real)) for factor in (1, 3, -2)]
        together = float(side(Chosen(1, 3, -2), fake, real))
        assert together == pytest.approx(sum(apart) / 3)


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_a_generators_step_raises_the_fakes_logits(name: str) -> None:
    discriminator, fake = Linear().requires_grad_(False), images(0).requires_grad_()
    loss = part(name).generator(discriminator, fake, images(1))
    (slope,) = torch.autograd.grad(loss, fake)
    assert discriminator(fake - 0.1 * slope).mean() > discriminator(fake).mean()


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_a_discriminators_step_parts_real_images_from_fakes(name: str) -> None:
    discriminator, fake, real = Linear(), images(0) - 1, images(1) + 1
    nn.init.zeros_(discriminator.score.weight)
    part(name).discriminator(discriminator, fake, real).backward()
    torch.optim.SGD(discriminator.parameters(), lr=0.01).step()
    assert discriminator(real).mean() > discriminator(fake).mean()


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_generators_side_leaves_a_frozen_discriminator_and_real_images_alone(name: str) -> None:
    discriminator = Linear().requires_grad_(False)
    fake, real = images(0).requires_grad_(), images(1)
    loss = part(name).generator(discriminator, fake, real)
    loss.backward()
    assert loss.shape == ()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert real.grad is None
    assert fake.grad.isfinite().all()
    assert fake.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_loss_is_in_float32_under_autocast(name: str) -> None:
    discriminator, fake, real = Linear(), images(0).requires_grad_(), images(1)
    for side in (part(name).generator, part(name).discriminator):
        exact = side(discriminator, fake, real)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert discriminator(fake).dtype == torch.bfloat16
            loss = side(discriminator, fake, real)
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(float(exact.detach()), abs=0.02)


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_a_discriminator_with_queues_is_told_which_images_are_real(name: str) -> None:
    fake, real = torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 1.0)
    discriminator = Queues()
    part(name).discriminator(discriminator, fake, real)
    part(name).generator(discriminator, fake, real)
    assert {(-1.0, False), (1.0, True)} == set(discriminator.told)


def test_logits_are_a_list_of_maps() -> None:
    maps = discriminator_logits(Chosen(), images(0), real=True)
    assert [each.shape for each in maps] == [(2, 3, 4, 4)]
    maps = discriminator_logits(Chosen(1, 2), images(0), real=True)
    assert [each.shape for each in maps] == [(2, 3, 4, 4), (2, 3, 8, 4)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_are_in_float32_at_least(dtype: torch.dtype) -> None:
    (logits,) = discriminator_logits(Chosen(), images(0).to(dtype), real=False)
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_users_loss_may_still_call_judge() -> None:
    assert judge is discriminator_logits


@pytest.mark.parametrize("side", ["generator", "discriminator"])
def test_relativistic_refuses_batches_that_do_not_pair(side: str) -> None:
    call: Callable[..., Tensor] = getattr(part("relativistic"), side)
    with pytest.raises(ValueError, match="as many fakes as real images, not (1 with 3|3 with 1)"):
        call(Chosen(), logits(0), logits(0, 1, 2))


def test_only_wgan_needs_a_penalty() -> None:
    needing = [name for name in ADVERSARIAL_LOSSES if getattr(part(name), "needs_penalty", False)]
    assert needing == ["wgan"]
