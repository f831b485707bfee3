"""The patch discriminator (Isola et al., 2017): it judges overlapping patches, not whole images."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cyclegan.networks.layers import check_highpass, conv_bias, detail, norm_layer


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
        if channels < 1 or not 1 <= layers <= 6:
            raise ValueError("channels must be at least 1, layers 1 to 6")
        self.min_size = 3 * 2**layers
        spectral = norm == "spectral"
        norm = "none" if spectral else norm
        bias = spectral or conv_bias(norm)
        modules: list[nn.Module] = [
            nn.Conv2d(3, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            modules += [
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias),
                norm_layer(norm)(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.model = nn.Sequential(*modules)
        for module in self.model:
            if spectral and isinstance(module, nn.Conv2d):
                spectral_norm(module)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(detail(image, self.highpass))
        return logits
