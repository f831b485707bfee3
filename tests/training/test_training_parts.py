"""The small parts round the step: schedule, pool, average, meter."""

import pytest
import torch
from support.steps import build_model
from torch import nn

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.algorithm.image_pool import ImagePool
from cyclegan.training.algorithm.optimizers import MovingAverage
from cyclegan.training.build.build_step import StepBuilder
from cyclegan.training.statistics.running_means import RunningMeans


def settings(**options) -> TrainSettings:
    return check(TrainSettings, {"dataroot": "unused", "name": "unused", **options})


def images(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


def test_a_pool_of_size_0_is_the_identity_without_gradient():
    batch = images(1.0, 2.0).requires_grad_()
    out = ImagePool(0, seed=0).query(batch)
    assert torch.equal(out, batch)
    assert not out.requires_grad


def test_a_pool_returns_its_input_while_it_fills():
    pool = ImagePool(3, seed=0)
    assert pool.query(images(1.0, 2.0)).flatten().tolist() == [1.0, 2.0]
    assert pool.query(images(3.0)).flatten().tolist() == [3.0]
    assert sorted(image.item() for image in pool.images) == [1.0, 2.0, 3.0]


def test_a_full_pool_exchanges_half_of_its_images_and_loses_none():
    """What goes in comes out once, or stays: nothing is doubled and nothing vanishes."""
    pool = ImagePool(50, seed=1)
    pool.query(images(*range(50)))
    out = [pool.query(images(float(value))).item() for value in range(50, 1050)]
    stored = [image.item() for image in pool.images]
    passed = sum(value == given for value, given in zip(out, range(50, 1050), strict=True))
    assert 430 < passed < 570
    first_time = list(range(50)) + [v for v, o in zip(range(50, 1050), out, strict=True) if v != o]
    exchanged = [o for v, o in zip(range(50, 1050), out, strict=True) if v != o]
    assert sorted(exchanged + stored) == sorted(map(float, first_time))


def test_a_pool_goes_on_from_its_saved_state():
    pool, other = ImagePool(2, seed=0), ImagePool(2, seed=9)
    pool.query(images(1.0, 2.0, 3.0, 4.0))
    other.load_state_dict(pool.state_dict(), device=torch.device("cpu"))
    batch = images(*map(float, range(5, 25)))
    assert torch.equal(pool.query(batch), other.query(batch))


def test_the_average_warms_up_and_then_follows_slowly():
    """By hand: decays 1/10 and 2/11 of the way, so 0 -> 0.9 -> (2 * 0.9 + 9 * 2) / 11."""
    networks = nn.ModuleDict({"G": nn.Linear(1, 1, bias=False)})
    weight = networks["G"].weight
    nn.init.zeros_(weight)
    averaged = MovingAverage(networks, decay=0.999)
    for value in (1.0, 2.0):
        nn.init.constant_(weight, value)
        averaged.update()
    assert averaged.networks["G"].weight.item() == pytest.approx((2 * 0.9 + 9 * 2) / 11)
    assert not averaged.networks["G"].weight.requires_grad


def test_without_decay_the_average_is_the_network_itself():
    networks = nn.ModuleDict({"G": nn.Linear(1, 1)})
    assert MovingAverage(networks, decay=0).networks is networks


def test_the_meter_gives_means_and_starts_over():
    meter = RunningMeans()
    for value in (1.0, 2.0, 6.0):
        meter.update({"cycle_A": value})
    assert meter.read() == {"cycle_A": 3.0}
    assert meter.read() == {}


def test_what_is_not_finite_is_no_part_of_a_mean():
    meter = RunningMeans()
    for value in (1.0, float("nan"), 3.0, float("inf")):
        meter.update({"cycle_A": value})
    assert meter.read() == {"cycle_A": 2.0}


def test_each_direction_may_have_a_generator_of_its_own():
    own = settings(generator="resnet(blocks=1)", generator_BA="edsr(blocks=1)", ngf=4, ndf=2)
    generators = build_model(own).generators
    assert type(generators["G_AB"]).__name__ == "ResnetGenerator"
    assert type(generators["G_BA"]).__name__ == "EDSRGenerator"


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"crop_size": 62}, "multiple of 4"),
        ({"crop_size": 64, "discriminator": "patch(layers=5)"}, "needs 96"),
    ],
)
def test_crops_that_do_not_fit_the_networks_are_refused(options, remedy):
    small = settings(ngf=2, ndf=2, **options)
    with pytest.raises(ValueError, match=remedy):
        StepBuilder(small).check_sizes(build_model(small))
