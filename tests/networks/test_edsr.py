"""Generators that change the size: bicubic, edsr and rrdb."""

import re

import numpy as np
import pytest
import torch
from support.networks import (
    REDUCING,
    SMALL,
    conv,
    count,
    make,
    noise,
    pillow,
    shake,
)
from torch import nn
from torch.nn import functional

from cyclegan.config.errors import UserError
from cyclegan.networks.generators.bicubic import Bicubic, resize
from cyclegan.networks.generators.edsr import EDSRGenerator
from cyclegan.networks.generators.rrdb import RRDB
from cyclegan.networks.layers import HIGH_PASS_GAIN


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_resizes_as_pillow_does(factor: int) -> None:
    image = noise(2, 3, 24, 12)
    larger, smaller = resize(image, scale=factor), resize(image, shrink=factor)
    assert torch.allclose(larger, pillow(image, 24 * factor, 12 * factor), atol=1e-5)
    assert torch.allclose(smaller, pillow(image, 24 // factor, 12 // factor), atol=1e-5)


def test_bicubic_at_size_1_is_the_identity() -> None:
    image = noise(1, 3, 8, 8)
    assert torch.equal(Bicubic()(image), image)


@pytest.mark.parametrize("sizes", [{"scale": 2}, {"shrink": 3}])
def test_bicubic_has_the_right_gradient(sizes: dict[str, int]) -> None:
    image, other = noise(1, 1, 12, 6).double().requires_grad_(), noise(1, 1, 6, 12).double().mT
    weights = noise(*resize(image, **sizes).shape).double()
    (gradient,) = torch.autograd.grad((weights * resize(image, **sizes)).sum(), image)
    # Resizing is linear, so that its gradient is the transposed map.
    assert float((gradient * other).sum()) == pytest.approx(
        float((weights * resize(other, **sizes)).sum()), rel=1e-9
    )


def test_rounded_bicubic_gives_8_bit_values_and_the_gradient_of_the_identity() -> None:
    image = (1.2 * noise(1, 3, 8, 8)).requires_grad_()
    rounded, plain = Bicubic(shrink=2, round=True)(image), Bicubic(shrink=2)(image)
    expected = np.rint((plain.detach().numpy().clip(-1, 1) + 1) * 127.5) / 127.5 - 1
    assert torch.allclose(rounded, torch.from_numpy(expected), atol=1e-6)
    weights = noise(*plain.shape)
    gradients = [torch.autograd.grad((weights * out).sum(), image)[0] for out in (rounded, plain)]
    assert torch.equal(*gradients)


def test_bicubic_is_computed_in_float32_under_autocast() -> None:
    image = noise(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resize(image, scale=2)
    assert torch.equal(inside, resize(image, scale=2))
    assert resize(image.bfloat16(), scale=2).dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_an_enlarging_generator_starts_as_bicubic(name: str, scale: int) -> None:
    network, image = make(SMALL[name], scale=scale), noise(2, 3, 10, 8)
    assert (network.scale, network.size_multiple) == (scale, 1)
    assert getattr(network, "shrink", 1) == 1
    assert torch.allclose(network(image), pillow(image, 10 * scale, 8 * scale), atol=1e-5)
    assert int(network.state_dict()["scale_factor"]) == scale


@pytest.mark.parametrize("shrink", [2, 3, 4])
@pytest.mark.parametrize("name", REDUCING)
def test_a_reducing_generator_starts_as_bicubic(name: str, shrink: int) -> None:
    network, image = make(SMALL[name], scale=1, shrink=shrink), noise(2, 3, 36, 24)
    assert (network.scale, network.shrink, network.size_multiple) == (1, shrink, shrink)
    assert torch.allclose(network(image), pillow(image, 36 // shrink, 24 // shrink), atol=1e-5)
    assert int(network.state_dict()["shrink_factor"]) == shrink


@pytest.mark.parametrize("name", SMALL)
def test_at_size_1_the_state_dict_has_no_resizing_factor(name: str) -> None:
    assert not {"scale_factor", "shrink_factor"} & set(make(SMALL[name]).state_dict())


@pytest.mark.parametrize("name", [name for name in SMALL if name != "bicubic"])
def test_every_parameter_of_an_enlarging_generator_learns_under_autocast(name: str) -> None:
    network = shake(make(SMALL[name], scale=3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(noise(1, 3, 8, 8)).square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", REDUCING)
def test_a_reducing_generator_sees_every_pixel(name: str) -> None:
    network, image = shake(make(SMALL[name], shrink=4)), noise(1, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(network(image)[..., 2, 2].sum(), image)
    assert (gradient[..., 6:14, 6:14] != 0).all()


@pytest.mark.parametrize("name", ["edsr", "rrdb"])
@pytest.mark.parametrize("sizes", [{"scale": 3}, {"shrink": 3}, {"scale": 6}, {}])
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_fold_does_not_change_the_size(name: str, sizes: dict[str, int], fold: int) -> None:
    network = shake(make(f"{SMALL[name][:-1]}, fold={fold}, reduce=2, highpass=3)", **sizes))
    height, width = 3 * network.size_multiple, 2 * network.size_multiple
    scale, shrink = network.scale, network.shrink
    expected = (1, 3, height * scale // shrink, width * scale // shrink)
    assert network(noise(1, 3, height, width)).shape == expected


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        *((name, "scale=2, shrink=2", "scale=2 and shrink=2 undo each other") for name in REDUCING),
        *((name, "scale=1.5", "scale=1.5 must be a whole number") for name in SMALL),
        ("edsr", "blocks=two", "blocks=two must be a whole number"),
        ("edsr", "channels=1", "channels=1 must be a whole number, at least 2"),
        ("edsr", "fold=0", "fold=0 must be a whole number"),
        ("edsr", "reduce=true", "reduce=True must be a whole number"),
        ("rrdb", "growth=a", "growth=a must be a whole number"),
        ("bicubic", "round=yes", "round=yes must be true or false"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: str, problem: str) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"--generator: {name} cannot be made: {problem}")
    ):
        make(f"{name}({options})")


def test_networks_have_the_parameters_of_their_papers() -> None:
    # ESRGAN's 23 blocks are 16,546,752 of its 16,697,987.
    assert 23 * count(RRDB(64, 32)) == 16_546_752
    assert count(EDSRGenerator()) == 6_976 + 8 * 2 * 36_928 + 19_328 + 867
    assert count(EDSRGenerator(scale=4)) == 1_792 + (8 * 2 + 2) * 36_928 + 19_328 + 867


def test_edsr_at_size_1_by_its_formula() -> None:
    network = shake(EDSRGenerator(6, blocks=2, highpass=3, reduce=2))
    image, weights = noise(1, 3, 8, 12), network.state_dict()
    small = image.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    base = functional.interpolate(small, scale_factor=2, mode="bilinear")
    mean = functional.avg_pool2d(base, 3, 1, 1, count_include_pad=False)
    seen = HIGH_PASS_GAIN * (base - mean)
    folded = seen.view(1, 3, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 12, 4, 6)
    head = features = conv(weights, "head", folded)
    for block in ("body.0.convs", "body.1.convs"):
        branch = conv(weights, f"{block}.2", conv(weights, f"{block}.0", features).relu())
        features = features + 0.1 * branch
    features = functional.interpolate(head + features, scale_factor=2, mode="bilinear")
    fine = conv(weights, "fine", torch.cat([features, seen], 1))
    expected = base + conv(weights, "correction", torch.where(fine > 0, fine, 0.2 * fine))
    assert torch.allclose(network(image), expected, atol=1e-4)


def test_edsr_at_size_2_by_its_formula() -> None:
    network = shake(EDSRGenerator(6, blocks=0, scale=2))
    image, weights = noise(1, 3, 8, 12), network.state_dict()
    features = 2 * conv(weights, "head", image)
    features = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    features = conv(weights, "enlarge.1", features)
    base = pillow(image, 16, 24)
    features = torch.cat([torch.where(features > 0, features, 0.2 * features), base], 1)
    fine = conv(weights, "fine", features)
    expected = base + conv(weights, "correction", torch.where(fine > 0, fine, 0.2 * fine))
    assert torch.allclose(network(image), expected, atol=1e-4)


def test_rrdb_by_its_formula() -> None:
    block = shake(RRDB(4, 2))
    weights, image = block.state_dict(), noise(1, 4, 6, 6)
    features = image
    for dense in range(3):
        seen = features
        for layer in range(4):
            new = conv(weights, f"dense.{dense}.convs.{layer}", seen)
            seen = torch.cat([seen, torch.where(new > 0, new, 0.2 * new)], 1)
        features = features + 0.2 * conv(weights, f"dense.{dense}.convs.4", seen)
    assert torch.allclose(block(image), image + 0.2 * features, atol=1e-5)


@pytest.mark.parametrize("sizes", [{}, {"scale": 2}, {"shrink": 2}])
@pytest.mark.parametrize("name", ["edsr", "rrdb"])
def test_the_encoder_gives_the_layers_asked_for_and_runs_no_further(
    name: str, sizes: dict[str, int]
) -> None:
    network = make(SMALL[name].replace("blocks=1", "blocks=6"), **sizes)
    image, side = noise(2, 3, 16, 24), network.fold
    assert network.encode_layers[0] == 0
    assert network.encode_layers[-1] == 1 + len(network.body)
    found = network.encode(image)
    assert len(found) == len(network.encode_layers) == 5
    assert torch.equal(found[0], image)
    assert all(features.shape == (2, 4, 16 // side, 24 // side) for features in found[1:])
    with pytest.raises(ValueError, match="layer=99 must be"):
        network.encode(image, [0, 99])
    for index in range(1, len(network.body)):
        network.body[index] = nn.Module()  # raises when it is run
    one, first = network.encode(image, [2, 1])
    assert torch.equal(network.body[0](first), one)


def test_only_a_network_with_noise_draws_random_numbers_in_each_pass() -> None:
    image = torch.zeros(1, 3, 16, 16)
    for planes in (0, 2):
        network = EDSRGenerator(4, blocks=1, shrink=2, noise=planes)
        torch.manual_seed(0)
        first, second = network(image), network(image)
        torch.manual_seed(0)
        assert torch.equal(network(image), first)
        assert torch.equal(first, second) == (planes == 0)
        assert network.encode(image, [1])[0].shape == (1, 4, 8, 8)
