"""The U-Net generator of pix2pix (Ronneberger et al., 2015; Isola et al., 2017)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_count, check_flag
from cyclegan.networks.layers import ENLARGEMENTS, conv_bias, norm_layer

# From this halving on the width no longer grows, and dropout is in its place.
_WIDEST = 3


class UnetGenerator(nn.Module):
    """Halvings down to a few pixels and doublings back, with a skip at each size, and tanh.

    NCHW in [-1, 1] to the same shape; height and width must be multiples of `multiple`, 2 to the
    power of `layers`: 256 px with the default. The state dict is the classic implementation's,
    unet_256 with layers=8 and unet_128 with layers=7, key for key.

    The skips are concatenated, so that it can copy detail through instead of translating it: on
    one unpaired task it reached an FID of 273 against 69 for a resnet of 12 blocks (CycleDiff).
    Take it for aligned tasks, or to load such weights.

    Args:
        channels: width after the first layer (the classic ngf); it doubles up to 8 times.
        layers: number of halvings, 1 to 8.
        norm: instance, batch or none; the first, the last and the innermost convolution on the way
            down do without.
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
        check_choice("upsample", upsample, ["deconv", *ENLARGEMENTS])
        if check_flag("dropout", dropout) and layers < _WIDEST + 3:
            raise ValueError(f"dropout=true needs layers={_WIDEST + 3} or more, not {layers}")
        self.multiple = self.min_size = 2**layers
        self.layers = layers
        widths = [3, *(channels * 2 ** min(layer, _WIDEST) for layer in range(layers))]
        block: UnetBlock | None = None
        for layer in reversed(range(layers)):
            block = UnetBlock(
                widths[layer],
                widths[layer + 1],
                block,
                outermost=layer == 0,
                norm=norm,
                upsample=upsample,
                dropout=dropout and _WIDEST < layer < layers - 1,
            )
        assert block is not None
        self.model = block

    @property
    def encode_layers(self) -> tuple[int, ...]:
        """The pixels and the first halvings, four at most: below, few places are left."""
        return tuple(range(min(self.layers, 4) + 1))

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output

    def encode(self, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """Features on the way down, N x C x h x w each, in the order asked for: 0 is the image,
        and n the convolution that halves for the n-th time; nothing after the last is run.

        Raises ValueError for an index that is not there.
        """
        wanted = self.encode_layers if layers is None else layers
        for index in wanted:
            check_count("layer", index, least=0, most=self.layers)
        taken = [image]
        features = image
        for layer in self.model.way_down():
            if len(taken) > max(wanted, default=0):
                break
            features = layer(features)
            if isinstance(layer, nn.Conv2d):
                taken.append(features)
        return [taken[index] for index in wanted]


class UnetBlock(nn.Module):
    """A halving, the blocks within, a doubling; all but the outermost put their input before it.

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
            # The innermost goes without this norm: with one pixel left there is no deviation.
            middle = [within] if outermost else [norm_layer(norm)(inner), within]
        width = inner if within is None else 2 * inner
        up = [nn.ReLU(inplace=True), _enlarge(width, outer, upsample, bias=bias or outermost)]
        last = [nn.Tanh()] if outermost else [norm_layer(norm)(outer)]
        self.model = nn.Sequential(
            *down, *middle, *up, *last, *([nn.Dropout(0.5)] if dropout else [])
        )

    def way_down(self) -> Iterator[nn.Module]:
        """The layers to the innermost block in the order in which they run, and its way up."""
        for layer in self.model:
            if isinstance(layer, UnetBlock):
                yield from layer.way_down()
                return
            yield layer

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.model(features)
        return output if self.outermost else torch.cat([features, output], dim=1)


def _enlarge(width: int, outer: int, upsample: str, *, bias: bool) -> nn.Module:
    if upsample != "deconv":
        return ENLARGEMENTS[upsample](width, outer, bias=bias)
    return nn.ConvTranspose2d(width, outer, 4, stride=2, padding=1, bias=bias)
