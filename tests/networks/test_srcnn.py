"""Super-resolution on the luma: srcnn and its spec, vgg7, dcscn."""

import re

import pytest
import torch
from support.networks import SMALL, conv, count, make, noise, pillow, shake
from torch import Tensor

from cyclegan.config.errors import UserError
from cyclegan.networks.generators.dcscn import DCSCN
from cyclegan.networks.generators.srcnn import SRCNN, VGG7

PAPER = {"layers": 7, "filters": 96, "min_filters": 32}
COMPACT = {"layers": 7, "filters": 32, "min_filters": 8, "decay": 1.2, "wide": 24, "narrow": 8}


def luma(image: Tensor) -> Tensor:
    return (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * image).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ("64x9x9_32x5_1x5x5", 'layer 2, "32x5" at character 8, must read filters x height x width'),
        ("64x9x9_", 'layer 2, "" at character 8, must read'),
        ("", 'layer 1, "" at character 1, must read'),
        ("0x3x3_1x3x3", 'layer 1, "0x3x3" at character 1, must read'),
        ("8x3x3_8x4x3_1x3x3", 'layer 2, "8x4x3" at character 7, must have odd kernel sides'),
        ("8x33x3_1x3x3", "at most 31"),
        ("8x3x3_2x3x3", "the last layer has 2 filters; with color=y it must have 1"),
    ],
)
def test_a_malformed_spec_is_refused_with_its_place(layers: str, problem: str) -> None:
    with pytest.raises(UserError, match=re.escape(problem)):
        make(f'srcnn(spec="{layers}")')


@pytest.mark.parametrize("value", ["3", "true", "[1, 2]", "64"])
def test_a_spec_of_another_type_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="srcnn cannot be made: spec="):
        make(f"srcnn(spec={value})")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("srcnn", "color=hsv", "color=hsv is unknown; known: y, rgb"),
        ("vgg7", "color=1", "color=1 is unknown; known: y, rgb"),
        ("vgg7", "residual=1", "residual=1 must be true or false"),
        ("dcscn", "decay=0", "decay=0 must be a number above 0"),
        ("dcscn", "decay=fast", "decay=fast must be a number above 0"),
        ("dcscn", "filters=20", "filters=20 must be a whole number, at least 48"),
        ("dcscn", "narrow=thin", "narrow=thin must be a whole number"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: str, problem: str) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"--generator: {name} cannot be made: {problem}")
    ):
        make(f"{name}({options})")


@pytest.mark.parametrize("last", [1, 3])
def test_in_colour_the_last_layer_may_be_written_1_or_3(last: int) -> None:
    network = SRCNN(spec=f"4x3x3_{last}x3x3", color="rgb")
    assert count(network) == (3 * 9 + 1) * 4 + (4 * 9 + 1) * 3


@pytest.mark.parametrize(
    ("layers", "weights"),
    [
        # 9-1-5 and 9-5-5 of Dong et al. (2016), who leave out the biases.
        ("64x9x9_32x1x1_1x5x5", 8_032),
        ("64x9x9_32x5x5_1x5x5", 57_184),
        ("2x3x5_1x1x7", 2 * 15 + 2 * 7),
    ],
)
def test_srcnn_has_the_published_weights(layers: str, weights: int) -> None:
    assert sum(p.numel() for p in SRCNN(spec=layers).parameters() if p.ndim == 4) == weights


def test_vgg7_has_its_seven_layers() -> None:
    middle = 9_248 + 18_496 + 36_928 + 73_856 + 147_584
    assert count(VGG7()) == 896 + middle + 3_459
    assert count(VGG7(color="y")) == 320 + middle + 1_153


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({}, [196, 166, 148, 133, 120, 108, 97, 86, 76, 66, 57, 48]),
        (PAPER, [96, 76, 65, 55, 47, 39, 32]),
        (COMPACT, [32, 26, 22, 18, 14, 11, 8]),
        ({"layers": 1}, [196]),
    ],
)
def test_dcscn_has_the_published_widths(options: dict[str, float], widths: list[int]) -> None:
    assert [layer[0].out_channels for layer in DCSCN(**options).extract] == widths


@pytest.mark.parametrize(
    ("options", "extract", "found"), [(PAPER, 194_157, 410), (COMPACT, 20_934, 131)]
)
def test_dcscn_has_the_parameters_by_hand(
    options: dict[str, float], extract: int, found: int
) -> None:
    network = DCSCN(scale=2, **options)
    wide, narrow = int(options.get("wide", 64)), int(options.get("narrow", 32))
    # Weights, then a bias and a slope for each output channel; the last layer has no slope.
    reconstruct = (found + 2) * (wide + narrow) + 9 * narrow**2 + 2 * narrow
    assert count(network) == extract + 2 * found + reconstruct + 4 * (wide + narrow) + 4


@pytest.mark.parametrize(
    "text", [SMALL["srcnn"][:-1] + ", residual=false)", SMALL["srcnn"], SMALL["dcscn"]]
)
def test_a_luma_network_keeps_the_chroma_of_the_enlargement(text: str) -> None:
    network, image = shake(make(text, scale=2)), noise(1, 3, 8, 8)
    output, enlarged = network(image), pillow(image, 16, 16)
    assert not torch.allclose(output, enlarged, atol=1e-2)
    # Cb and Cr of BT.601 are B - Y and R - Y, scaled.
    chroma, expected = ((x - luma(x))[:, ::2] for x in (output, enlarged))
    assert torch.allclose(chroma, expected, atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_srcnn_by_its_formula(residual: bool) -> None:
    network = shake(SRCNN(spec="4x5x3_3x1x1_1x3x3", residual=residual, scale=2))
    image, weights = noise(1, 3, 8, 9), network.state_dict()
    assert ("residual_scale" in weights) is residual
    seen = luma(pillow(image, 16, 18))
    features = conv(weights, "layers.0", seen).relu()
    features = conv(weights, "layers.2", features).relu()
    expected = conv(weights, "layers.4", features) + (seen if residual else 0)
    assert torch.allclose(luma(network(image)), expected, atol=1e-5)


def test_only_vgg7_has_the_leak_in_its_state_dict() -> None:
    widths = (32, 32, 64, 64, 128, 128, 1)
    same_layers = SRCNN(spec="_".join(f"{width}x3x3" for width in widths))
    assert set(VGG7(color="y").state_dict()) - set(same_layers.state_dict()) == {"leak"}


def test_vgg7_in_colour_by_its_formula() -> None:
    network = shake(VGG7(residual=False))
    features, weights = noise(1, 3, 6, 5), network.state_dict()
    expected = features
    for layer in range(0, 14, 2):
        expected = conv(weights, f"layers.{layer}", expected)
        expected = expected if layer == 12 else torch.where(expected > 0, expected, 0.1 * expected)
    assert torch.allclose(network(features), expected, rtol=1e-3, atol=1e-3)


def test_dcscn_by_its_formula() -> None:
    network = shake(DCSCN(layers=2, filters=3, min_filters=2, wide=3, narrow=2, scale=2))
    image, weights = noise(1, 3, 6, 5), network.state_dict()

    def step(name: str, features: Tensor) -> Tensor:
        features = conv(weights, f"{name}.0", features)
        slope = weights[f"{name}.1.weight"][:, None, None]
        return torch.where(features > 0, features, slope * features)

    first = step("extract.0", luma(image))
    found = torch.cat([first, step("extract.1", first)], 1)
    deeper = step("deeper.1", step("deeper.0", found))
    joined = torch.cat([step("direct", found), deeper], 1)
    planes = conv(weights, "correction", joined)
    laid_out = planes.view(1, 2, 2, 6, 5).permute(0, 3, 1, 4, 2).reshape(1, 1, 12, 10)
    assert torch.allclose(network(image), pillow(image, 12, 10) + laid_out, atol=1e-4)
