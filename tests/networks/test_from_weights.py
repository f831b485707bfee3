"""The architecture that is detected from a weight file alone."""

import itertools
from pathlib import Path

import pytest
import torch

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.networks import GENERATORS
from cyclegan.networks.discriminators.patchgan import PatchDiscriminator
from cyclegan.networks.from_weights import detect_architecture
from cyclegan.networks.generators.attention import AttentionResnet
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.generators.unet import UnetGenerator
from cyclegan.runs import checkpoints

OPTIONS = {
    "channels": (3,),
    "blocks": (2,),
    "downs": (1, 2, 3),
    "norm": ("instance", "batch", "none"),
    "upsample": ("deconv", "resize", "pixelshuffle"),
    "dropout": (False, True),
    "residual": (False, True),
    "antialias": (False, True),
}


@pytest.mark.parametrize("values", list(itertools.product(*OPTIONS.values())))
def test_a_resnet_is_detected(values: tuple, tmp_path: Path) -> None:
    options = dict(zip(OPTIONS, values, strict=True))
    with torch.device("meta"):
        weights = ResnetGenerator(**options).state_dict()
    term = expressions.parse_one(
        detect_architecture(weights, source=tmp_path / "x.pth"), option="generator"
    )
    assert (term.name, term.options) == ("resnet", options)


def test_without_halvings_everything_but_the_unused_upsampling_is_detected(tmp_path) -> None:
    options = {"channels": 2, "blocks": 2, "downs": 0, "norm": "batch", "dropout": True}
    weights = ResnetGenerator(**options, upsample="resize").state_dict()
    term = expressions.parse_one(detect_architecture(weights, source=tmp_path), option="generator")
    rebuilt = parts.build(term, GENERATORS)
    checkpoints.fit_weights(rebuilt, weights, source=tmp_path)
    assert options.items() <= term.options.items()


@pytest.mark.parametrize(
    "options",
    [
        {"blocks": 1, "heads": 2, "attentions": 1},
        {"blocks": 9, "heads": 1, "attentions": 2, "antialias": True, "dropout": True},
        {"blocks": 4, "heads": 4, "attentions": 4, "downs": 1, "upsample": "pixelshuffle"},
        {"blocks": 2, "heads": 1, "attentions": 1, "downs": 0, "norm": "batch", "residual": True},
    ],
)
def test_an_attention_resnet_is_detected_with_its_heads(options: dict, tmp_path: Path) -> None:
    with torch.device("meta"):
        weights = AttentionResnet(4, **options).state_dict()
    term = expressions.parse_one(detect_architecture(weights, source=tmp_path), option="generator")
    assert term.name == "attention"
    assert {"channels": 4, **options}.items() <= term.options.items()


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("upsample", ["deconv", "resize", "pixelshuffle"])
@pytest.mark.parametrize("layers", range(1, 9))
def test_a_unet_is_detected(layers: int, upsample: str, norm: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        network = UnetGenerator(2, layers=layers, norm=norm, upsample=upsample)
        term = expressions.parse_one(
            detect_architecture(network.state_dict(), source=tmp_path), option="generator"
        )
        rebuilt = parts.build(term, GENERATORS)
    # One halving has no norm, so that batch and none are the same network.
    alike = layers == 1 and norm == "batch"
    told = {"channels": 2, "layers": layers, "norm": "none" if alike else norm}
    assert (term.name, term.options) == ("unet", {**told, "upsample": upsample})
    assert str(rebuilt) == str(network)


def test_an_old_unet_with_statistics_of_instance_norm_is_detected(tmp_path: Path) -> None:
    weights = UnetGenerator(2, layers=3).state_dict()
    weights["model.model.1.model.2.running_mean"] = torch.zeros(4)
    assert "norm=instance" in detect_architecture(weights, source=tmp_path)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        PatchDiscriminator(2).state_dict(),
        ResnetGenerator(2, blocks=0).state_dict(),
        {"model.1.weight": torch.zeros(2, 1, 7, 7), "model.10.conv_block.1.weight": torch.zeros(1)},
        {"model.1.weight": torch.zeros(()), "model.10.conv_block.1.weight": torch.zeros(1)},
        {"model.model.0.weight": torch.zeros(2, 1, 4, 4)},
        {"model.10.gain": torch.zeros(2, 1, 1)},
    ],
    ids=["empty", "discriminator", "no blocks", "gray", "scalar", "gray unet", "gain alone"],
)
def test_weights_of_another_network_are_refused_in_one_line(weights: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"odd\.pth.*--name") as error:
        detect_architecture(weights, source=tmp_path / "odd.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        "blocks=2",
        "fold=1, blocks=0",
        "highpass=9, reduce=2, fold=4",
        "scale=3, fold=2",
        "shrink=2, noise=3",
    ],
)
@pytest.mark.parametrize("name", ["edsr", "rrdb"])
def test_a_restoration_network_is_detected(name: str, options: str) -> None:
    assert_twins(f"{name}(channels=6, {options})")


@pytest.mark.parametrize(
    "expression",
    [
        "srcnn(spec='8x5x3_4x1x1_1x3x3', scale=2)",
        "srcnn(spec='4x3x3_3x3x3', color=rgb, residual=false)",
        "vgg7(color=y)",
        "vgg7(scale=3)",
    ],
)
def test_a_chain_is_detected(expression: str) -> None:
    assert_twins(expression)


def assert_twins(expression: str) -> None:
    """The architecture detected from a network's weights makes the same network."""

    def build(text: str) -> torch.nn.Module:
        return parts.build(expressions.parse_one(text, option="generator"), GENERATORS)

    network = build(expression)
    twin = build(detect_architecture(network.state_dict(), source=Path("G.pth")))
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 16, 16)
    outputs = []
    for one in (network, twin):
        torch.manual_seed(0)
        outputs.append(one(image))
    assert torch.equal(*outputs)
