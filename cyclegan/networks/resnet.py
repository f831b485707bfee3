"""The residual generator of CycleGAN (Johnson et al., 2016; Zhu et al., 2017)."""

from torch import Tensor, nn, ones

from cyclegan.networks.layers import ResizeConv, conv_bias, norm_layer


class ResnetGenerator(nn.Module):
    """A 7x7 convolution, halvings, residual blocks, doublings, a 7x7 convolution and tanh.

    NCHW in [-1, 1] to the same shape; height and width must be multiples of `multiple`.
    With the defaults the state dict is the classic implementation's resnet_9blocks, key for key.

    Args:
        channels: width after the first layer (the classic ngf).
        blocks: number of residual blocks.
        downs: number of halvings, each doubling the width.
        norm: instance, batch or none.
        upsample: deconv (classic) or resize (nearest neighbour and a convolution: no checkerboard).
        dropout: 0.5 dropout inside the blocks.
        residual: the network's output is a correction that is added to its input. Colours and
            composition then hold from the first step, which suits restoration.
    """

    residual_scale: Tensor | None

    def __init__(
        self,
        channels: int = 64,
        *,
        blocks: int = 9,
        downs: int = 2,
        norm: str = "instance",
        upsample: str = "deconv",
        dropout: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if upsample not in ("deconv", "resize"):
            raise ValueError(f"upsample={upsample} is unknown; known: deconv, resize")
        if channels < 1 or blocks < 0 or not 0 <= downs <= 5:
            raise ValueError("channels must be at least 1, blocks at least 0, downs 0 to 5")
        if not (isinstance(dropout, bool) and isinstance(residual, bool)):
            raise ValueError("dropout and residual must be true or false")
        self.multiple = 2**downs
        layers = [*_head(channels, norm)]
        for _ in range(downs):
            layers += _down(channels, norm)
            channels *= 2
        layers += [ResnetBlock(channels, norm=norm, dropout=dropout) for _ in range(blocks)]
        for _ in range(downs):
            layers += _up(channels, norm, upsample)
            channels //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        # A buffer, so that a weight file alone tells that the network was trained this way.
        self.register_buffer("residual_scale", ones(()) if residual else None)

    @property
    def correction(self) -> nn.Module | None:
        """The layer whose zero weights make a residual network the identity."""
        return None if self.residual_scale is None else self.model[-2]

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output if self.residual_scale is None else self.residual_scale * image + output


class ResnetBlock(nn.Module):
    """x + conv(relu(norm(conv(x)))), normed, with reflected borders."""

    def __init__(self, channels: int, *, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = conv_bias(norm)
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm)(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm)(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = features + self.conv_block(features)
        return output


def _head(channels: int, norm: str) -> list[nn.Module]:
    conv = nn.Conv2d(3, channels, 7, bias=conv_bias(norm))
    return [nn.ReflectionPad2d(3), conv, norm_layer(norm)(channels), nn.ReLU(inplace=True)]


def _down(channels: int, norm: str) -> list[nn.Module]:
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=conv_bias(norm))
    return [conv, norm_layer(norm)(2 * channels), nn.ReLU(inplace=True)]


def _up(channels: int, norm: str, upsample: str) -> list[nn.Module]:
    half, bias = channels // 2, conv_bias(norm)
    conv: nn.Module
    if upsample == "resize":
        conv = ResizeConv(channels, half, bias=bias)
    else:
        conv = nn.ConvTranspose2d(
            channels, half, 3, stride=2, padding=1, output_padding=1, bias=bias
        )
    return [conv, norm_layer(norm)(half), nn.ReLU(inplace=True)]
