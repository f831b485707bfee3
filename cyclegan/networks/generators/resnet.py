"""The residual generator of CycleGAN (Johnson et al., 2016; Zhu et al., 2017)."""

from collections.abc import Iterator

from torch import Tensor, nn, ones
from torch.nn import functional

from cyclegan.config.checks import check_choice, check_count, check_flag
from cyclegan.networks.cpu.row_convolution import RowConv2d
from cyclegan.networks.cpu.winograd import WinogradConv2d
from cyclegan.networks.layers import (
    UPSAMPLERS,
    BlurPool,
    Encoder,
    ResidualBlock,
    conv_bias,
    norm_layer,
)


class ResnetGenerator(Encoder):
    """A 7x7 convolution, halvings, residual blocks, doublings, a 7x7 convolution and tanh.

    NCHW in [-1, 1] to the same shape; height and width must be multiples of `size_multiple`.
    With the defaults the state dict is the classic implementation's resnet_9blocks, key for key;
    with antialias=true it is CUT's.

    Args:
        channels: width after the first layer (the classic ngf).
        blocks: number of residual blocks.
        downs: number of halvings, 0 to 5, each doubling the width.
        norm: instance, batch or none.
        upsample: deconv (classic), or without a checkerboard: resize (nearest neighbour and a
            convolution) or pixelshuffle (a convolution whose channels become pixels).
        dropout: 0.5 dropout inside the blocks.
        residual: the network's output is a correction that is added to its input. Colours and
            composition are then right from the first step, which suits restoration.
        antialias: a halving is a convolution and a blur-pool (Zhang, 2019), and a deconv doubling
            a bilinear enlargement and a convolution, as in CUT (Park et al., 2020). Details then
            do not flicker as they move.
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
        antialias: bool = False,
    ) -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        check_count("blocks", blocks, least=0, most=512)
        check_count("downs", downs, least=0, most=5)
        check_choice("upsample", upsample, ["deconv", *UPSAMPLERS])
        check_flag("dropout", dropout)
        check_flag("residual", residual)
        check_flag("antialias", antialias)
        self.size_multiple, self.downs = 2**downs, downs
        first = nn.Conv2d(3, channels, 7, bias=conv_bias(norm))
        layers = [nn.ReflectionPad2d(3), first, norm_layer(norm)(channels), nn.ReLU(inplace=True)]
        for _ in range(downs):
            layers += _down(channels, norm, antialias)
            channels *= 2
        layers += [ResnetBlock(channels, norm=norm, dropout=dropout) for _ in range(blocks)]
        for _ in range(downs):
            layers += _up(channels, norm, upsample, antialias)
            channels //= 2
        layers += [nn.ReflectionPad2d(3), RowConv2d(channels, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        # A buffer, so that a weight file alone tells that the network was trained this way.
        self.register_buffer("residual_scale", ones(()) if residual else None)
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _drop_blur_kernels
        )

    @property
    def correction(self) -> nn.Module | None:
        """The layer whose zero weights make a residual network the identity."""
        return None if self.residual_scale is None else self.model[-2]

    @property
    def encode_layers(self) -> tuple[int, ...]:
        """CUT's layers: the pixels, each halving convolution, the first and the middle block."""
        convs = [i for i, layer in enumerate(self.model) if isinstance(layer, nn.Conv2d)]
        blocks = [i for i, layer in enumerate(self.model) if isinstance(layer, ResnetBlock)]
        middle = blocks[(len(blocks) - 1) // 2 :]
        return 0, *convs[1 : 1 + self.downs], *sorted({*blocks[:1], *middle[:1]})

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output if self.residual_scale is None else self.residual_scale * image + output

    def layer_outputs(self, image: Tensor) -> Iterator[Tensor]:
        """The outputs of `self.model`'s layers; layer 0 is the image with 3 px of reflection."""
        features = image
        for layer in self.model:
            # An in-place ReLU would change the features returned before it.
            in_place = isinstance(layer, nn.ReLU)
            features = functional.relu(features) if in_place else layer(features)
            yield features


class ResnetBlock(ResidualBlock):
    """x + norm(conv(relu(norm(conv(x))))), with reflected borders."""

    def __init__(self, channels: int, *, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = conv_bias(norm)
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            WinogradConv2d(channels, channels, bias=bias),
            norm_layer(norm)(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            WinogradConv2d(channels, channels, bias=bias),
            norm_layer(norm)(channels),
        )

    def branch(self, features: Tensor) -> Tensor:
        added: Tensor = self.conv_block(features)
        return added


def _down(channels: int, norm: str, antialias: bool) -> list[nn.Module]:
    stride = 1 if antialias else 2
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=stride, padding=1, bias=conv_bias(norm))
    layers = [conv, norm_layer(norm)(2 * channels), nn.ReLU(inplace=True)]
    return [*layers, BlurPool()] if antialias else layers


def _up(channels: int, norm: str, upsample: str, antialias: bool) -> list[nn.Module]:
    half, bias = channels // 2, conv_bias(norm)
    layers: list[nn.Module]
    if upsample != "deconv":
        layers = [UPSAMPLERS[upsample](channels, half, bias=bias)]
    elif antialias:
        # Bilinear enlargement by 2 is CUT's: zeros between the pixels, then the blur [1, 3, 3, 1].
        conv = nn.Conv2d(channels, half, 3, padding=1, bias=bias)
        layers = [nn.Upsample(scale_factor=2, mode="bilinear"), conv]
    else:
        layers = [
            nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1, bias=bias)
        ]
    return [*layers, norm_layer(norm)(half), nn.ReLU(inplace=True)]


def _drop_blur_kernels(
    network: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """CUT's files also hold the blur kernels, which are constant."""
    for name, module in network.named_modules():
        if isinstance(module, BlurPool | nn.Upsample):
            state_dict.pop(f"{prefix}{name}.filt", None)
