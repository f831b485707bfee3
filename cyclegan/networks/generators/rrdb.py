"""The generator of ESRGAN: residual blocks of dense blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.edsr import ResidualGenerator, conv
from cyclegan.networks.layers import Block

# Wang et al. (2018), section 3.1: what keeps deep networks without norms trainable.
BRANCH = 0.2


class RRDBGenerator(ResidualGenerator):
    """Residual-in-residual dense blocks without norms (Wang et al., 2018).

    Args:
        blocks: number of blocks, of three dense blocks each; ESRGAN has 23.
        growth: how many channels each layer of a dense block adds to what the next one sees.
        channels, fold, highpass, reduce, scale, shrink, noise: as of `ResidualGenerator`.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        blocks: int = 6,
        growth: int = 32,
        fold: int | None = None,
        highpass: int = 0,
        reduce: int = 1,
        scale: int = 1,
        shrink: int = 1,
        noise: int = 0,
    ) -> None:
        check_count("blocks", blocks, least=0, most=512)
        check_count("growth", growth, least=1)
        super().__init__(
            channels,
            body=lambda width: nn.Sequential(
                *(RRDB(width, growth) for _ in range(blocks)), conv(width, width)
            ),
            fold=fold,
            highpass=highpass,
            reduce=reduce,
            scale=scale,
            shrink=shrink,
            noise=noise,
        )


class RRDB(Block):
    """x + 0.2 d(d(d(x))), d a dense block."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def branch(self, features: Tensor) -> Tensor:
        added: Tensor = BRANCH * self.dense(features)
        return added


class DenseBlock(nn.Module):
    """x + 0.2 times the last of five convolutions, each of which sees x and all before it."""

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
        output: Tensor = features + BRANCH * self.convs[-1](torch.cat(seen, dim=1))
        return output
