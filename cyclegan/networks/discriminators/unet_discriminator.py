"""The discriminator of Real-ESRGAN (Wang et al., 2021): a U-Net with one logit per pixel."""

import itertools

from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_choice, check_count
from cyclegan.networks.discriminators.patchgan import apply_spectral_norm
from cyclegan.networks.layers import NORMS, conv_bias, norm_layer

NUM_HALVINGS = 3


class UnetDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit per pixel, N x 1 x H x W, for any height and width from 8 px
    (16 px with instance or batch norm).

    Three halvings, each doubling the width, and as many bilinear enlargements, to which the
    features of the same size are added. With the defaults it has Real-ESRGAN's layers.

    Args:
        channels: width at full size.
        norm: spectral, instance, batch or none, except in the first and the last layer.
    """

    def __init__(self, channels: int = 64, *, norm: str = "spectral") -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        spectral = check_choice("norm", norm, [*NORMS, "spectral"]) == "spectral"
        norm = "none" if spectral else norm
        # A norm has no variance to measure in a single value per channel.
        self.min_size = 2**NUM_HALVINGS * (1 if norm == "none" else 2)
        widths = [channels * 2**halving for halving in range(NUM_HALVINGS + 1)]
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)
        )
        self.down = nn.ModuleList(_layer(fine, coarse, norm, halve=True) for fine, coarse in pairs)
        self.up = nn.ModuleList(_layer(coarse, fine, norm) for fine, coarse in reversed(pairs))
        self.fine = nn.Sequential(*(_layer(channels, channels, norm) for _ in range(2)))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        if spectral:
            for layers in (self.down, self.up, self.fine):
                apply_spectral_norm(layers)

    def forward(self, image: Tensor) -> Tensor:
        features = self.first(image)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            # Resizing to the skip's size rather than by 2 allows any height and width.
            features = functional.interpolate(features, skip.shape[-2:], mode="bilinear")
            features = up(features) + skip
        logits: Tensor = self.last(self.fine(features))
        return logits


def _layer(before: int, after: int, norm: str, *, halve: bool = False) -> nn.Sequential:
    size, stride = (4, 2) if halve else (3, 1)
    conv = nn.Conv2d(before, after, size, stride=stride, padding=1, bias=conv_bias(norm))
    return nn.Sequential(conv, norm_layer(norm)(after), nn.LeakyReLU(0.2, inplace=True))
