"""The generator of ESRGAN: residual blocks of dense blocks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.edsr import RestorationGenerator, conv
from cyclegan.networks.layers import ResidualBlock

# Wang et al. (2018), section 3.1: keeps deep networks without norms trainable.
RESIDUAL_SCALE = 0.2


class RRDBGenerator(RestorationGenerator):
    """Residual-in-residual dense blocks without norms (Wang et al., 2018).

    Args:
        blocks: number of blocks, of three dense blocks each; ESRGAN has 23.
        growth: how many channels each layer of a dense block adds to the input of the next one.
        channels, **options: as in `RestorationGenerator`.
    """

    def __init__(
        self, channels: int = 64, *, blocks: int = 6, growth: int = 32, **options: Any
    ) -> None:
        check_count("blocks", blocks, least=0, most=512)
        check_count("growth", growth, least=1)

        def body(width: int) -> nn.Sequential:
            return nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)), conv(width, width))

        super().__init__(body, channels, **options)


class RRDB(ResidualBlock):
    """x + 0.2 d(d(d(x))), d a dense block."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def branch(self, features: Tensor) -> Tensor:
        added: Tensor = RESIDUAL_SCALE * self.dense(features)
        return added


class DenseBlock(nn.Module):
    """x + 0.2 times the last of five convolutions, each of x and the outputs of all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(
            conv(channels + i * growth, width) for i, width in enumerate(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        seen = [features]
        for layer in self.convs[:-1]:
            seen.append(functional.leaky_relu(layer(torch.cat(seen, dim=1)), 0.2))
        output: Tensor = features + RESIDUAL_SCALE * self.convs[-1](torch.cat(seen, dim=1))
        return output
