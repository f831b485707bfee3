"""The guarantees of every generator in the table."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from support.networks import make, noise
from torch import Tensor, nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks import GENERATORS
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.generators.unet import UnetGenerator
from cyclegan.runs import checkpoints

VARIANTS = [
    *GENERATORS,
    "resnet(antialias=true)",
    "resnet(upsample=pixelshuffle, residual=true, blocks=2)",
    "resnet(norm=none, blocks=0, downs=1)",
    "attention(blocks=3, attentions=2, antialias=true)",
    "unet(layers=3, upsample=resize, norm=none)",
    "unet(layers=1)",
]
ENCODERS = [text for text in VARIANTS if text.startswith(("resnet", "attention", "unet"))]

make = partial(make, channels=4)


def fitting(network: nn.Module, *, batch: int = 1) -> Tensor:
    """About the smallest image that the commands accept, higher than wide."""
    multiple = network.size_multiple
    side = -(-getattr(network, "min_size", max(16, 4 * multiple)) // multiple) * multiple
    return noise(batch, 3, side + multiple, side)


@pytest.mark.parametrize("text", VARIANTS)
def test_a_generator_gives_images_of_its_scale(text: str) -> None:
    for asked in ((1, 1), (2, 1), (3, 1), (1, 2)):
        try:
            network = make(text, scale=asked[0], shrink=asked[1])
        except UserError:
            if asked == (1, 1):
                raise
            continue
        scale, shrink = told = getattr(network, "scale", 1), getattr(network, "shrink", 1)
        assert told in (asked, (1, 1))
        images = fitting(network, batch=2)
        height, width = (side * scale // shrink for side in images.shape[-2:])
        assert network(images).shape == (2, 3, height, width)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("text", VARIANTS)
def test_gradients_reach_the_image_and_every_parameter(text: str, autocast: bool) -> None:
    network = make(text)
    images = fitting(network).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = network(images)
    assert output.isfinite().all()
    output.float().square().mean().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("text", VARIANTS)
def test_a_generator_saved_and_loaded_gives_the_same_output(text: str, tmp_path: Path) -> None:
    network, other = make(text), make(text)
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.01)
    images = fitting(network)
    checkpoints.save_weights(tmp_path, 1, {"G_AB": network})
    path = checkpoints.weights_path(tmp_path, 1, "G_AB")
    checkpoints.fit_weights(other, checkpoints.load_weights(path), source=path)
    assert torch.equal(other(images), network(images))


@pytest.mark.parametrize("text", VARIANTS)
def test_a_forward_pass_changes_no_weight_and_a_copy_is_independent(text: str) -> None:
    network = make(text)
    images = fitting(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    other = copy.deepcopy(network)
    assert torch.equal(network(images), other(images))
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}(channels=0)" for name in GENERATORS),
        *("resnet(residual=no)", "resnet(dropout=0.5)", "resnet(upsample=nearest)"),
        *("resnet(blocks=two)", "resnet(blocks=1.5)", "resnet(blocks=true)", "resnet(blocks=-1)"),
        *("resnet(downs=6)", "resnet(antialias=1)", "resnet(norm=3)", "resnet(norm=[1])"),
        *("attention(heads=0)", "attention(heads=3)", "attention(blocks=0)"),
        *("attention(attentions=a)", "attention(blocks=2, attentions=3)"),
        *(
            "unet(layers=9)",
            "unet(layers=0)",
            "unet(layers=3, dropout=true)",
            "unet(norm=spectral)",
        ),
    ],
)
def test_an_invalid_option_of_a_generator_is_refused(text: str) -> None:
    option = text.rpartition(", ")[2].rpartition("(")[2].partition("=")[0]
    with pytest.raises(UserError, match=f"--generator: .*{option}") as error:
        parts.build(expressions.parse_one(text, option="generator"), GENERATORS)
    assert "not supported between" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("edsr(block=2)", "channels, blocks, fold, highpass, reduce, scale, shrink, noise"),
        ("rrdb(body=2)", "channels, blocks, growth, fold, highpass, reduce, scale, shrink, noise"),
        (
            "attention(head=2)",
            "channels, heads, attentions, blocks, downs, norm, upsample, dropout, residual, "
            "antialias",
        ),
        ("srcnn(leak=1)", "spec, color, residual, scale"),
        ("vgg7(shrink=2)", "color, residual, scale"),
    ],
)
def test_an_unknown_option_is_refused_with_the_known_ones_of_the_base_class(
    text: str, known: str
) -> None:
    with pytest.raises(UserError, match=f"has no option .*; it knows {known}$"):
        make(text)


@pytest.mark.parametrize("text", ENCODERS)
def test_encoded_features_equal_those_of_a_full_pass(text: str) -> None:
    network = make(text)
    images = fitting(network)
    layers = dict(enumerate(network.model)) if isinstance(network, ResnetGenerator) else {}
    for convolution in network.modules() if isinstance(network, UnetGenerator) else ():
        if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (4, 4):
            layers[len(layers) + 1] = convolution
    seen = {0: images}
    for index, layer in layers.items():
        layer.register_forward_hook(
            lambda *call, index=index: seen.update({index: call[2].clone()})
        )
    network(images)
    wanted = dict(seen)
    assert network.encode_layers[0] == 0
    for index, feature in zip(network.encode_layers, network.encode(images), strict=True):
        assert torch.equal(feature, wanted[index]), index
    last, first = network.encode(images, [max(wanted), 0])
    assert torch.equal(last, wanted[max(wanted)])
    assert torch.equal(first, wanted[0])


def test_encoding_runs_no_further_than_asked() -> None:
    network = make("resnet")
    network.model[5] = nn.Linear(1, 1)
    assert [f.shape[1] for f in network.encode(fitting(network), [4, 0])] == [8, 3]
    assert network.encode(fitting(network), []) == []


@pytest.mark.parametrize("text", ["resnet(blocks=1)", "unet(layers=2)"])
@pytest.mark.parametrize("index", [-1, 100, "a", 1.5])
def test_a_layer_that_does_not_exist_is_refused(text: str, index: object) -> None:
    network = make(text)
    with pytest.raises(ValueError, match="layer="):
        network.encode(fitting(network), [index])
