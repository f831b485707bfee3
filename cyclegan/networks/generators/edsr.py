"""Generators for restoration: no norm layers, since absolute values matter, and the output is the
input, or its bicubic resizing, plus a correction.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.bicubic import note_size, resize
from cyclegan.networks.layers import Block, check_highpass, detail


class ResidualGenerator(nn.Module):
    """Layers without norms on an image folded by pixel-unshuffle, and a resize-convolution back.

    NCHW in [-1, 1] to NCHW, `scale` times larger or `shrink` times smaller; height and width must
    be multiples of `multiple`. The layers work at the smaller size of the two, folded; a reducing
    network still sees every pixel, folded by `shrink` as well. The way back is a
    resize-convolution: a pixel-shuffle leaves a checkerboard that a discriminator with strides of
    2 hardly sees.

    Args:
        channels: width of the layers; half of it at the output's size.
        body: makes the layers between the first one and the way back, from their width.
        fold: how many pixels a side are folded into channels before the first layer; 1 for none.
            None is 2 for an output of the input's size, else 1.
        highpass: side in pixels of a mean that is taken off what the layers see, or 0. Colours and
            light then pass unseen and unchanged, and the layers learn detail from the first step.
        reduce: by how much the image is first reduced and enlarged again. A generator into a
            low-resolution domain then begins as a loss of detail rather than as the identity, and
            cannot hide in its output the detail that its partner is to find again.
        scale: how many times larger the output is.
        shrink: how many times smaller it is.
        noise: planes of random numbers, N(0, 1), that the layers see beside the image, drawn anew
            each time from torch's global generator. A generator into a domain of noisy images
            needs them to make noise, which no image without noise tells it (Bulat et al., 2018).
    """

    highpass_side: Tensor | None
    reduce_factor: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        body: Callable[[int], nn.Sequential],
        fold: int | None,
        highpass: int,
        reduce: int,
        scale: int,
        shrink: int,
        noise: int,
    ) -> None:
        super().__init__()
        self.highpass = check_highpass(highpass)
        self.scale, self.shrink = note_size(self, scale=scale, shrink=shrink)
        if fold is None:
            fold = 2 if scale == shrink else 1
        self.fold = check_count("fold", fold, least=1) * shrink
        self.reduce = check_count("reduce", reduce, least=1)
        self.multiple = math.lcm(self.fold, reduce)
        # More planes than this would read as one more pixel folded.
        self.noise = check_count("noise", noise, least=0, most=6 * self.fold + 2)
        self.head = conv(
            3 * self.fold**2 + noise, check_count("channels", channels, least=2, most=4096)
        )
        self.body = body(channels)
        self.enlarge = _enlargement(channels, scale=scale, fold=fold)
        self.fine = conv(channels + 3, channels // 2)
        self.correction = conv(channels // 2, 3)
        # Buffers, so that a weight file alone tells how the network was trained.
        self.register_buffer("highpass_side", torch.tensor(highpass) if highpass else None)
        self.register_buffer("reduce_factor", torch.tensor(reduce) if reduce > 1 else None)

    @property
    def encode_layers(self) -> tuple[int, ...]:
        """Five layers, or as many as there are, from the pixels to the end of the body."""
        last = 1 + len(self.body)
        return tuple(sorted({round(last * quarter / 4) for quarter in range(5)}))

    def forward(self, image: Tensor) -> Tensor:
        image = self._reduced(image)
        base = resize(image, scale=self.scale, shrink=self.shrink)
        seen = detail(image, self.highpass)
        features = self.head(self._folded(seen))
        features = self.enlarge(features + self.body(features))
        # The pixels themselves once more: from enlarged features alone, fine detail comes in dots.
        seen = seen if base is image else detail(base, self.highpass)
        features = functional.leaky_relu(self.fine(torch.cat([features, seen], dim=1)), 0.2)
        output: Tensor = base + self.correction(features)
        return output

    def encode(self, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """The outputs of these layers, N x C x h x w each, in their order; nothing after the last
        is run. Layer 0 is what the network sees of the image, 1 the first convolution, and then
        come the body's modules; None stands for `encode_layers`.

        Raises ValueError for a layer that is not there.
        """
        wanted = self.encode_layers if layers is None else layers
        for layer in wanted:
            check_count("layer", layer, least=0, most=1 + len(self.body))
        features = detail(self._reduced(image), self.highpass)
        taken = {0: features}
        for index in range(1, max(wanted, default=0) + 1):
            if index == 1:
                features = self._folded(features)
            features = self.head(features) if index == 1 else self.body[index - 2](features)
            taken[index] = features
        return [taken[index] for index in wanted]

    def _folded(self, seen: Tensor) -> Tensor:
        folded = functional.pixel_unshuffle(seen, self.fold)
        if not self.noise:
            return folded
        noise = folded.new_empty(len(folded), self.noise, *folded.shape[-2:]).normal_()
        return torch.cat([folded, noise], dim=1)

    def _reduced(self, image: Tensor) -> Tensor:
        if self.reduce == 1:
            return image
        small = functional.avg_pool2d(image, self.reduce)
        return functional.interpolate(small, scale_factor=self.reduce, mode="bilinear")


class EDSRGenerator(ResidualGenerator):
    """Residual blocks without norms (Lim et al., 2017).

    With the image folded by 2, it works at half the resolution with four times the channels, costs
    a fraction of a network at full resolution and sees every pixel.

    Args:
        blocks: number of residual blocks.
        channels, fold, highpass, reduce, scale, shrink, noise: as of `ResidualGenerator`.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        blocks: int = 8,
        fold: int | None = None,
        highpass: int = 0,
        reduce: int = 1,
        scale: int = 1,
        shrink: int = 1,
        noise: int = 0,
    ) -> None:
        check_count("blocks", blocks, least=0, most=512)
        super().__init__(
            channels,
            body=lambda width: nn.Sequential(*(EDSRBlock(width) for _ in range(blocks))),
            fold=fold,
            highpass=highpass,
            reduce=reduce,
            scale=scale,
            shrink=shrink,
            noise=noise,
        )


class EDSRBlock(Block):
    """x + 0.1 conv(relu(conv(x))): without norms, unscaled branches would add up (section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv(channels, channels), nn.ReLU(inplace=True), conv(channels, channels)
        )

    def branch(self, features: Tensor) -> Tensor:
        added: Tensor = 0.1 * self.convs(features)
        return added


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    # Errors gather at the border: reflection gives it neighbours like any other pixel's.
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")


def _enlargement(channels: int, *, scale: int, fold: int) -> nn.Module:
    """From the layers' size to the output's: learned by `scale`, step by step, then smoothly by
    `fold`, after which the pixels are there to be looked at.
    """
    smooth = nn.Upsample(scale_factor=fold, mode="bilinear")
    if scale == 1:
        return smooth
    steps: list[nn.Module] = []
    for factor in _prime_factors(scale):
        # Nearest neighbour, not bilinear: the convolution can tell the new pixels apart.
        steps += [nn.Upsample(scale_factor=factor), conv(channels, channels), nn.LeakyReLU(0.2)]
    return nn.Sequential(*steps, *([smooth] if fold > 1 else []))


def _prime_factors(number: int) -> list[int]:
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *_prime_factors(number // factor)]
    return []
