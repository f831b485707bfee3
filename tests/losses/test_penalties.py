"""Penalties on discriminators whose slope is known, and on those that there are."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.losses import PENALTIES
from cyclegan.networks import DISCRIMINATORS

EVERY_KIND = [*PENALTIES, "zero_centered(on=real)", "zero_centered(on=fake)"]
WEIGHTS = torch.tensor([0.5, -1.0, 2.0])
SQUARES = 5.25


def part(name: str) -> Any:
    return parts.build(expressions.parse_one(name, option="penalty"), PENALTIES)


def images(seed: int, count: int = 2, side: int = 4) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=random) * 2 - 1


class Linear(nn.Module):
    """One logit a pixel, its slope the same three weights everywhere; or several such maps."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(WEIGHTS.clone())
        self.factors = factors

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        logits = torch.einsum("nchw, c -> nhw", image, self.weights)[:, None]
        return [factor * logits for factor in self.factors] if self.factors else logits


class Square(nn.Module):
    """Half the sum of squares: the slope is the image itself, so it tells where it was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        return self.factor * 0.5 * image.square().sum((1, 2, 3), keepdim=True)


class Queues(Square):
    keeps_queues = True

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bool] = []
        self.images_require_grad = True

    def forward(self, image: Tensor, *, real: bool = False) -> Tensor:
        self.told.append(real)
        self.images_require_grad &= image.requires_grad
        return super().forward(image)


# The mean over 16 patches has the slope weights / 16 in each of the 16 pixels: a square of
# 5.25 / 16 an image.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_penalty", (math.sqrt(SQUARES / 16) - 1) ** 2),
        ("gradient_penalty(target=0.25)", (math.sqrt(SQUARES / 16) - 0.25) ** 2),
        ("zero_centered", SQUARES / 16),
        ("zero_centered(on=real)", SQUARES / 16),
        ("zero_centered(on=fake)", SQUARES / 16),
        ("r1", SQUARES / 32),
        ("r2", SQUARES / 32),
    ],
)
def test_values_on_a_linear_discriminator(name: str, value: float) -> None:
    penalty = part(name)(Linear(), images(0), images(1))
    assert penalty.shape == ()
    assert float(penalty.detach()) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_several_maps_are_judged_by_their_mean(name: str) -> None:
    together = part(name)(Linear(1.0, 4.0, -2.0), images(0), images(1))
    assert torch.allclose(together, part(name)(Linear(), images(0), images(1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r1", (48 * 0.25) / 2),
        ("r2", (48 * 4.0) / 2),
        ("zero_centered(on=real)", 48 * 0.25),
        ("zero_centered(on=fake)", 48 * 4.0),
    ],
)
def test_real_images_and_fakes_are_not_confused(name: str, value: float) -> None:
    fake, real = torch.full((2, 3, 4, 4), 2.0), torch.full((2, 3, 4, 4), 0.5)
    assert float(part(name)(Square(), fake, real).detach()) == pytest.approx(value)


@pytest.mark.parametrize("name", ["gradient_penalty(target=0)", "zero_centered"])
def test_mixed_images_lie_between_by_one_uniform_number_each(name: str) -> None:
    # From -1 to 1: of a uniform place on the line the mean square is 1/3; one number a pixel
    # would give each image nearly that, one number an image spreads them over all of [0, 1].
    torch.manual_seed(0)
    fake, real = torch.full((1, 1, 8, 8), -1.0), torch.full((1, 1, 8, 8), 1.0)
    values = torch.stack([part(name)(Square(), fake, real).detach() / 64 for _ in range(300)])
    assert float(values.mean()) == pytest.approx(1 / 3, abs=0.06)
    assert float(values.min()) < 0.01
    assert 0.95 < float(values.max()) <= 1


@pytest.mark.parametrize("name", ["gradient_penalty", "zero_centered"])
def test_mixed_images_follow_the_global_seed(name: str) -> None:
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(float(part(name)(Square(), images(0), images(1)).detach()))
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("name", EVERY_KIND)
def test_the_weights_gradient_agrees_with_differences(name: str) -> None:
    discriminator = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Softplus(), nn.Conv2d(2, 1, 2)).double()
    fake, real = images(0).double(), images(1).double()
    weight = discriminator[0].weight

    def value() -> Tensor:
        torch.manual_seed(0)
        return part(name)(discriminator, fake, real)

    (slope,) = torch.autograd.grad(value(), weight)
    nudge = torch.zeros_like(weight)
    nudge[1, 2, 0, 1] = 1e-6
    with torch.no_grad():
        weight += nudge
    above = float(value().detach())
    with torch.no_grad():
        weight -= 2 * nudge
    below = float(value().detach())
    assert float(slope[1, 2, 0, 1]) == pytest.approx((above - below) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_flat_discriminator_has_finite_gradients(name: str) -> None:
    discriminator = Linear()
    nn.init.zeros_(discriminator.weights)
    penalty = part(name)(discriminator, images(0), images(1))
    penalty.backward()
    assert float(penalty.detach()) == (1.0 if name == "gradient_penalty" else 0.0)
    assert discriminator.weights.grad is not None
    assert discriminator.weights.grad.isfinite().all()


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@pytest.mark.parametrize("name", ["gradient_penalty", "r1", "r2"])
def test_a_penalty_reaches_the_weights_of_every_discriminator(name: str, kind: str) -> None:
    term = expressions.parse_one(kind, option="discriminator")
    discriminator = parts.build(term, DISCRIMINATORS, channels=4)
    side = max(32, discriminator.min_size)
    fake, real = images(0, side=side), images(1, side=side)
    part(name)(discriminator, fake, real).backward()
    grads = [p.grad for p in discriminator.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert sum(float(grad.abs().sum()) for grad in grads) > 0
    assert fake.grad is None
    assert real.grad is None
    assert not fake.requires_grad


@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_penalty_is_computed_in_float32_under_autocast(name: str) -> None:
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 2))
    fake, real = images(0), images(1)
    torch.manual_seed(0)
    exact = part(name)(discriminator, fake.bfloat16().float(), real)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = part(name)(discriminator, fake.bfloat16(), real)
    penalty.backward()
    assert penalty.dtype == torch.float32
    # Half precision anywhere would show in the third digit.
    assert float(penalty.detach()) == pytest.approx(float(exact.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [("r1", True), ("r2", False), ("zero_centered(on=real)", True), ("gradient_penalty", False)],
)
def test_a_discriminator_with_queues_is_told_and_can_see_a_penalty(name: str, told: bool) -> None:
    discriminator = Queues()
    part(name)(discriminator, images(0), images(1))
    assert discriminator.told == [told]
    assert discriminator.images_require_grad


@pytest.mark.parametrize("name", ["r1", "r2", "zero_centered(on=real)", "zero_centered(on=fake)"])
def test_batches_of_different_sizes_do_unless_they_are_mixed(name: str) -> None:
    assert part(name)(Linear(), images(0, count=1), images(1, count=3)).isfinite()


@pytest.mark.parametrize("name", ["gradient_penalty", "zero_centered"])
def test_images_that_cannot_be_mixed_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and \(3, 3, 4, 4\)"):
        part(name)(Linear(), images(0, count=1), images(1, count=3))


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_is_due_every_sixteenth_step_or_as_told(name: str) -> None:
    assert part(name).every == 16
    assert part(f"{name}(every=1)").every == 1


@pytest.mark.parametrize("every", ["0", "-4", "1.5", "16.0", "often", "true", "(1, 2)", "None"])
@pytest.mark.parametrize("name", PENALTIES)
def test_an_interval_that_is_no_count_is_refused(name: str, every: str) -> None:
    with pytest.raises(UserError, match=f"--penalty: {name} cannot be made: every="):
        part(f"{name}(every={every})")


@pytest.mark.parametrize("target", ["-1", "1e999", "one", "true", "(1,)"])
def test_a_target_that_is_no_slope_is_refused(target: str) -> None:
    with pytest.raises(UserError, match="target="):
        part(f"gradient_penalty(target={target})")


@pytest.mark.parametrize("place", ["both", "1", "(1, 2)", "None"])
def test_a_place_that_is_not_known_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="known: real, fake, mixed"):
        part(f"zero_centered(on={place})")
