"""A step whose loss or gradient is not finite leaves no trace."""

import pytest
import torch
from support.steps import build_model, build_step
from torch import Tensor, nn

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses.weighted import Clock
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan
from cyclegan.runs.checkpoints import copy_to_cpu
from cyclegan.training.algorithm.image_pool import ImagePool
from cyclegan.training.algorithm.optimizers import build_optimizer
from cyclegan.training.step import Side, TrainingStep

NAN, INF = float("nan"), float("inf")
SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    **{"ngf": 2, "ndf": 2, "pool_size": 3},
}


class Sometimes(nn.L1Loss):
    """The L1 loss times `factor`."""

    factor = 1.0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input, target) * Sometimes.factor


@pytest.fixture
def factor(monkeypatch):
    return lambda value: monkeypatch.setattr(Sometimes, "factor", value)


def stepper(speed: ExecutionPlan = EAGER_FP32, **options) -> TrainingStep:
    settings = check(TrainSettings, {**SMALL, "cycle": f"10*{__name__}.Sometimes", **options})
    torch.manual_seed(0)
    return build_step(build_model(settings), settings, plan=speed)


def learned(stepper: TrainingStep, side: str) -> dict:
    """Weights and moments of one side, G or D."""
    networks = stepper.model.generators if side == "G" else stepper.model.discriminators
    optimizer = stepper.generators.optimizer if side == "G" else stepper.discriminators.optimizer
    return copy_to_cpu(
        {"weights": networks.state_dict(), "memory": optimizer.state_dict()["state"]}
    )


def pair(value: float | None = None) -> tuple[Tensor, Tensor]:
    real_A, real_B = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    if value is not None:
        real_A[0, 1, 3, 5] = value
    return real_A, real_B


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "speed", [EAGER_FP32, ExecutionPlan(fused_optimizer=True)], ids=["plain", "fused"]
)
@pytest.mark.parametrize("optimizer", ["adam", "sgd(momentum=0.9)", "rmsprop"])
def test_a_loss_that_is_not_finite_leaves_weights_and_moments_as_they_were(
    faults, assert_same, factor, value, speed, optimizer
):
    if speed.fused_optimizer and optimizer == "rmsprop":
        speed = EAGER_FP32
    some = stepper(speed, optimizer=optimizer)
    some(*pair())
    before = {side: learned(some, side) for side in "GD"}
    factor(value)
    losses = some(*pair())
    assert not losses["cycle_A"].isfinite()
    assert not losses["gradient_G_BA"].isfinite()
    assert_same(learned(some, "G"), before["G"])
    # The discriminators have learned: their losses were finite.
    assert losses["gradient_D_A"].isfinite()
    assert not faults.fault_run.same(learned(some, "D"), before["D"])
    factor(1.0)
    assert all(loss.isfinite() for loss in some(*pair()).values())
    assert not faults.fault_run.same(learned(some, "G"), before["G"])


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_pixel_that_is_not_finite_changes_nothing_and_is_not_remembered(assert_same, value):
    some = stepper(pool_size=4)
    some(*pair())
    before = {side: learned(some, side) for side in "GD"}
    some(*pair(value))
    for side in "GD":
        assert_same(learned(some, side), before[side])
    assert all(image.isfinite().all() for pool in some.pools.values() for image in pool.images)
    assert all(loss.isfinite() for _ in range(6) for loss in some(*pair()).values())


def test_clipping_does_not_let_a_gradient_past_all_numbers_through(assert_same, factor):
    some = stepper(clip_grad=1.0)
    some(*pair())
    before = learned(some, "G")
    factor(1e38)
    assert not some(*pair())["gradient_G_AB"].isfinite()
    assert_same(learned(some, "G"), before)


def test_a_pool_keeps_no_number_that_is_none():
    pool = ImagePool(2, seed=0)
    for value in (NAN, INF, -INF) * 5:
        pool.query(torch.full((1, 3, 2, 2), value))
        assert all(image.isfinite().all() and image.abs().max() <= 1 for image in pool.images)


def weight_in_fp16(gradient: Tensor) -> tuple[nn.Parameter, Side]:
    """A weight whose loss has this gradient."""
    weight = nn.Parameter(torch.ones(3))
    term = check(TrainSettings, {"optimizer": "adam"}).optimizer
    side = Side(
        forward=lambda images, clock: ({}, {"loss": (weight * gradient).sum()}),
        optimizer=build_optimizer([weight], term, lr=0.1, beta1=0.5),
        parameters={"D_A": [weight]},
        scaler=torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=True),
        due=lambda clock: None,
    )
    return weight, side


def minimize(side: Side) -> Tensor:
    """The norm of the gradient of one update."""
    _, losses = stepper().minimize(side, {"real_A": torch.zeros(1, 3, 2, 2)}, Clock())
    return losses["gradient_D_A"]


def test_in_fp16_the_gradient_norm_is_reported_without_the_scale():
    weight, side = weight_in_fp16(torch.tensor([3.0, 0.0, 4.0]))
    assert minimize(side).item() == pytest.approx(5.0)
    assert weight.tolist() == pytest.approx([0.9, 1.0, 0.9])
    assert side.scaler.get_scale() == 1024.0


@pytest.mark.parametrize("value", [1e38, -1e38])
def test_in_fp16_an_overflow_skips_the_update_and_halves_the_scale(value):
    weight, side = weight_in_fp16(torch.full((3,), value))
    assert not minimize(side).isfinite()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert not side.optimizer.state_dict()["state"]
    assert side.scaler.get_scale() == 512.0
