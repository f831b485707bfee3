"""One step of the classic CycleGAN against an independent straight-line implementation.

The reference below shares nothing with the package: plain dictionaries of weights, its own forward
passes, losses and Adam, in float64.
"""

from collections.abc import Iterator

import pytest
import torch
from support.steps import build_model, build_step
from torch import Tensor
from torch.nn import functional as F

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.step import TrainingStep

BLOCKS = 2
SIDE = 32
# The two cycle weights differ, so that exchanged domains show.
WEIGHTS = {"cycle_A": 10.0, "cycle_B": 7.0, "identity_A": 5.0, "identity_B": 3.5}
GRADIENTS = tuple(f"gradient_{name}" for name in ("G_AB", "G_BA", "D_A", "D_B"))
LOSSES = {"adversarial_A", "adversarial_B", "D_A", "D_B", *WEIGHTS}

Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def instance_norm(x: Tensor) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def reflect(x: Tensor, by: int) -> Tensor:
    return F.pad(x, (by, by, by, by), mode="reflect")


def generate(w: Weights, x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def enlarge(x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(
            x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1, output_padding=1
        )

    x = F.relu(instance_norm(conv(reflect(x, 3), "model.1")))
    x = F.relu(instance_norm(conv(x, "model.4", stride=2, padding=1)))
    x = F.relu(instance_norm(conv(x, "model.7", stride=2, padding=1)))
    for block in range(10, 10 + BLOCKS):
        y = F.relu(instance_norm(conv(reflect(x, 1), f"model.{block}.conv_block.1")))
        x = x + instance_norm(conv(reflect(y, 1), f"model.{block}.conv_block.5"))
    x = F.relu(instance_norm(enlarge(x, f"model.{10 + BLOCKS}")))
    x = F.relu(instance_norm(enlarge(x, f"model.{13 + BLOCKS}")))
    return torch.tanh(conv(reflect(x, 3), f"model.{17 + BLOCKS}"))


def judge(w: Weights, x: Tensor) -> Tensor:
    x = F.conv2d(x, w["model.0.weight"], w["model.0.bias"], stride=2, padding=1)
    x = F.leaky_relu(x, 0.2)
    for place, stride in ((2, 2), (5, 2), (8, 1)):
        x = F.conv2d(
            x, w[f"model.{place}.weight"], w[f"model.{place}.bias"], stride=stride, padding=1
        )
        x = F.leaky_relu(instance_norm(x), 0.2)
    return F.conv2d(x, w["model.11.weight"], w["model.11.bias"], padding=1)


class Reference:
    """Four dictionaries of weights, and one step on them written out."""

    def __init__(self, networks: dict[str, Weights]) -> None:
        self.w = {
            name: {key: value.detach().clone().requires_grad_() for key, value in weights.items()}
            for name, weights in networks.items()
        }
        self.moments = {
            (name, key): (torch.zeros_like(value), torch.zeros_like(value))
            for name, weights in self.w.items()
            for key, value in weights.items()
        }
        self.steps = 0
        self.gradients: dict[tuple[str, str], Tensor] = {}

    def step(self, real_A: Tensor, real_B: Tensor, *, lr: float) -> dict[str, Tensor]:
        self.steps += 1
        w = self.w
        fake_B, fake_A = generate(w["G_AB"], real_A), generate(w["G_BA"], real_B)
        rec_A, rec_B = generate(w["G_BA"], fake_B), generate(w["G_AB"], fake_A)
        idt_A, idt_B = generate(w["G_BA"], real_A), generate(w["G_AB"], real_B)
        losses_G = {
            "adversarial_A": ((judge(w["D_A"], fake_A) - 1) ** 2).mean(),
            "adversarial_B": ((judge(w["D_B"], fake_B) - 1) ** 2).mean(),
            "cycle_A": WEIGHTS["cycle_A"] * (rec_A - real_A).abs().mean(),
            "cycle_B": WEIGHTS["cycle_B"] * (rec_B - real_B).abs().mean(),
            "identity_A": WEIGHTS["identity_A"] * (idt_A - real_A).abs().mean(),
            "identity_B": WEIGHTS["identity_B"] * (idt_B - real_B).abs().mean(),
        }
        self.adam(("G_AB", "G_BA"), sum(losses_G.values()), lr)
        # The fakes were made before the generators moved.
        losses_D = {
            name: 0.5 * ((judge(w[name], real) - 1) ** 2).mean()
            + 0.5 * (judge(w[name], fake.detach()) ** 2).mean()
            for name, real, fake in (("D_A", real_A, fake_A), ("D_B", real_B, fake_B))
        }
        self.adam(("D_A", "D_B"), sum(losses_D.values()), lr)
        return losses_G | losses_D

    def adam(self, names: tuple[str, str], loss: Tensor, lr: float) -> None:
        places = [(name, key) for name in names for key in self.w[name]]
        gradients = torch.autograd.grad(loss, [self.w[name][key] for name, key in places])
        for place, gradient in zip(places, gradients, strict=True):
            self.gradients[place] = gradient
            mean, square = self.moments[place]
            mean = 0.5 * mean + 0.5 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            self.moments[place] = mean, square
            mean = mean / (1 - 0.5**self.steps)
            square = square / (1 - 0.999**self.steps)
            old = self.w[place[0]][place[1]].detach()
            new = old - lr * mean / (torch.sqrt(square) + 1e-8)
            self.w[place[0]][place[1]] = new.requires_grad_()


def start(pool_size: int, batch_size: int) -> tuple[TrainingStep, Reference]:
    settings = check(
        TrainSettings,
        {
            "generator": f"resnet(blocks={BLOCKS})",
            "discriminator": "patch(layers=3)",
            "ngf": 3,
            "ndf": 2,
            "pool_size": pool_size,
            "batch_size": batch_size,
            **{slot: f"{weight}*l1" for slot, weight in WEIGHTS.items()},
        },
    )
    torch.manual_seed(0)
    model = build_model(settings)
    networks = {**dict(model.generators.items()), **dict(model.discriminators.items())}
    reference = Reference({name: dict(n.named_parameters()) for name, n in networks.items()})
    return build_step(model, settings), reference


def images(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real_A, real_B = (torch.rand(batch, 3, SIDE, SIDE, generator=generator) for _ in "AB")
    return real_A * 2 - 1, real_B * 1.5 - 1


def assert_equal(stepper: TrainingStep, reference: Reference) -> None:
    """Gradients and weights of all four networks, to a relative 1e-9.

    A bias before an instance norm has a gradient of 0, of which rounding leaves 1e-15; Adam turns
    that into a step of 1e-11. Such biases must only stay where they are.
    """
    model = stepper.model
    networks = {**dict(model.generators.items()), **dict(model.discriminators.items())}
    assert set(networks) == set(reference.w)
    for name, network in networks.items():
        parameters = dict(network.named_parameters())
        assert set(parameters) == set(reference.w[name])
        for key, parameter in parameters.items():
            expected = reference.gradients[name, key]
            assert parameter.grad is not None, (name, key)
            assert key.endswith("bias") or expected.abs().max() > 1e-4, (name, key)
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-13)
            weight = reference.w[name][key].detach()
            atol = 1e-9 if expected.abs().max() < 1e-13 else 1e-13
            torch.testing.assert_close(parameter.detach(), weight, rtol=1e-9, atol=atol)


def assert_same_losses(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == {*LOSSES, *GRADIENTS}
    for name in LOSSES:
        assert float(ours[name]) == pytest.approx(float(theirs[name].detach()), rel=1e-9), name


@pytest.mark.parametrize("pool_size", [0, 50])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_step_equals_the_straight_line_implementation(batch: int, pool_size: int) -> None:
    stepper, reference = start(pool_size, batch)
    real_A, real_B = images(0, batch)
    before = {key: value.clone() for key, value in stepper.model.state_dict().items()}
    ours, theirs = stepper(real_A, real_B), reference.step(real_A, real_B, lr=2e-4)
    assert_same_losses(ours, theirs)
    assert_equal(stepper, reference)
    moved = [(before[k] - v).abs().max() for k, v in stepper.model.state_dict().items()]
    assert max(moved) == pytest.approx(2e-4, rel=1e-3)


def test_a_second_step_at_another_learning_rate_equals_it_too() -> None:
    stepper, reference = start(pool_size=0, batch_size=1)
    stepper(*images(0, 1))
    reference.step(*images(0, 1), lr=2e-4)
    for optimizer in (stepper.generators.optimizer, stepper.discriminators.optimizer):
        optimizer.param_groups[0]["lr"] = 5e-5
    ours, theirs = stepper(*images(1, 1)), reference.step(*images(1, 1), lr=5e-5)
    assert_same_losses(ours, theirs)
    assert_equal(stepper, reference)
