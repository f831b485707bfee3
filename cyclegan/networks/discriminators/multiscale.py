"""Patch discriminators on an image and its halvings (pix2pixHD, Wang et al., 2018)."""

from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count
from cyclegan.networks.discriminators.patchgan import PatchDiscriminator


class MultiscaleDiscriminator(nn.Module):
    """NCHW in [-1, 1] to a list of logits, N x 1 x h x w each, the finest first.

    Each halving doubles what a logit sees: 70, 140 and 280 px with the defaults, which need images
    of 93 px or more. The scales share no weights.

    Args:
        channels: width after the first layer of each scale.
        scales: number of patch discriminators.
        layers, norm: as of the patch discriminator.
    """

    def __init__(
        self, channels: int = 64, *, scales: int = 3, layers: int = 3, norm: str = "instance"
    ) -> None:
        super().__init__()
        check_count("scales", scales, least=1, most=6)
        judges = [PatchDiscriminator(channels, layers=layers, norm=norm) for _ in range(scales)]
        self.judges = nn.ModuleList(judges)
        # Halving rounds up: 2 n - 1 pixels become n.
        self.min_size = (judges[0].min_size - 1) * 2 ** (scales - 1) + 1

    def forward(self, image: Tensor) -> list[Tensor]:
        logits = []
        for scale, judge in enumerate(self.judges):
            image = _half(image) if scale else image
            logits.append(judge(image))
        return logits


def _half(image: Tensor) -> Tensor:
    # Zeros beyond the border would darken it: they are not counted.
    return functional.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
