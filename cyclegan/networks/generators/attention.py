"""The residual generator with self-attention among its blocks."""

import math

from torch import Tensor, nn, zeros
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.resnet import ResnetBlock, ResnetGenerator


class AttentionResnet(ResnetGenerator):
    """A resnet in which every place of the bottleneck sees every other (SAGAN, Zhang et al., 2019).

    It starts as the resnet without attention, and learns how much of it to add. For any size that
    the resnet takes; the time of an attention grows with the square of the number of pixels.

    Args:
        heads: attentions side by side; they must divide the width of the bottleneck, which is
            `channels` times 2 to the power of `downs`.
        attentions: number of attention layers, spread evenly among the blocks and no more than
            they; a single one stands behind the middle block.

    The other options are those of `ResnetGenerator`.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        heads: int = 8,
        attentions: int = 1,
        blocks: int = 9,
        downs: int = 2,
        norm: str = "instance",
        upsample: str = "deconv",
        dropout: bool = False,
        residual: bool = False,
        antialias: bool = False,
    ) -> None:
        check_count("heads", heads, least=1)
        check_count("blocks", blocks, least=1, most=512)
        check_count("attentions", attentions, least=1, most=blocks)
        super().__init__(
            channels,
            blocks=blocks,
            downs=downs,
            norm=norm,
            upsample=upsample,
            dropout=dropout,
            residual=residual,
            antialias=antialias,
        )
        width = channels * self.multiple
        if width % heads:
            raise ValueError(f"heads={heads} must divide {width}, the width of the bottleneck")
        first = next(i for i, layer in enumerate(self.model) if isinstance(layer, ResnetBlock))
        # From the back, so that the places in front still hold.
        for number in range(attentions, 0, -1):
            before = math.ceil(blocks * number / (attentions + 1))
            self.model.insert(first + before, SelfAttention(width, heads=heads))


class SelfAttention(nn.Module):
    """x + project(gain * attention(norm(x))) over all places of N x C x h x w features.

    The gain of each head starts at 0. Where a place lies is told by a 3x3 depthwise convolution
    before the attention (Chu et al., 2021): unlike a table of positions, it fits any size.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        # One a head, so that a weight file alone tells the heads.
        self.gain = nn.Parameter(zeros(heads, 1, 1))
        # A bias would be added whatever the gain.
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        seen = self.norm(features)
        seen = seen + self.position(seen)
        # N x (3 C) x h x w to three of N x heads x (h w) x (C / heads).
        split = self.qkv(seen).flatten(2).unflatten(1, (3, len(self.gain), -1)).transpose(-1, -2)
        attended = functional.scaled_dot_product_attention(*split.unbind(1))
        joined = (self.gain * attended).transpose(-1, -2).reshape(features.shape)
        output: Tensor = features + self.project(joined)
        return output
