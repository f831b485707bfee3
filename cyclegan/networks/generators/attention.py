"""The residual generator with self-attention among its blocks."""

import math
from typing import Any

from torch import Tensor, nn, zeros
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.resnet import ResnetBlock, ResnetGenerator


class AttentionResnet(ResnetGenerator):
    """A resnet in which every position of the bottleneck attends to every other (SAGAN, Zhang et
    al., 2019).

    It starts as the resnet without attention, and learns how much of it to add. It takes any size
    that the resnet takes; the time of an attention grows with the square of the number of pixels.

    Args:
        heads: number of attention heads; they must divide the width of the bottleneck, which is
            `channels` times 2 to the power of `downs`.
        attentions: number of attention layers, at most the number of blocks, evenly distributed
            among them; a single one follows the middle block.
        channels, blocks, **options: as in `ResnetGenerator`.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        heads: int = 8,
        attentions: int = 1,
        blocks: int = 9,
        **options: Any,
    ) -> None:
        check_count("heads", heads, least=1)
        check_count("blocks", blocks, least=1, most=512)
        check_count("attentions", attentions, least=1, most=blocks)
        super().__init__(channels, blocks=blocks, **options)
        width = channels * self.size_multiple
        if width % heads:
            raise ValueError(f"heads={heads} must divide {width}, the width of the bottleneck")
        first = next(i for i, layer in enumerate(self.model) if isinstance(layer, ResnetBlock))
        # From the last to the first, so that the earlier indices stay valid.
        for number in range(attentions, 0, -1):
            before = math.ceil(blocks * number / (attentions + 1))
            self.model.insert(first + before, SelfAttention(width, heads=heads))


class SelfAttention(nn.Module):
    """x + project(gain * attention(norm(x))) over all positions of N x C x h x w features.

    The gain of each head starts at 0. Positions are encoded by a 3x3 depthwise convolution before
    the attention (Chu et al., 2021), which fits any size, unlike a table of positions.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        # One per head, so that a weight file alone tells the number of heads.
        self.gain = nn.Parameter(zeros(heads, 1, 1))
        # A bias would be added whatever the gain.
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        normed = self.norm(features)
        normed = normed + self.position(normed)
        # N x (3 C) x h x w to three of N x heads x (h w) x (C / heads).
        split = self.qkv(normed).flatten(2).unflatten(1, (3, len(self.gain), -1)).transpose(-1, -2)
        attended = functional.scaled_dot_product_attention(*split.unbind(1))
        joined = (self.gain * attended).transpose(-1, -2).reshape(features.shape)
        output: Tensor = features + self.project(joined)
        return output
