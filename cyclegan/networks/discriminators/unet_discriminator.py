"""The discriminator of Real-ESRGAN (Wang et al., 2021), which judges every pixel in its context."""

import itertools

from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_choice, check_count
from cyclegan.networks.discriminators.patchgan import bound
from cyclegan.networks.layers import NORMS, conv_bias, norm_layer

_HALVINGS = 3


class UnetDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit a pixel, N x 1 x H x W, for any height and width from 8 px
    (16 px with instance or batch norm).

    Three halvings, each doubling the width, and as many bilinear enlargements, to which the
    features of the same size are added. With the defaults it has Real-ESRGAN's layers.

    Args:
        channels: width at full size.
        norm: spectral, instance, batch or none, which the first and the last layer do without.
    """

    def __init__(self, channels: int = 64, *, norm: str = "spectral") -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        spectral = check_choice("norm", norm, [*NORMS, "spectral"]) == "spectral"
        norm = "none" if spectral else norm
        # At the narrowest, a norm has nothing to measure in a single value a channel.
        self.min_size = 2**_HALVINGS * (1 if norm == "none" else 2)
        widths = [channels * 2**halving for halving in range(_HALVINGS + 1)]
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), _activation())
        self.down = nn.ModuleList(_layer(fine, coarse, norm, halve=True) for fine, coarse in pairs)
        self.up = nn.ModuleList(_layer(coarse, fine, norm) for fine, coarse in reversed(pairs))
        self.fine = nn.Sequential(*(_layer(channels, channels, norm) for _ in range(2)))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        if spectral:
            for bounded in (self.down, self.up, self.fine):
                bound(bounded)

    def forward(self, image: Tensor) -> Tensor:
        features = self.first(image)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            skip = skips.pop()
            # To the skip's size rather than twice its own: any height and width will do.
            features = functional.interpolate(features, skip.shape[-2:], mode="bilinear")
            features = up(features) + skip
        logits: Tensor = self.last(self.fine(features))
        return logits


def _layer(before: int, after: int, norm: str, *, halve: bool = False) -> nn.Sequential:
    size, stride = (4, 2) if halve else (3, 1)
    conv = nn.Conv2d(before, after, size, stride=stride, padding=1, bias=conv_bias(norm))
    return nn.Sequential(conv, norm_layer(norm)(after), _activation())


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)
