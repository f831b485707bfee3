"""The U-Net generator of pix2pix (Ronneberger et al., 2015; Isola et al., 2017)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_count, check_flag
from cyclegan.networks.layers import UPSAMPLERS, Encoder, conv_bias, norm_layer

# The halving after which the width no longer grows, and behind which dropout is placed.
WIDEST = 3


class UnetGenerator(Encoder):
    """Halvings down to a few pixels and doublings back, with a skip at each size, and tanh.

    NCHW in [-1, 1] to the same shape; height and width must be multiples of `size_multiple`, 2 to
    the power of `layers`: 256 px with the default. The state dict is the classic implementation's,
    unet_256 with layers=8 and unet_128 with layers=7, key for key.

    Through its concatenated skips it can copy detail instead of translating it: on one unpaired
    task it reached an FID of 273 against 69 for a resnet of 12 blocks (CycleDiff). Use it for
    aligned tasks, or to load such weights.

    Args:
        channels: width after the first layer (the classic ngf); it doubles up to 8 times.
        layers: number of halvings, 1 to 8.
        norm: instance, batch or none, except behind the first, the last and the innermost
            convolution on the way down.
        dropout: 0.5 dropout on the way up where it is widest, except behind the innermost
            doubling: for layers=6 or more.
        upsample: deconv (classic), resize or pixelshuffle (no checkerboard).
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        layers: int = 8,
        norm: str = "instance",
        dropout: bool = False,
        upsample: str = "deconv",
    ) -> None:
        super().__init__()
        check_count("channels", channels, least=1, most=4096)
        check_count("layers", layers, least=1, most=8)
        check_choice("upsample", upsample, ["deconv", *UPSAMPLERS])
        if check_flag("dropout", dropout) and layers < WIDEST + 3:
            raise ValueError(f"dropout=true needs layers={WIDEST + 3} or more, not {layers}")
        self.size_multiple = self.min_size = 2**layers
        self.layers = layers
        widths = [3, *(channels * 2 ** min(layer, WIDEST) for layer in range(layers))]
        block: UnetBlock | None = None
        for layer in reversed(range(layers)):
            block = UnetBlock(
                widths[layer],
                widths[layer + 1],
                block,
                outermost=layer == 0,
                norm=norm,
                upsample=upsample,
                dropout=dropout and WIDEST < layer < layers - 1,
            )
        assert block is not None
        self.model = block

    @property
    def encode_layers(self) -> tuple[int, ...]:
        """The pixels and the first halvings, four at most: below, few positions are left."""
        return tuple(range(min(self.layers, 4) + 1))

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output

    def layer_outputs(self, image: Tensor) -> Iterator[Tensor]:
        """The image, then the convolution of each halving."""
        yield image
        features = image
        for layer in self.model.way_down():
            features = layer(features)
            if isinstance(layer, nn.Conv2d):
                yield features


class UnetBlock(nn.Module):
    """A halving, the inner blocks, a doubling; all but the outermost prepend their input.

    N x outer x h x w to N x (2 outer) x h x w, or for the outermost to the same shape.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        within: "UnetBlock | None",
        *,
        outermost: bool,
        norm: str,
        upsample: str,
        dropout: bool,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = conv_bias(norm)
        down: list[nn.Module] = [nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)]
        if not outermost:
            # Not in place: the skip holds these features too.
            down.insert(0, nn.LeakyReLU(0.2))
        middle: list[nn.Module] = []
        if within is not None:
            # The innermost block has no norm here: a single pixel has no variance.
            middle = [within] if outermost else [norm_layer(norm)(inner), within]
        width = inner if within is None else 2 * inner
        up = [nn.ReLU(inplace=True), _up(width, outer, upsample, bias=bias or outermost)]
        last = [nn.Tanh()] if outermost else [norm_layer(norm)(outer)]
        self.model = nn.Sequential(
            *down, *middle, *up, *last, *([nn.Dropout(0.5)] if dropout else [])
        )

    def way_down(self) -> Iterator[nn.Module]:
        """The layers down to the innermost block and its own way up, in the order of the pass."""
        for layer in self.model:
            if isinstance(layer, UnetBlock):
                yield from layer.way_down()
                return
            yield layer

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.model(features)
        return output if self.outermost else torch.cat([features, output], dim=1)


def _up(width: int, outer: int, upsample: str, *, bias: bool) -> nn.Module:
    if upsample != "deconv":
        return UPSAMPLERS[upsample](width, outer, bias=bias)
    return nn.ConvTranspose2d(width, outer, 4, stride=2, padding=1, bias=bias)
