"""First weights, and the layers that networks share."""

import math

import pytest
import torch
from support.networks import TABLES, noise
from torch import nn
from torch.nn import functional

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.layers import (
    HIGH_PASS_GAIN,
    INITS,
    BlurPool,
    PixelShuffleConv,
    high_pass,
    initialize,
)


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
        # He et al. (2015): sqrt(2 / fan_in), for any gain.
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


def test_frozen_parameters_keep_their_values() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    network.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize(network)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


def test_blur_pool_by_hand() -> None:
    row = torch.tensor([[0.0, 0.0, 4.0, 8.0]])
    # Reflected to 0 0 0 4 8 4, and weighted by 1/4, 1/2, 1/4 around the first and the third.
    assert torch.equal(
        BlurPool()(row.expand(1, 1, 4, 4)), torch.tensor([[0.0, 4.0]]).expand(1, 1, 2, 2)
    )
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 1, 3, 3)
    assert BlurPool()(board).abs().max() == 0
    assert not BlurPool().state_dict()


def test_a_fresh_pixel_shuffle_is_a_convolution_and_nearest_neighbour() -> None:
    torch.manual_seed(0)
    layer = PixelShuffleConv(3, 2, bias=True)
    initialize(layer, init_type="kaiming")
    weight = layer[1].weight
    features = noise(1, 3, 6, 5)
    small = functional.conv2d(functional.pad(features, (1, 1, 1, 1), mode="reflect"), weight[::4])
    assert weight.detach().std() > 0.1
    assert torch.allclose(layer(features), functional.interpolate(small, scale_factor=2), atol=1e-6)


def test_high_pass_by_hand() -> None:
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
