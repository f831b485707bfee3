"""Discriminators, classic weights, first weights; generators have a file of their own."""

import math

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.discriminators.patchgan import PatchDiscriminator
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.layers import (
    HIGH_PASS_GAIN,
    INITS,
    NORMS,
    conv_bias,
    high_pass,
    initialize,
)

TABLES = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}


def make(name: str) -> nn.Module:
    """A narrow discriminator as the commands make it, with its first weights."""
    torch.manual_seed(0)
    term = expressions.parse_one(name, option="discriminator")
    network = parts.build(term, DISCRIMINATORS, channels=4)
    initialize(network)
    return network


def logits_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    logits = network(images)
    return [logits] if isinstance(logits, Tensor) else list(logits)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def fitting(network: nn.Module, *, batch: int = 2) -> Tensor:
    """The smallest image, a pixel higher than wide."""
    return noise(batch, 3, network.min_size + 1, network.min_size)


def resnet_keys(blocks: int) -> set[str]:
    last = 10 + blocks
    convs = ["model.1", "model.4", "model.7"]
    convs += [f"model.{block}.conv_block.{conv}" for block in range(10, last) for conv in (1, 5)]
    convs += [f"model.{last}", f"model.{last + 3}", f"model.{last + 7}"]
    return {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network = make(name)
    images = fitting(network).requires_grad_()
    sum(logits.square().mean() for logits in logits_of(network, images)).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize(
    ("blocks", "tensors", "parameters"), [(9, 48, 11_378_179), (6, 36, 7_837_699)]
)
def test_the_resnet_has_the_classic_tensors(blocks: int, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        network = ResnetGenerator(blocks=blocks)
    assert set(network.state_dict()) == resnet_keys(blocks)
    assert len(network.state_dict()) == tensors
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_patch_discriminator_has_the_classic_tensors() -> None:
    with torch.device("meta"):
        network = PatchDiscriminator()
    expected = {f"model.{i}.{kind}" for i in (0, 2, 5, 8, 11) for kind in ("weight", "bias")}
    assert set(network.state_dict()) == expected
    assert sum(p.numel() for p in network.parameters()) == 2_764_737
    widths = [network.state_dict()[f"model.{i}.weight"].shape[0] for i in (0, 2, 5, 8, 11)]
    assert widths == [64, 128, 256, 512, 1]


def test_the_patch_discriminator_judges_256_pixels_by_30_by_30_patches() -> None:
    assert PatchDiscriminator(1)(noise(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_patch_logit_sees_so_many_pixels(layers: int, field: int) -> None:
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


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6])
def test_the_patch_discriminator_tells_its_smallest_image(layers: int) -> None:
    network = PatchDiscriminator(1, layers=layers)
    side = network.min_size
    assert network(noise(1, 3, side, side)).numel() >= 1
    with pytest.raises((ValueError, RuntimeError)):
        network(noise(1, 3, side - 1, side - 1))


def test_three_layers_need_24_pixels() -> None:
    assert PatchDiscriminator(1, layers=3).min_size == 24


@pytest.mark.parametrize("downs", [0, 1, 2, 3])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("upsample", ["deconv", "resize", "pixelshuffle"])
def test_a_resnet_takes_any_multiple(downs: int, upsample: str, antialias: bool) -> None:
    network = ResnetGenerator(2, blocks=1, downs=downs, upsample=upsample, antialias=antialias)
    assert network.size_multiple == 2**downs
    images = noise(1, 3, 5 * network.size_multiple, 4 * network.size_multiple)
    assert network(images).shape == images.shape


@pytest.mark.parametrize(("norm", "bias"), [("instance", True), ("batch", False), ("none", False)])
def test_only_convolutions_before_instance_norm_carry_a_bias(norm: str, bias: bool) -> None:
    assert conv_bias(norm) is bias
    resnet = ResnetGenerator(2, blocks=1, norm=norm).state_dict()
    inner = ["model.1", "model.4", "model.7", "model.10.conv_block.1", "model.10.conv_block.5"]
    inner += ["model.11", "model.14"]
    assert [f"{conv}.bias" in resnet for conv in inner] == [bias] * len(inner)
    assert "model.18.bias" in resnet
    patch = PatchDiscriminator(2, norm=norm).state_dict()
    assert [f"model.{i}.bias" in patch for i in (2, 5, 8)] == [bias] * 3
    assert {"model.0.bias", "model.11.bias"} <= set(patch)


def test_batch_norm_adds_five_tensors_for_each_norm() -> None:
    keys = set(ResnetGenerator(2, blocks=1, norm="batch").state_dict())
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for norm in ("model.2", "model.5", "model.8", "model.10.conv_block.2", "model.10.conv_block.6"):
        assert {f"{norm}.{name}" for name in names} <= keys


def test_dropout_moves_the_second_convolution_of_a_block() -> None:
    keys = set(ResnetGenerator(2, blocks=1, dropout=True).state_dict())
    assert "model.10.conv_block.6.weight" in keys
    assert "model.10.conv_block.5.weight" not in keys


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_gives_finite_outputs(norm: str) -> None:
    assert ResnetGenerator(2, blocks=1, norm=norm)(noise(2, 3, 16, 16)).isfinite().all()


def test_an_unknown_norm_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="instance, batch, none"):
        ResnetGenerator(2, norm="group")


def test_normal_first_weights_have_deviation_002_and_no_bias() -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(16, blocks=2)
    initialize(network)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif parameter.numel() > 2000:
            count = parameter.numel()
            assert abs(float(parameter.detach().mean())) < 5 * 0.02 / math.sqrt(count), name
            assert float(parameter.detach().std()) == pytest.approx(
                0.02, rel=5 / math.sqrt(2 * count)
            ), name


def test_batch_norm_scales_start_near_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(4096))
    initialize(network)
    assert float(network[0].weight.detach().mean()) == pytest.approx(1, abs=5 * 0.02 / 64)
    assert float(network[0].weight.detach().std()) == pytest.approx(0.02, rel=0.06)
    assert network[0].bias.abs().max() == 0


@pytest.mark.parametrize(
    ("init_type", "deviation"),
    [
        ("normal", 0.5),
        # Glorot & Bengio (2010): gain * sqrt(2 / (fan_in + fan_out)), both 32 * 9.
        ("xavier", 0.5 * math.sqrt(2 / (2 * 288))),
        # He et al. (2015): sqrt(2 / fan_in), whatever the gain.
        ("kaiming", math.sqrt(2 / 288)),
        # Rows of length gain: 32 of them with 288 entries each.
        ("orthogonal", 0.5 / math.sqrt(288)),
    ],
)
def test_each_init_type_has_its_deviation(init_type: str, deviation: float) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(32, 32, 3)
    initialize(network, init_type=init_type, gain=0.5)
    assert float(network.weight.detach().std()) == pytest.approx(deviation, rel=0.05)


def test_every_init_type_is_tested() -> None:
    assert set(INITS) == {"normal", "xavier", "kaiming", "orthogonal"}


def test_what_is_fixed_keeps_its_values() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    network.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize(network)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("upsample", ["deconv", "resize", "pixelshuffle"])
def test_a_residual_generator_starts_as_the_identity(upsample: str) -> None:
    network = ResnetGenerator(2, blocks=1, upsample=upsample, residual=True)
    initialize(network)
    images = noise(1, 3, 16, 16)
    assert torch.equal(network(images), images)


def test_a_plain_generator_does_not_start_as_the_identity() -> None:
    network = ResnetGenerator(2, blocks=1)
    initialize(network)
    images = noise(1, 3, 16, 16)
    assert not torch.allclose(network(images), images, atol=0.1)


def test_detail_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0, 6.0]]]])
    # Means over three pixels, two at the ends: 1.5, 3, 4.
    assert torch.allclose(
        high_pass(image, 3) / HIGH_PASS_GAIN, torch.tensor([[[[-0.5, -1.0, 2.0]]]])
    )
    assert high_pass(image, 0) is image


@pytest.mark.parametrize("part", ["edsr", "patch"])
@pytest.mark.parametrize("size", ["-3", "4", "2.5", "a", "true"])
def test_a_highpass_that_is_not_odd_is_refused(part: str, size: str) -> None:
    slot = "generator" if part == "edsr" else "discriminator"
    with pytest.raises(UserError, match=f"--{slot}: {part} cannot be made: highpass"):
        parts.build(expressions.parse_one(f"{part}(highpass={size})", option=slot), TABLES[slot])


def test_with_a_highpass_the_discriminator_does_not_see_the_colour() -> None:
    torch.manual_seed(0)
    images = noise(1, 3, 32, 32)
    for highpass, same in ((0, False), (5, True)):
        network = PatchDiscriminator(2, norm="none", highpass=highpass)
        initialize(network, gain=0.2)
        shifted = network(images + torch.tensor([0.3, -0.2, 0.1])[:, None, None])
        assert torch.allclose(shifted, network(images), atol=1e-5) is same


@pytest.mark.parametrize("upsample", ["resize", "pixelshuffle"])
def test_a_generator_starts_without_a_checkerboard_on_a_flat_field(upsample: str) -> None:
    torch.manual_seed(0)
    flat = torch.full((1, 3, 96, 96), 0.3)
    network = ResnetGenerator(4, blocks=1, norm="none", upsample=upsample)
    initialize(network, gain=0.3)
    # The halving convolutions see zeros beyond the border: away from it, flat must stay flat.
    output = network(flat)[..., 40:56, 40:56]
    assert output.abs().max() > 1e-3
    assert (output - output.mean(dim=(2, 3), keepdim=True)).abs().max() < 1e-6
