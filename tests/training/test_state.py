"""What a saved state may be continued with."""

import pytest
import torch
from support.steps import build_model, build_schedule, build_step

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan
from cyclegan.runs.checkpoints import copy_to_cpu
from cyclegan.training.algorithm.optimizers import MovingAverage
from cyclegan.training.state import RunState
from cyclegan.training.statistics.hard_examples import HardExamples

SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    **{"ngf": 2, "ndf": 2, "steps": 4},
}


def parts(speed=EAGER_FP32, **options):
    settings = check(TrainSettings, {**SMALL, **options})
    stepper = build_step(build_model(settings), settings, plan=speed)
    average = MovingAverage(stepper.model.generators, decay=settings.ema)
    schedule = build_schedule(settings, epoch_length=10)
    return RunState(stepper, average, schedule, HardExamples(((), ())))


def saved(**options):
    made = parts(**options)
    image = torch.zeros(1, 3, 16, 16)
    made.step(image, image)
    return made.capture()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "sgd"}, "--optimizer: the run was begun with Adam, whose state SGD"),
        (
            {"optimizer_D": "rmsprop"},
            "--optimizer_D: the run was begun with Adam, whose state RMSprop",
        ),
        ({"ngf": 3}, "continue without changing generator"),
        ({"nce": "patch_nce(patches=4, channels=2)"}, "continue without changing"),
        ({"adversarial_A": "none"}, "continue without changing"),
    ],
)
def test_a_state_of_other_parts_is_refused_in_one_line(options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        parts(**options).restore(saved())
    assert "\n" not in str(caught.value)


def test_rates_momenta_and_decays_are_those_of_the_settings_at_hand():
    changed = {"lr": 0.01, "beta1": 0.9, "optimizer": "adam(weight_decay=0.1)"}
    made = parts(**changed)
    made.restore(saved())
    (group,) = made.step.generators.optimizer.param_groups
    assert (group["first_lr"], group["betas"][0], group["weight_decay"]) == (0.01, 0.9, 0.1)
    # What Adam has learned of the gradients is kept.
    assert made.step.generators.optimizer.state_dict()["state"]


@pytest.mark.parametrize(
    "before", [EAGER_FP32, ExecutionPlan(fused_optimizer=True), ExecutionPlan(channels_last=True)]
)
@pytest.mark.parametrize(
    "after",
    [
        EAGER_FP32,
        ExecutionPlan(fused_optimizer=True),
        ExecutionPlan(fused_optimizer=True, channels_last=True),
    ],
)
def test_a_run_goes_on_as_it_was_whatever_way_it_is_computed(before, after):
    images = list(torch.rand(4, 2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5)
    torch.manual_seed(0)
    expected = parts(before)
    for pair in images[:2]:
        expected.step(*pair)
    state = copy_to_cpu(expected.capture())
    resumed = parts(after)
    resumed.restore(state)
    for pair in images[2:]:
        theirs, mine = expected.step(*pair), resumed.step(*pair)
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-6)
