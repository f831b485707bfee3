"""Generators for restoration: no norm layers, since absolute values matter, and the output is the
input, or its bicubic resizing, plus a correction.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.bicubic import register_resizing, resize
from cyclegan.networks.layers import Encoder, ResidualBlock, check_highpass, high_pass


class RestorationGenerator(Encoder):
    """Layers without norms on an image folded by pixel-unshuffle, and a resize-convolution back.

    NCHW in [-1, 1] to NCHW, `scale` times larger or `shrink` times smaller; height and width must
    be multiples of `size_multiple`. The layers work at the smaller of the two sizes, folded; a
    reducing network still sees every pixel, folded by `shrink` as well. Upsampling is by
    resize-convolution: a pixel-shuffle leaves a checkerboard that a discriminator with strides of
    2 hardly sees.

    Args:
        body: makes the layers between the first one and the upsampling, from their width.
        channels: width of the layers; half of it at the output's size.
        fold: how many pixels per side are folded into channels before the first layer; 1 for none.
            None is 2 for an output of the input's size, else 1.
        highpass: kernel size in pixels of a local mean that is subtracted from what the layers see,
            or 0. Colours and light then pass unchanged, and the layers learn detail from the first
            step.
        reduce: by how much the image is first reduced and enlarged again. A generator into a
            low-resolution domain then begins as a loss of detail rather than as the identity, and
            cannot hide in its output the detail that its partner is to restore.
        scale: how many times larger the output is.
        shrink: how many times smaller it is.
        noise: planes of random numbers, N(0, 1), that the layers see beside the image, drawn from
            torch's global generator in each pass. A generator into a domain of noisy images needs
            them to make noise (Bulat et al., 2018).
    """

    highpass_side: Tensor | None
    reduce_factor: Tensor | None

    def __init__(
        self,
        body: Callable[[int], nn.Sequential],
        channels: int = 64,
        /,
        *,
        fold: int | None = None,
        highpass: int = 0,
        reduce: int = 1,
        scale: int = 1,
        shrink: int = 1,
        noise: int = 0,
    ) -> None:
        super().__init__()
        check_count("channels", channels, least=2, most=4096)
        self.highpass = check_highpass(highpass)
        self.scale, self.shrink = register_resizing(self, scale=scale, shrink=shrink)
        if fold is None:
            fold = 2 if scale == shrink else 1
        self.fold = check_count("fold", fold, least=1) * shrink
        self.reduce = check_count("reduce", reduce, least=1)
        self.size_multiple = math.lcm(self.fold, reduce)
        # More planes would look like one more folded pixel to `from_weights`.
        self.noise = check_count("noise", noise, least=0, most=6 * self.fold + 2)
        self.head = conv(3 * self.fold**2 + noise, channels)
        self.body = body(channels)
        self.enlarge = _upsampler(channels, scale=scale, fold=fold)
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
        seen = high_pass(image, self.highpass)
        features = self.head(self._folded(seen))
        features = self.enlarge(features + self.body(features))
        # The pixels are an input again: from enlarged features alone, fine detail becomes dots.
        seen = seen if base is image else high_pass(base, self.highpass)
        features = functional.leaky_relu(self.fine(torch.cat([features, seen], dim=1)), 0.2)
        output: Tensor = base + self.correction(features)
        return output

    def layer_outputs(self, image: Tensor) -> Iterator[Tensor]:
        """The prepared image, the first convolution, then the modules of the body."""
        features = high_pass(self._reduced(image), self.highpass)
        yield features
        features = self.head(self._folded(features))
        yield features
        for layer in self.body:
            features = layer(features)
            yield features

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


class EDSRGenerator(RestorationGenerator):
    """Residual blocks without norms (Lim et al., 2017).

    With the image folded by 2, it works at half the resolution with four times the channels: at a
    fraction of the cost of a network at full resolution, with every pixel as an input.

    Args:
        blocks: number of residual blocks.
        channels, **options: as in `RestorationGenerator`.
    """

    def __init__(self, channels: int = 64, *, blocks: int = 8, **options: Any) -> None:
        check_count("blocks", blocks, least=0, most=512)

        def body(width: int) -> nn.Sequential:
            return nn.Sequential(*(EDSRBlock(width) for _ in range(blocks)))

        super().__init__(body, channels, **options)


class EDSRBlock(ResidualBlock):
    """x + 0.1 conv(relu(conv(x))); without norms, unscaled branches would add up (section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv(channels, channels), nn.ReLU(inplace=True), conv(channels, channels)
        )

    def branch(self, features: Tensor) -> Tensor:
        added: Tensor = 0.1 * self.convs(features)
        return added


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution to the same size, with reflected borders, as zeros cause errors there."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")


def _upsampler(channels: int, *, scale: int, fold: int) -> nn.Module:
    """From the layers' size to the output's: learned by `scale`, one prime factor at a time, then
    bilinear by `fold`, as the network sees the pixels once more after it.
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
