"""Generators for restoration: no norm layers, since absolute values matter, and the output is the
input plus a correction.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.networks.layers import check_highpass, detail


class EDSRGenerator(nn.Module):
    """Residual blocks without norms (Lim et al., 2017), on an image folded by pixel-unshuffle.

    NCHW in [-1, 1] to the same shape; height and width must be multiples of `multiple`. Working at
    half the resolution with four times the channels, it costs a fraction of a network at full
    resolution and sees every pixel. The way back is a resize-convolution: a pixel-shuffle leaves
    a checkerboard that a discriminator with strides of 2 hardly sees.

    Args:
        channels: width of the layers at low resolution; half of it at full resolution.
        blocks: number of residual blocks.
        fold: how many pixels a side are folded into channels before the first layer; 1 for none.
        highpass: side in pixels of a mean that is taken off what the layers see, or 0. Colours and
            light then pass unseen and unchanged, and the layers learn detail from the first step.
        reduce: by how much the image is first reduced and enlarged again. A generator into a
            low-resolution domain then begins as a loss of detail rather than as the identity, and
            cannot hide in its output the detail that its partner is to find again.
    """

    highpass_side: Tensor | None
    reduce_factor: Tensor | None

    def __init__(
        self,
        channels: int = 64,
        *,
        blocks: int = 8,
        fold: int = 2,
        highpass: int = 0,
        reduce: int = 1,
    ) -> None:
        super().__init__()
        self.highpass = check_highpass(highpass)
        if channels < 2 or blocks < 0 or fold < 1 or reduce < 1:
            raise ValueError("channels must be at least 2, blocks 0, fold and reduce 1")
        self.multiple, self.fold, self.reduce = math.lcm(fold, reduce), fold, reduce
        self.head = _conv(3 * fold**2, channels)
        self.body = nn.Sequential(*(EDSRBlock(channels) for _ in range(blocks)))
        self.enlarge = nn.Upsample(scale_factor=fold, mode="bilinear")
        self.fine = _conv(channels + 3, channels // 2)
        self.correction = _conv(channels // 2, 3)
        # Buffers, so that a weight file alone tells how the network was trained.
        self.register_buffer("highpass_side", torch.tensor(highpass) if highpass else None)
        self.register_buffer("reduce_factor", torch.tensor(reduce) if reduce > 1 else None)

    def forward(self, image: Tensor) -> Tensor:
        if self.reduce > 1:
            small = functional.avg_pool2d(image, self.reduce)
            image = functional.interpolate(small, scale_factor=self.reduce, mode="bilinear")
        seen = detail(image, self.highpass)
        features = self.head(functional.pixel_unshuffle(seen, self.fold))
        features = self.enlarge(features + self.body(features))
        # The pixels themselves once more: from enlarged features alone, fine detail comes in dots.
        features = functional.leaky_relu(self.fine(torch.cat([features, seen], dim=1)), 0.2)
        output: Tensor = image + self.correction(features)
        return output


class EDSRBlock(nn.Module):
    """x + 0.1 conv(relu(conv(x))): without norms, unscaled branches would add up (section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            _conv(channels, channels), nn.ReLU(inplace=True), _conv(channels, channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = features + 0.1 * self.convs(features)
        return output


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    # Errors gather at the border: reflection gives it neighbours like any other pixel's.
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")
