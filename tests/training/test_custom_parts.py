"""Parts of the user's own on random images: what is refused before a run begins."""

import pytest
import torch
from support.steps import build_model, build_step
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.build.build_plan import PlanBuilder
from cyclegan.training.step import TrainingStep

SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "batch_head(layers=1)",
    **{"ngf": 2, "ndf": 2, "crop_size": 16, "load_size": 16},
}


def checked(**options) -> TrainingStep:
    settings = check(TrainSettings, {**SMALL, **options})
    torch.manual_seed(0)
    stepper = build_step(build_model(settings), settings)
    PlanBuilder(settings).check_custom_parts(stepper)
    return stepper


def good(input: Tensor, target: Tensor) -> Tensor:
    return (input - target + 0.1 * torch.rand_like(input)).abs().mean()


def nan(input: Tensor, target: Tensor) -> Tensor:
    return (input - target).sum().sqrt() * float("nan")


def zeroes_target(input: Tensor, target: Tensor) -> Tensor:
    return (input - target.zero_()).abs().mean()


def scales_input(input: Tensor, target: Tensor) -> Tensor:
    return (input.mul_(2) - target).abs().mean()


def complex_number(input: Tensor, target: Tensor) -> Tensor:
    return torch.fft.fft2(input - target).mean()


def no_gradients_left(input: Tensor, target: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return (input - target).abs().mean()


def raises(input: Tensor, target: Tensor) -> Tensor:
    raise KeyError


class KeepsGraph:
    def __init__(self) -> None:
        self.last = torch.zeros(())

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        self.last = self.last + (input - target).square().mean()
        return self.last


class HalfGame:
    def generator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return discriminator(fake).mean()

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        return discriminator(fake).square()


class Half(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image)


def mine(name: str) -> str:
    return f"{__name__}.{name}"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cycle": f"10*l1 + 1*{mine('nan')}"}, "--cycle: nan gives nan on random images"),
        ({"identity_B": mine("zeroes_target")}, "--identity_B: zeroes_target changes its images"),
        ({"cycle": mine("scales_input")}, "--cycle: scales_input changes its images in place"),
        ({"cycle": mine("complex_number")}, "--cycle: complex_number cannot be differentiated"),
        ({"cycle": mine("no_gradients_left")}, "--cycle: no_gradients_left"),
        ({"cycle": mine("raises")}, r"raises failed: KeyError \(test_custom_parts.py, line"),
        (
            {"content": mine("KeepsGraph")},
            "--content: KeepsGraph cannot be differentiated: .*second",
        ),
        ({"adversarial": mine("HalfGame")}, "--adversarial: HalfGame gives no single number"),
        ({"penalty": mine("good")}, "--penalty: good failed: .*3 were given"),
        ({"cycle": "huber(delta=0)"}, "--cycle: huber failed: .*delta"),
        ({"cycle": "l1(reduction=foo)"}, "--cycle: l1 failed: foo"),
        ({"generator": mine("Half")}, "--generator: Half makes no images of 16x16 px"),
        ({"discriminator": "torch.nn.Conv2d(in_channels=9,out_channels=1,kernel_size=1)"}, "fails"),
        ({"generator": "os.getcwd"}, "--generator: os.getcwd is no network"),
        ({"diffaugment": mine("good")}, "--diffaugment: .*fails on images of 16 px"),
    ],
)
def test_a_part_that_cannot_train_is_refused_in_one_line(options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        checked(**options)
    assert "\n" not in str(caught.value)
    torch.set_grad_enabled(True)


def test_the_check_leaves_no_trace():
    """Same weights, queues and random numbers as without it; no gradients."""
    plain = {**SMALL, "cycle": mine("good"), "adversarial": "hinge"}
    settings = check(TrainSettings, plain)
    torch.manual_seed(0)
    before = build_model(settings).state_dict()
    drawn = torch.rand(3)
    stepper = checked(cycle=mine("good"), adversarial="hinge")
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(v, before[k]) for k, v in stepper.model.state_dict().items())
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
    assert stepper.model.training
