"""Optimizers by name, schedules of the learning rate, clipping."""

import math

import pytest
import torch
from support.steps import build_schedule
from torch import nn

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.algorithm import optimizers
from cyclegan.training.algorithm.lr_schedule import (
    SCHEDULES,
    Linear,
    Moment,
    Plateau,
)
from cyclegan.training.algorithm.optimizers import OPTIMIZERS, scale_learning_rate


def settings(**options) -> TrainSettings:
    return check(TrainSettings, {"dataroot": "unused", "name": "unused", **options})


def rates(epoch_length: int = 1000, **options) -> list[float]:
    chosen = settings(**options)
    schedule = build_schedule(chosen, epoch_length=epoch_length)
    return [
        schedule.factor(step=step, position=step * chosen.images_per_step)
        for step in range(schedule.total_steps)
    ]


def build_optimizer(parameters, chosen: TrainSettings, *, of: str) -> torch.optim.Optimizer:
    """The optimizer of the generators ("G") or the discriminators ("D")."""
    term, lr = chosen.optimizer, chosen.lr
    if of == "D":
        term, lr = chosen.optimizer_D or term, chosen.lr_D or lr
    return optimizers.build_optimizer(parameters, term, lr=lr, beta1=chosen.beta1)


def weight(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def test_the_linear_schedule_is_the_published_one():
    """5 + 5 epochs; the last epoch still learns."""
    factors = [Linear().factor(Moment(epoch, 5, 5, 0.0)) for epoch in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_an_epoch_is_the_tick_and_a_short_last_batch_counts():
    schedule = build_schedule(settings(n_epochs=1, n_epochs_decay=1, batch_size=4), epoch_length=10)
    assert (schedule.steps_per_epoch, schedule.total_steps) == (3, 6)
    assert schedule.factor(step=2, position=8) == 1
    assert schedule.factor(step=3, position=10) == pytest.approx(0.5)


def test_with_steps_the_rate_falls_in_the_second_half():
    assert rates(steps=4) == pytest.approx([1, 1, 2 / 3, 1 / 3])


def test_the_cosine_falls_all_the_way_and_never_climbs():
    factors = rates(steps=8, schedule="cosine(lowest=0.1)")
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert factors == pytest.approx(expected)
    assert factors == sorted(factors, reverse=True)


def test_the_step_schedule_counts_epochs():
    factors = rates(
        epoch_length=2, n_epochs=3, n_epochs_decay=0, schedule="step(every=2, gamma=0.5)"
    )
    assert factors == pytest.approx([1, 1, 1, 1, 0.5, 0.5])


def test_a_constant_rate_stays():
    assert rates(steps=5, schedule="constant") == [1] * 5


def test_a_rate_warms_up_from_above_zero():
    assert rates(steps=6, schedule="constant", warmup_steps=3) == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 1]
    )


def test_a_plateau_lowers_the_rate_when_measurements_stop_improving():
    """By hand: 10 and 9 improve, 9.5 and 8.95 (by less than 1 %) do not."""
    plateau = Plateau(patience=2, reduce=0.5)
    seen = []
    for distance in (10.0, 9.0, 9.5, 8.95, 8.0, 9.0, 9.0):
        plateau.observe(distance)
        seen.append(plateau.factor(Moment(0, 1, 1, 0.0)))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_a_plateau_goes_on_from_its_saved_state():
    one, other = Plateau(patience=2), Plateau(patience=2)
    for distance in (10.0, 11.0):
        one.observe(distance)
    other.load_state_dict(one.state_dict())
    other.observe(11.0)
    assert other.factor(Moment(0, 1, 1, 0.0)) == 0.5


def test_a_plateau_is_measured_every_epoch_unless_told_otherwise():
    def every(**options) -> int:
        return build_schedule(settings(**options), epoch_length=7).evaluate_every

    assert every(schedule="plateau") == 7
    assert every(schedule="plateau", evaluate_every=3) == 3
    assert every(schedule="linear") == 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_begins_at_the_first_rate_and_stays_positive(name):
    factors = rates(steps=10, schedule=name)
    assert factors[0] == 1
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize(
    "expression", ["cosine(lowest=2)", "step(every=0)", "plateau(patience=a)", "linaer", "2*linear"]
)
def test_a_schedule_that_makes_no_sense_is_refused(expression):
    with pytest.raises(UserError, match="--schedule"):
        build_schedule(settings(schedule=expression), epoch_length=10)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("of", ["G", "D"])
def test_every_optimizer_moves_a_weight_downhill(name, of):
    parameter = weight()
    optimizer = build_optimizer([parameter], settings(optimizer=name, lr=0.01), of=of)
    parameter.square().sum().backward()
    optimizer.step()
    assert 0.9 < parameter.item() < 1


def test_plain_descent_is_what_its_name_says():
    """By hand: gradient 2, momentum 0.5, twice: 1 - 0.1 * 2, then - 0.1 * (1.6 + 0.5 * 2)."""
    parameter = weight()
    optimizer = build_optimizer(
        [parameter], settings(optimizer="sgd(momentum=0.5)", lr=0.1), of="G"
    )
    for _ in range(2):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    assert parameter.item() == pytest.approx(0.8 - 0.1 * (1.6 + 1.0))


def test_adam_is_the_classic_one():
    group = build_optimizer([weight()], settings(lr=0.004, beta1=0.4), of="G").param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.004, (0.4, 0.999), 1e-8)


def test_each_side_keeps_its_own_optimizer_and_first_rate():
    chosen = settings(optimizer="sgd", optimizer_D="adamw(weight_decay=0.1)", lr=0.2, lr_D=0.004)
    G, D = (build_optimizer([weight()], chosen, of=of) for of in "GD")
    assert (type(G), type(D)) == (torch.optim.SGD, torch.optim.AdamW)
    for optimizer in (G, D):
        scale_learning_rate(optimizer, 0.5)
        scale_learning_rate(optimizer, 0.25)
    assert G.param_groups[0]["lr"] == pytest.approx(0.05)
    assert D.param_groups[0]["lr"] == pytest.approx(0.001)
    assert D.param_groups[0]["weight_decay"] == 0.1


def test_a_network_without_parameters_needs_no_special_case():
    optimizer = build_optimizer([], settings(), of="D")
    optimizer.step()


@pytest.mark.parametrize(
    "expression",
    [
        *("adma", "adam(lr=0.1)", "adam(params=3)", "2*adam", "torch.nn.L1Loss", "none"),
        *("sgd(momentum=two)", "adam(weight_decay=true)", "torch.optim.LBFGS"),
    ],
)
def test_an_optimizer_that_makes_no_sense_is_refused(expression):
    with pytest.raises(UserError, match="--optimizer"):
        build_optimizer([weight()], settings(optimizer=expression), of="G")
