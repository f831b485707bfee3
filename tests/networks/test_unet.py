"""The U-Net generator: classic tensors, sizes, dropout, its formula."""

from functools import partial

import pytest
import torch
from support.networks import make, noise
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.networks.generators.unet import UnetGenerator

make = partial(make, channels=4)


def unet_keys(layers: int) -> set[str]:
    inner = ["model.model.1.model" + ".3.model" * depth for depth in range(layers - 1)]
    convs = ["model.model.0", "model.model.3", *(f"{prefix}.1" for prefix in inner)]
    convs += [f"{prefix}.5" for prefix in inner[:-1]] + [f"{inner[-1]}.3"]
    return {f"{conv}.{kind}" for conv in convs for kind in ("weight", "bias")}


# The classic implementation prints these numbers for unet_256 and unet_128.
@pytest.mark.parametrize(("layers", "millions"), [(8, 54.414), (7, 41.829)])
def test_the_unet_has_the_classic_tensors(layers: int, millions: float) -> None:
    with torch.device("meta"):
        network, batch = UnetGenerator(layers=layers), UnetGenerator(layers=layers, norm="batch")
    assert set(network.state_dict()) == unet_keys(layers)
    count = sum(parameter.numel() for parameter in batch.parameters())
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_a_unet_trains_on_its_smallest_image(layers: int, norm: str) -> None:
    network = make(f"unet(layers={layers}, norm={norm})")
    assert network.min_size == network.size_multiple == 2**layers
    images = noise(2, 3, network.min_size, network.min_size)
    assert network(images).isfinite().all()


def test_dropout_of_a_unet_is_at_the_classic_places() -> None:
    network = UnetGenerator(1, layers=8, dropout=True)
    dropped = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout)]
    assert set(dropped) == {
        "model.model.1.model" + ".3.model" * depth + ".7" for depth in (3, 4, 5)
    }


def test_a_unet_of_two_halvings_is_its_formula() -> None:
    network, image = make("unet(layers=2)"), noise(1, 3, 8, 12)
    weights = network.state_dict()

    def layer(name: str, features: Tensor) -> Tensor:
        weight, bias = weights[f"model.model.{name}.weight"], weights[f"model.model.{name}.bias"]
        # The two convolutions on the way up are transposed.
        apply = functional.conv_transpose2d if name.endswith("3") else functional.conv2d
        return apply(features, weight, bias, stride=2, padding=1)

    outer = layer("0", image)
    inner = layer("1.model.1", functional.leaky_relu(outer, 0.2))
    within = functional.instance_norm(layer("1.model.3", inner.relu()))
    wanted = layer("3", torch.cat([outer, within], dim=1).relu()).tanh()
    assert torch.allclose(network(image), wanted, atol=1e-6)
