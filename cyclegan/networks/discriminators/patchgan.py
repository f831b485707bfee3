"""Discriminators of patches and of single pixels (Isola et al., 2017), not of whole images."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cyclegan.config.checks import check_choice, check_count
from cyclegan.networks.layers import (
    NORMS,
    check_highpass,
    conv_bias,
    detail,
    norm_layer,
)


class PatchDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit a patch, N x 1 x h x w.

    The receptive field is 16, 34, 70, 142, 286 px for 1 to 5 layers: 70 px with the default 3,
    which needs images of 24 px or more. The state dict is the classic implementation's.

    Args:
        channels: width after the first layer (the classic ndf); it doubles up to 8 times.
        layers: number of halvings.
        norm: instance, batch or none, which the first and the last layer do without; or spectral,
            for every layer (Miyato et al., 2018), which keeps the judge's gradients small.
        highpass: side in pixels of a mean that is first taken off, or 0. The judge then sees
            detail alone, not what the pictures show or in which colours (frequency separation,
            Fritsche et al., 2019): for restoration, where the domains differ in nothing else.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        layers: int = 3,
        norm: str = "instance",
        highpass: int = 0,
    ) -> None:
        super().__init__()
        self.highpass = check_highpass(highpass)
        body, width = patch_body(channels, layers, norm)
        self.min_size = patch_min_size(layers)
        self.model = nn.Sequential(*body, nn.Conv2d(width, 1, 4, padding=1))
        if norm == "spectral":
            bound(self.model)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(detail(image, self.highpass))
        return logits


class PixelDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit a pixel, N x 1 x H x W, which only that pixel's colour decides
    (and, with a norm, the colours' statistics). The state dict is the classic PixelGAN's.

    Args:
        channels: width after the first layer (the classic ndf), half of the second's.
        norm: instance, batch or none, on the second layer; or spectral, for all three.
    """

    def __init__(self, channels: int = 64, *, norm: str = "instance") -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        normed, bias = judge_norm(norm)
        # A norm has nothing to measure in a single value a channel.
        self.min_size = 1 if norm in ("none", "spectral") else 2
        self.net = nn.Sequential(
            nn.Conv2d(3, channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, 2 * channels, 1, bias=bias),
            normed(2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * channels, 1, 1, bias=bias),
        )
        if norm == "spectral":
            bound(self.net)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits


def patch_body(channels: int, layers: int, norm: str) -> tuple[list[nn.Module], int]:
    """What a patch discriminator makes features with, before its logits, and their number; raises
    ValueError for options that make no network. Under spectral norm, still to be bound.
    """
    check_count("channels", channels, least=1, most=4096)
    check_count("layers", layers, least=1, most=6)
    normed, bias = judge_norm(norm)
    body: list[nn.Module] = [
        nn.Conv2d(3, channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    width = channels
    for layer in range(1, layers + 1):
        wider = channels * min(2**layer, 8)
        stride = 2 if layer < layers else 1
        body += [
            nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias),
            normed(wider),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = wider
    return body, width


def patch_min_size(layers: int) -> int:
    """The smallest image side that leaves a patch discriminator one logit."""
    side: int = 3 * 2**layers
    return side


def judge_norm(norm: str) -> tuple[Callable[[int], nn.Module], bool]:
    """What follows a convolution, by its width, and whether that convolution carries a bias; raises
    ValueError for an unknown norm. Spectral norm follows nothing: see `bound`.
    """
    spectral = check_choice("norm", norm, [*NORMS, "spectral"]) == "spectral"
    return norm_layer("none" if spectral else norm), spectral or conv_bias(norm)


def bound(network: nn.Module) -> None:
    """Divides the weights of every convolution by their largest singular value, estimated by one
    power iteration a training step (Miyato et al., 2018).
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d):
            spectral_norm(module)
