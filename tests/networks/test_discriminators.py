"""The guarantees of every discriminator in the table, and details of each."""

from functools import partial
from pathlib import Path

import pytest
import torch
from support.networks import make, noise
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.errors import UserError
from cyclegan.networks import DISCRIMINATORS
from cyclegan.networks.discriminators.patchgan import (
    MultiscaleDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from cyclegan.networks.discriminators.unet_discriminator import UnetDiscriminator
from cyclegan.networks.layers import (
    NORMS,
    initialize,
)
from cyclegan.runs import checkpoints

NORM_NAMES = ("instance", "batch", "spectral", "none")
EVERY_NORM = [f"{name}(norm={norm})" for name in DISCRIMINATORS for norm in NORM_NAMES]
EVERY_SIZE = [
    *EVERY_NORM,
    *("patch(layers=1)", "patch(layers=2)", "patch(layers=6)", "batch_head(layers=1)"),
    *("multiscale(scales=1)", "multiscale(scales=2, layers=2)"),
]

make = partial(make, option="discriminator", channels=3, gain=0.2)


def fitting(network: nn.Module, *, batch: int = 2, seed: int = 1) -> Tensor:
    return noise(batch, 3, network.min_size + 5, network.min_size, seed=seed)


def maps(logits: Tensor | list[Tensor]) -> list[Tensor]:
    return logits if isinstance(logits, list) else [logits]


def total(logits: Tensor | list[Tensor]) -> Tensor:
    # Each logit has another weight: under a norm, their plain sum is constant.
    return sum((m * torch.arange(1.0, m.numel() + 1).view(m.shape)).mean() for m in maps(logits))


@pytest.mark.parametrize("text", EVERY_SIZE)
def test_a_discriminator_gives_maps_of_one_logit_for_each_image(text: str) -> None:
    network = make(text)
    for logits in maps(network(fitting(network, batch=3))):
        assert logits.shape[:2] == (3, 1)
        assert logits.ndim == 4
        assert logits.isfinite().all()


@pytest.mark.parametrize("text", EVERY_NORM)
def test_a_penalty_on_gradients_reaches_the_weights(text: str) -> None:
    network = make(text)
    images = fitting(network).requires_grad_()
    (gradient,) = torch.autograd.grad(total(network(images)), images, create_graph=True)
    assert gradient.abs().sum() > 0
    gradient.square().sum().backward()
    reached = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in reached)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("text", EVERY_NORM)
def test_a_discriminator_saved_and_loaded_gives_the_same_logits(text: str, tmp_path: Path) -> None:
    network, other = make(text), make(text, seed=1)
    network(fitting(network, seed=2))
    checkpoints.save_weights(tmp_path, 1, {"D_A": network})
    path = checkpoints.weights_path(tmp_path, 1, "D_A")
    checkpoints.fit_weights(other, checkpoints.load_weights(path), source=path)
    images = fitting(network)
    for _ in range(2):
        for ours, theirs in zip(maps(network(images)), maps(other(images)), strict=True):
            assert torch.equal(ours, theirs)
    assert all(
        torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items()
    )


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network = make(name)
    images = fitting(network).requires_grad_()
    sum(logits.square().mean() for logits in maps(network(images))).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("text", EVERY_NORM)
def test_bfloat16_gives_nearly_the_same_logits(text: str) -> None:
    network = make(text)
    images = fitting(network)
    exact = maps(network.eval()(images))
    with torch.autocast("cpu", torch.bfloat16):
        rough = maps(network(images))
    for one, other in zip(exact, rough, strict=True):
        assert (one - other.float()).abs().max() < 0.1 * one.abs().max()
    total([logits.float() for logits in rough]).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("text", EVERY_SIZE)
def test_min_size_is_the_smallest_possible_image(text: str) -> None:
    network = make(text)
    side = network.min_size
    for logits in maps(network(noise(1, 3, side, side))):
        assert logits.numel() >= 1
        assert logits.isfinite().all()
    with pytest.raises((ValueError, RuntimeError)):
        make(text)(noise(1, 3, side - 1, side - 1))


@pytest.mark.parametrize(
    "option",
    ["norm=group", "norm=2", "norm=[1]", "channels=0", "channels=a", "channels=1.5"],
)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_a_bad_option_is_named(name: str, option: str) -> None:
    with pytest.raises(UserError, match=option.partition("=")[0] + "="):
        make(f"{name}({option})")


@pytest.mark.parametrize(
    "text",
    [
        *(f"patch(layers={value})" for value in ("0", "7", "two", "true", "2.0")),
        *(f"multiscale(scales={value})" for value in ("0", "7", "two", "true", "2.0")),
        "multiscale(layers=0)",
        "batch_head(layers=0)",
        *(f"batch_head(queue_size={value})" for value in ("-1", "a", "true", "1.0", "none")),
    ],
)
def test_a_bad_number_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a whole number, at least"):
        make(text)


@pytest.mark.parametrize(
    ("name", "normalized", "plain"),
    # Real-ESRGAN normalizes neither the first nor the last layer, batch_head not its head.
    [("patch", 5, 0), ("pixel", 3, 0), ("multiscale", 15, 0), ("unet", 8, 2), ("batch_head", 4, 2)],
)
def test_spectral_norm_brings_the_largest_singular_value_to_one(
    name: str, normalized: int, plain: int
) -> None:
    network = make(f"{name}(norm=spectral)")
    images = fitting(network, batch=1)
    with torch.no_grad():
        for _ in range(60):
            network(images)
    network.eval()
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    held = [conv for conv in convs if hasattr(conv, "parametrizations")]
    assert (len(held), len(convs) - len(held)) == (normalized, plain)
    for conv in held:
        largest = torch.linalg.svdvals(conv.weight.detach().flatten(1))[0]
        assert float(largest) == pytest.approx(1, abs=0.05)


def test_the_pixel_discriminator_has_the_classic_tensors() -> None:
    network = PixelDiscriminator()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes == {
        "net.0.weight": (64, 3, 1, 1),
        "net.0.bias": (64,),
        "net.2.weight": (128, 64, 1, 1),
        "net.2.bias": (128,),
        "net.5.weight": (1, 128, 1, 1),
        "net.5.bias": (1,),
    }


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_a_pixels_logit_depends_on_that_pixel_alone(norm: str) -> None:
    network = make(f"pixel(norm={norm})").eval()
    images = noise(1, 3, 5, 4)
    changed = images.clone()
    changed[..., 2, 1] *= -1
    moved = (network(images) - network(changed))[0, 0].abs() > 1e-6
    assert moved.nonzero().tolist() == [[2, 1]]


def test_the_scales_come_finest_first() -> None:
    # By hand: 96 -> 48 24 12 11 10, then 48 -> 24 12 6 5 4, then 24 -> 12 6 3 2 1.
    logits = MultiscaleDiscriminator(1)(noise(1, 3, 96, 96))
    assert [tuple(m.shape) for m in logits] == [(1, 1, 10, 10), (1, 1, 4, 4), (1, 1, 1, 1)]


def test_a_coarser_scale_sees_the_mean_of_three_by_three_pixels() -> None:
    network = make("multiscale(scales=2, layers=1, norm=none)")
    images = noise(1, 3, 13, 12)
    half = torch.stack(
        [
            images[..., max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean(dim=(2, 3))
            for y in range(0, 13, 2)
            for x in range(0, 12, 2)
        ],
        dim=2,
    ).view(1, 3, 7, 6)
    fine, coarse = network(images)
    assert torch.allclose(fine, network.judges[0](images))
    assert torch.allclose(coarse, network.judges[1](half), atol=1e-6)


def test_three_scales_need_93_pixels() -> None:
    assert MultiscaleDiscriminator(1).min_size == 93


def test_the_unet_has_as_many_weights_as_real_esrgans() -> None:
    with torch.device("meta"):
        network = UnetDiscriminator(norm="none")
    # By hand: 1792 + 131072 + 524288 + 2097152 + 1179648 + 294912 + 73728 + 2 * 36864 + 577.
    assert sum(p.numel() for p in network.parameters()) == 4_376_897


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(16, 24), (17, 23), (31, 18)])
def test_the_unet_gives_every_pixel_a_logit(size: tuple[int, int], norm: str) -> None:
    assert make(f"unet(norm={norm})")(noise(1, 3, *size)).shape == (1, 1, *size)


def test_the_unet_adds_the_features_of_the_same_size() -> None:
    network = make("unet(norm=none)")
    images = noise(1, 3, 16, 24)
    weights = [conv for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    first, *down = weights[:4]
    *up, seventh, eighth, last = weights[4:]

    def active(conv: nn.Module, features: Tensor) -> Tensor:
        return functional.leaky_relu(conv(features), 0.2)

    # Each layer written out, for sides that are divisible by 8.
    x0 = active(first, images)
    x1 = active(down[0], x0)
    x2 = active(down[1], x1)
    x3 = active(down[2], x2)
    twice = nn.Upsample(scale_factor=2, mode="bilinear")
    x4 = active(up[0], twice(x3)) + x2
    x5 = active(up[1], twice(x4)) + x1
    x6 = active(up[2], twice(x5)) + x0
    expected = last(active(eighth, active(seventh, x6)))
    assert torch.allclose(network(images), expected, atol=1e-6)


def test_the_patch_discriminator_has_the_classic_tensors() -> None:
    with torch.device("meta"):
        network = PatchDiscriminator()
    expected = {f"model.{i}.{kind}" for i in (0, 2, 5, 8, 11) for kind in ("weight", "bias")}
    assert set(network.state_dict()) == expected
    assert sum(p.numel() for p in network.parameters()) == 2_764_737
    widths = [network.state_dict()[f"model.{i}.weight"].shape[0] for i in (0, 2, 5, 8, 11)]
    assert widths == [64, 128, 256, 512, 1]


def test_the_patch_discriminator_gives_256_pixels_30_by_30_logits() -> None:
    assert PatchDiscriminator(1)(noise(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_patch_logit_has_its_receptive_field(layers: int, field: int) -> None:
    network = PatchDiscriminator(1, layers=layers, norm="none")
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 3, 640, 640, requires_grad=True)
    logits = network(image)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    seen = gradient[0, 0] != 0
    assert seen.any(dim=0).sum() == field
    assert seen.any(dim=1).sum() == field


def test_three_layers_need_24_pixels() -> None:
    assert PatchDiscriminator(1, layers=3).min_size == 24


def test_with_a_highpass_the_discriminator_does_not_see_the_colour() -> None:
    torch.manual_seed(0)
    images = noise(1, 3, 32, 32)
    for highpass, same in ((0, False), (5, True)):
        network = PatchDiscriminator(2, norm="none", highpass=highpass)
        initialize(network, gain=0.2)
        shifted = network(images + torch.tensor([0.3, -0.2, 0.1])[:, None, None])
        assert torch.allclose(shifted, network(images), atol=1e-5) is same
