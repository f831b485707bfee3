"""What a weight file alone tells of its architecture."""

import itertools
from pathlib import Path

import pytest
import torch

from cyclegan import checkpoint, spec
from cyclegan.errors import UserError
from cyclegan.networks import GENERATORS
from cyclegan.networks.infer import generator_expression
from cyclegan.networks.patchgan import PatchDiscriminator
from cyclegan.networks.resnet import ResnetGenerator

OPTIONS = {
    "channels": (2, 3),
    "blocks": (1, 3),
    "downs": (1, 2, 3),
    "norm": ("instance", "batch", "none"),
    "upsample": ("deconv", "resize"),
    "dropout": (False, True),
    "residual": (False, True),
}


@pytest.mark.parametrize("values", list(itertools.product(*OPTIONS.values())))
def test_keys_and_shapes_alone_tell_the_architecture(values: tuple, tmp_path: Path) -> None:
    options = dict(zip(OPTIONS, values, strict=True))
    with torch.device("meta"):
        weights = ResnetGenerator(**options).state_dict()
    term = spec.parse_one(
        generator_expression(weights, source=tmp_path / "x.pth"), slot="generator"
    )
    assert (term.name, term.options) == ("resnet", options)


def test_without_halvings_everything_but_the_unused_upsampling_is_told(tmp_path) -> None:
    options = {"channels": 2, "blocks": 2, "downs": 0, "norm": "batch", "dropout": True}
    weights = ResnetGenerator(**options, upsample="resize").state_dict()
    term = spec.parse_one(generator_expression(weights, source=tmp_path), slot="generator")
    rebuilt = spec.build(term, GENERATORS, slot="generator")
    checkpoint.fit_weights(rebuilt, weights, source=tmp_path)
    assert options.items() <= term.options.items()


@pytest.mark.parametrize(
    "weights",
    [
        {},
        PatchDiscriminator(2).state_dict(),
        ResnetGenerator(2, blocks=0).state_dict(),
        {"model.1.weight": torch.zeros(2, 1, 7, 7), "model.10.conv_block.1.weight": torch.zeros(1)},
        {"model.1.weight": torch.zeros(()), "model.10.conv_block.1.weight": torch.zeros(1)},
    ],
    ids=["empty", "discriminator", "no blocks", "gray", "scalar"],
)
def test_weights_of_another_network_are_named_in_one_line(weights: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"odd\.pth.*--name") as error:
        generator_expression(weights, source=tmp_path / "odd.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options", ["blocks=2", "fold=1, blocks=0", "highpass=9, reduce=2, fold=4"]
)
def test_an_edsr_is_told_from_its_weights_alone(options: str) -> None:
    def build(expression: str) -> torch.nn.Module:
        return spec.build(
            spec.parse_one(expression, slot="generator"), GENERATORS, slot="generator"
        )

    network = build(f"edsr(channels=6, {options})")
    twin = build(generator_expression(network.state_dict(), source=Path("G.pth")))
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(network(image), twin(image))
