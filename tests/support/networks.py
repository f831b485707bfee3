"""Networks small enough for a test, and images and references for them."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config import expressions, parts
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.layers import initialize

TABLES = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}
# Generators that enlarge, and those of them that reduce as well.
SMALL = {
    "bicubic": "bicubic()",
    "edsr": "edsr(channels=4, blocks=1)",
    "rrdb": "rrdb(channels=4, blocks=1, growth=2)",
    "srcnn": 'srcnn(spec="4x5x5_1x3x3")',
    "vgg7": "vgg7()",
    "dcscn": "dcscn(layers=3, filters=8, min_filters=4, wide=4, narrow=3)",
}
REDUCING = ("bicubic", "edsr", "rrdb")


def make(
    text: str, *, option: str = "generator", seed: int = 0, gain: float = 0.02, **defaults: int
) -> nn.Module:
    """A network as the commands make it, with its first weights."""
    torch.manual_seed(seed)
    term = expressions.parse_one(text, option=option)
    network = parts.build(term, TABLES[option], **defaults)
    initialize(network, gain=gain)
    return network


def shake(network: nn.Module) -> nn.Module:
    """Random weights and biases in every layer, the last one's too."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.2, generator=generator)
    return network


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pillow(image: Tensor, height: int, width: int) -> Tensor:
    """The image resized by Pillow's bicubic interpolation."""
    planes = [Image.fromarray(plane.numpy()) for plane in image.flatten(0, 1)]
    resized = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
    arrays = np.stack([np.asarray(plane) for plane in resized])
    return torch.from_numpy(arrays).view(*image.shape[:2], height, width)


def conv(weights: Mapping[str, Tensor], name: str, image: Tensor) -> Tensor:
    """A convolution with reflected borders, from a state dict."""
    weight = weights[f"{name}.weight"]
    down, right = weight.shape[2] // 2, weight.shape[3] // 2
    padded = functional.pad(image, (right, right, down, down), mode="reflect")
    return functional.conv2d(padded, weight, weights[f"{name}.bias"])


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
