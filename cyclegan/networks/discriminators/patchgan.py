"""Discriminators of patches, of patches at several scales and of pixels (Isola et al., 2017)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cyclegan.config.checks import check_choice, check_count
from cyclegan.networks.layers import NORMS, check_highpass, conv_bias, high_pass, norm_layer


class PatchDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit per patch, N x 1 x h x w.

    The receptive field is 16, 34, 70, 142, 286 px for 1 to 5 layers. The default of 3 layers needs
    images of 24 px or more. The state dict is the classic implementation's.

    Args:
        channels: width after the first layer (the classic ndf); it doubles up to 8 times.
        layers: number of halvings.
        norm: instance, batch or none, except in the first and the last layer; or spectral, for
            every layer (Miyato et al., 2018), which keeps the discriminator's gradients small.
        highpass: kernel size in pixels of a local mean that is subtracted first, or 0. The
            discriminator then sees detail only, no content or colour (frequency separation,
            Fritsche et al., 2019): for restoration, where the domains differ in nothing else.
    """

    def __init__(
        self, channels: int = 64, *, layers: int = 3, norm: str = "instance", highpass: int = 0
    ) -> None:
        super().__init__()
        self.highpass = check_highpass(highpass)
        body, width = patch_body(channels, layers, norm)
        self.min_size = patch_min_size(layers)
        self.model = nn.Sequential(*body, nn.Conv2d(width, 1, 4, padding=1))
        if norm == "spectral":
            apply_spectral_norm(self.model)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(high_pass(image, self.highpass))
        return logits


class MultiscaleDiscriminator(nn.Module):
    """NCHW in [-1, 1] to a list of logits, N x 1 x h x w each, of patch discriminators on the image
    and on its halvings, the finest first (pix2pixHD, Wang et al., 2018).

    Each halving doubles the receptive field: 70, 140 and 280 px with the defaults, which need
    images of 93 px or more. The scales share no weights.

    Args:
        scales: number of patch discriminators.
        channels, layers, norm: as in the patch discriminator.
    """

    def __init__(
        self, channels: int = 64, *, scales: int = 3, layers: int = 3, norm: str = "instance"
    ) -> None:
        super().__init__()
        check_count("scales", scales, least=1, most=6)
        self.judges = nn.ModuleList(
            PatchDiscriminator(channels, layers=layers, norm=norm) for _ in range(scales)
        )
        # Halving rounds up: 2 n - 1 pixels become n.
        self.min_size = (patch_min_size(layers) - 1) * 2 ** (scales - 1) + 1

    def forward(self, image: Tensor) -> list[Tensor]:
        logits = [self.judges[0](image)]
        for discriminator in self.judges[1:]:
            # Zeros beyond the border would darken it, so they are not counted.
            image = functional.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            logits.append(discriminator(image))
        return logits


class PixelDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit per pixel, N x 1 x H x W, which depends on that pixel's colour
    only (and, with a norm, on the colours' statistics). The state dict is the classic PixelGAN's.

    Args:
        channels: width after the first layer (the classic ndf), half of the second's.
        norm: instance, batch or none, on the second layer; or spectral, for all three.
    """

    def __init__(self, channels: int = 64, *, norm: str = "instance") -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        make_norm, bias = discriminator_norm(norm)
        # A norm has no variance to measure in a single value per channel.
        self.min_size = 1 if norm in ("none", "spectral") else 2
        self.net = nn.Sequential(
            nn.Conv2d(3, channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, 2 * channels, 1, bias=bias),
            make_norm(2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * channels, 1, 1, bias=bias),
        )
        if norm == "spectral":
            apply_spectral_norm(self.net)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits


def patch_body(channels: int, layers: int, norm: str) -> tuple[list[nn.Module], int]:
    """The feature layers of a patch discriminator and the number of their output channels, without
    spectral norm. Raises ValueError for options that make no network.
    """
    check_count("channels", channels, least=1, most=4096)
    check_count("layers", layers, least=1, most=6)
    make_norm, bias = discriminator_norm(norm)
    body: list[nn.Module] = [
        nn.Conv2d(3, channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    width = channels
    for layer in range(1, layers + 1):
        wider, stride = channels * min(2**layer, 8), 2 if layer < layers else 1
        body += [
            nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias),
            make_norm(wider),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = wider
    return body, width


def patch_min_size(layers: int) -> int:
    """The smallest image side for which a patch discriminator gives one logit."""
    side: int = 3 * 2**layers
    return side


def discriminator_norm(norm: str) -> tuple[Callable[[int], nn.Module], bool]:
    """The norm layer's constructor, and whether the convolution before it has a bias. Spectral norm
    is no layer: see `apply_spectral_norm`. Raises ValueError for an unknown norm.
    """
    spectral = check_choice("norm", norm, [*NORMS, "spectral"]) == "spectral"
    return norm_layer("none" if spectral else norm), spectral or conv_bias(norm)


def apply_spectral_norm(network: nn.Module) -> None:
    """Divides the weights of every convolution by their largest singular value, estimated by one
    power iteration per training step (Miyato et al., 2018).
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d):
            spectral_norm(module)
