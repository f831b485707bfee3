"""Plain chains of convolutions on the bicubically enlarged image: SRCNN and waifu2x's VGG7."""

import re

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_flag
from cyclegan.networks.generators.bicubic import note_size, resize

# An image is never fed with less than 16 pixels a side, and reflection must find its pixels there.
_LARGEST_KERNEL = 31
_LAYER = re.compile(r"([1-9]\d{0,4})x([1-9]\d?)x([1-9]\d?)", re.ASCII)


class Chain(nn.Module):
    """Convolutions in a row on the image enlarged by `scale`, on its luma or on its colours.

    N3HW in [-1, 1] to N3(H scale)(W scale), not clamped. Borders are reflected, so that no size is
    lost and errors do not gather there.

    Args:
        widths: filters of each layer, and the last one's output channels.
        kernels: height and width of each layer's kernel.
        leak: slope below 0 of the leaky ReLU between two layers; 0 is a plain ReLU.
        color: y works on the luma of BT.601 and leaves the enlargement's chroma as it is; rgb
            works on all three channels.
        residual: the layers' output is added to the enlargement, which training then starts from.
        scale: how many times larger the output is; 1 for images that were enlarged already.
        shrink: only 1: such a network does not reduce.
    """

    residual_scale: Tensor | None

    def __init__(
        self,
        widths: list[int],
        kernels: list[tuple[int, int]],
        *,
        leak: float,
        color: str,
        residual: bool,
        scale: int,
        shrink: int,
    ) -> None:
        super().__init__()
        refuse_shrink(shrink)
        self.scale, self.shrink = note_size(self, scale=scale, shrink=shrink)
        self.multiple, self.color = 1, color
        layers: list[nn.Module] = []
        for before, after, kernel in zip([_planes(color), *widths], widths, kernels, strict=False):
            padding = (kernel[0] // 2, kernel[1] // 2)
            conv = nn.Conv2d(before, after, kernel, padding=padding, padding_mode="reflect")
            layers += [conv, nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        # Buffers, so that a weight file alone tells how the network was trained.
        flag = torch.ones(()) if check_flag("residual", residual) else None
        self.register_buffer("residual_scale", flag)
        self.register_buffer("leak", torch.tensor(leak) if leak else None)

    @property
    def correction(self) -> nn.Module | None:
        """The layer whose zero weights make a residual network the bicubic enlargement."""
        return None if self.residual_scale is None else self.layers[-1]

    def forward(self, image: Tensor) -> Tensor:
        enlarged = resize(image, scale=self.scale)
        seen = luma(enlarged) if self.color == "y" else enlarged
        output: Tensor = self.layers(seen)
        # The same step in red, green and blue moves the luma by as much, and no chroma.
        correction = output - seen if self.residual_scale is None else output
        return enlarged + correction


class SRCNN(Chain):
    """The first super-resolution network (Dong et al., 2014 and 2016).

    Args:
        spec: a layer each "filters x kernel height x kernel width", joined by "_"; 9-5-5 is
            "64x9x9_32x5x5_1x5x5". The last layer's 1 stands for the output, of one channel with
            color=y and of three with color=rgb, where 3 may be written as well.
        color, residual, scale, shrink: as of `Chain`.
    """

    def __init__(
        self,
        *,
        spec: str = "64x9x9_32x5x5_1x5x5",
        color: str = "y",
        residual: bool = True,
        scale: int = 1,
        shrink: int = 1,
    ) -> None:
        widths, kernels = parse_layers(spec)
        planes = _planes(color)
        if widths[-1] not in (1, planes):
            known = "1" if planes == 1 else "1 or 3"
            raise ValueError(
                f"spec={spec}: the last layer has {widths[-1]} filters; with color={color} it must "
                f"have {known}"
            )
        super().__init__(
            [*widths[:-1], planes],
            kernels,
            leak=0,
            color=color,
            residual=residual,
            scale=scale,
            shrink=shrink,
        )


class VGG7(Chain):
    """waifu2x's vgg_7: seven 3x3 convolutions, leaky ReLU of 0.1 and no norm, which would darken.

    The options are those of `Chain`.
    """

    def __init__(
        self, *, color: str = "rgb", residual: bool = True, scale: int = 1, shrink: int = 1
    ) -> None:
        super().__init__(
            [32, 32, 64, 64, 128, 128, _planes(color)],
            [(3, 3)] * 7,
            leak=0.1,
            color=color,
            residual=residual,
            scale=scale,
            shrink=shrink,
        )


def luma(image: Tensor) -> Tensor:
    """N3HW in [-1, 1] to the luma of BT.601, N1HW in [-1, 1]."""
    red, green, blue = image.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def refuse_shrink(shrink: int) -> None:
    """Raises ValueError for a size that a network which only enlarges does not have."""
    if shrink != 1:
        raise ValueError(f"shrink={shrink}: this network cannot reduce; bicubic, edsr and rrdb can")


def parse_layers(spec: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Filters and kernel sides of each layer: [64, 1] and [(9, 9), (5, 3)] of "64x9x9_1x5x3".

    Raises ValueError with the layer and the character where the text is something else.
    """
    widths, kernels, position = [], [], 1
    for number, layer in enumerate(str(spec).split("_"), 1):
        match = _LAYER.fullmatch(layer)
        where = f'spec={spec}: layer {number}, "{layer}" at character {position},'
        if match is None:
            raise ValueError(f"{where} must read filters x height x width, such as 64x9x9")
        width, *kernel = map(int, match.groups())
        if any(side % 2 == 0 or side > _LARGEST_KERNEL for side in kernel):
            raise ValueError(f"{where} must have odd kernel sides, at most {_LARGEST_KERNEL}")
        widths.append(width)
        kernels.append((kernel[0], kernel[1]))
        position += len(layer) + 1
    return widths, kernels


def _planes(color: str) -> int:
    return 1 if check_choice("color", color, ("y", "rgb")) == "y" else 3
