"""The game, and slots: weights, schedules, and the names that the curves carry."""

import math

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.losses import ADVERSARIAL_LOSSES, IMAGE_LOSSES
from cyclegan.losses.adversarial import CrossEntropy, LeastSquares
from cyclegan.losses.weighted import Clock, Slot
from cyclegan.networks.discriminators.patchgan import PatchDiscriminator

SIDE = 32


def part(name: str, table: dict[str, str]):
    return parts.build(expressions.parse_one(name, option="cycle"), table)


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, SIDE, SIDE, generator=generator) * 2 - 1


class Logits(nn.Module):
    """Gives back its input, so that a test may choose the logits."""

    def forward(self, image: Tensor) -> Tensor:
        return image


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_generators_side_is_one_number_whose_gradient_reaches_the_fake(name: str) -> None:
    discriminator = PatchDiscriminator(2).requires_grad_(False)
    fake = images(0).requires_grad_()
    loss = part(name, ADVERSARIAL_LOSSES).generator(discriminator, fake, images(1))
    loss.backward()
    assert loss.shape == ()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()
    assert fake.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_the_discriminators_side_is_one_number_that_reaches_its_weights(name: str) -> None:
    discriminator = PatchDiscriminator(2)
    loss = part(name, ADVERSARIAL_LOSSES).discriminator(discriminator, images(0), images(1))
    loss.backward()
    assert loss.shape == ()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())
    assert discriminator.model[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_both_sides_pull_undecided_logits_their_own_way(name: str) -> None:
    loss = part(name, ADVERSARIAL_LOSSES)
    fake, real = (torch.full((1, 1, 2, 2), 0.5, requires_grad=True) for _ in range(2))
    (pull,) = torch.autograd.grad(loss.generator(Logits(), fake, real), fake)
    assert (pull < 0).all()
    on_fake, on_real = torch.autograd.grad(loss.discriminator(Logits(), fake, real), (fake, real))
    assert (on_fake > 0).all()
    assert (on_real < 0).all()


@pytest.mark.parametrize(
    ("loss", "real", "fake", "generator", "discriminator"),
    [
        (LeastSquares(), 0.0, 0.0, 1.0, 0.5),
        (LeastSquares(), 0.5, 0.5, 0.25, 0.25),
        (LeastSquares(), 1.0, 0.0, 1.0, 0.0),
        (LeastSquares(), 3.0, -1.0, 4.0, 2.5),
        (CrossEntropy(), 0.0, 0.0, math.log(2), math.log(2)),
        (
            CrossEntropy(),
            2.0,
            -1.0,
            math.log(1 + math.e),
            (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2,
        ),
        (CrossEntropy(), -500.0, -500.0, 500.0, 250.0),
    ],
)
def test_adversarial_values_by_hand(
    loss, real: float, fake: float, generator: float, discriminator: float
) -> None:
    logits = [torch.full((2, 1, 3, 3), value, dtype=torch.float64) for value in (fake, real)]
    assert float(loss.generator(Logits(), *logits)) == pytest.approx(generator, rel=1e-9)
    assert float(loss.discriminator(Logits(), *logits)) == pytest.approx(discriminator, rel=1e-9)


def test_cross_entropy_agrees_with_torch() -> None:
    fake, real = images(0), images(1)
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = 0.5 * (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake)))
    assert torch.allclose(CrossEntropy().discriminator(Logits(), fake, real), expected)
    assert torch.allclose(
        CrossEntropy().generator(Logits(), fake, real), bce(fake, torch.ones_like(fake))
    )


def pair(value: float) -> tuple[Tensor, Tensor]:
    """Images that differ by `value` everywhere; the first carries the gradient."""
    return torch.full((1, 3, 4, 4), value, requires_grad=True), torch.zeros(1, 3, 4, 4)


def plain(values: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in values.items()}


def test_a_single_loss_reports_its_weighted_value_under_the_slots_name() -> None:
    slot = Slot(expressions.parse("10*l1", option="cycle"), IMAGE_LOSSES)
    assert plain(slot.image_losses("cycle_A", *pair(1.0))) == {"cycle_A": 10.0}


def test_several_losses_report_each_under_its_own_name() -> None:
    slot = Slot(expressions.parse("2*l1 + 0.5*l2", option="cycle"), IMAGE_LOSSES)
    values = plain(slot.image_losses("cycle_A", *pair(3.0)))
    assert values == {"cycle_A.l1": 6.0, "cycle_A.l2": 4.5}


def test_the_discriminators_side_leaves_the_weight_out() -> None:
    slot = Slot(expressions.parse("3*lsgan", option="adversarial"), ADVERSARIAL_LOSSES)
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    values = slot.evaluate("D_A", Logits(), zero, zero, method="discriminator", weighted=False)
    assert plain(values) == {"D_A": 0.5}


def test_none_is_an_empty_slot() -> None:
    slot = Slot(expressions.parse("none", option="identity"), IMAGE_LOSSES)
    assert not slot
    assert slot.image_losses("identity_A", *pair(1.0)) == {}


def test_any_pair_loss_of_torch_is_an_image_loss() -> None:
    slot = Slot(expressions.parse("torch.nn.HuberLoss(delta=1.0)", option="cycle"), IMAGE_LOSSES)
    assert plain(slot.image_losses("cycle_A", *pair(3.0))) == {"cycle_A": 2.5}


@pytest.mark.parametrize(
    ("progress", "weight"), [(0.0, 6.0), (0.1, 5.0), (0.2, 4.0), (0.4, 2.0), (0.9, 2.0)]
)
def test_a_weight_goes_in_a_straight_line_to_where_it_decays(progress, weight) -> None:
    slot = Slot(expressions.parse("6*l1(decay_to=2, over=0.4)", option="identity"), IMAGE_LOSSES)
    values = slot.image_losses("identity_A", *pair(1.0), Clock(progress=progress))
    assert plain(values) == {"identity_A": pytest.approx(weight)}


def test_a_schedule_leaves_a_losss_own_options_to_it() -> None:
    slot = Slot(
        expressions.parse("1*torch.nn.HuberLoss(delta=2.0, decay_to=0)", option="cycle"),
        IMAGE_LOSSES,
    )
    values = slot.image_losses("cycle_A", *pair(3.0), Clock(progress=0.5))
    assert plain(values) == {"cycle_A": pytest.approx(0.5 * 2.0 * (3.0 - 1.0))}


def test_a_loss_whose_weight_has_decayed_to_nothing_is_not_computed() -> None:
    slot = Slot(expressions.parse("6*l1(decay_to=0, over=0.5)", option="identity"), IMAGE_LOSSES)
    assert slot.due(Clock(progress=0.4))
    assert not slot.due(Clock(progress=0.5))
    assert slot.image_losses("identity_A", *pair(1.0), Clock(progress=0.5)) == {}


@pytest.mark.parametrize(
    "schedule",
    ["decay_to=-1", "decay_to=a", "decay_to=true", "decay_to=0, over=0", "decay_to=0, over=2"],
)
def test_a_schedule_that_is_none_is_refused(schedule: str) -> None:
    with pytest.raises(UserError, match=r"--cycle: l1: (decay_to|over)=\S+ must be"):
        Slot(expressions.parse(f"l1({schedule})", option="cycle"), IMAGE_LOSSES)


def test_a_loss_that_gives_no_single_number_is_named_in_one_line() -> None:
    slot = Slot(expressions.parse("l1(reduction=none)", option="cycle"), IMAGE_LOSSES)
    with pytest.raises(UserError, match="--cycle: l1") as error:
        slot.image_losses("cycle_A", *pair(1.0))
    assert "\n" not in str(error.value)


def test_a_loss_without_gradient_is_named() -> None:
    slot = Slot(expressions.parse("l1", option="cycle"), IMAGE_LOSSES)
    with pytest.raises(UserError, match="--cycle: l1 gives a number without gradient"):
        slot.image_losses("cycle_A", images(0), images(1))
