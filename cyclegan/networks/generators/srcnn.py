"""Convolutions in sequence on the bicubically enlarged image: SRCNN and waifu2x's VGG7."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_choice, check_flag
from cyclegan.networks.generators.bicubic import register_resizing, resize

# Images have at least 16 pixels per side, and reflection needs its pixels inside the image.
LARGEST_KERNEL = 31
LAYER = re.compile(r"([1-9]\d{0,4})x([1-9]\d?)x([1-9]\d?)", re.ASCII)


class ConvChain(nn.Module):
    """Convolutions in sequence on the image enlarged by `scale`, on its luma or on its colours.

    N3HW in [-1, 1] to N3(H scale)(W scale), not clamped. Borders are reflected, so that the size
    stays and no errors gather there.

    Args:
        widths: filters of each layer, and the last one's output channels.
        kernels: height and width of each layer's kernel.
        leak: slope below 0 of the leaky ReLU between two layers; 0 is a plain ReLU.
        color: y works on the luma of BT.601 and keeps the enlargement's chroma; rgb works on all
            three channels.
        residual: the layers' output is added to the enlargement, which training then starts from.
        scale: how many times larger the output is; 1 for images that are already enlarged.
    """

    residual_scale: Tensor | None

    def __init__(
        self,
        widths: list[int],
        kernels: list[tuple[int, int]],
        leak: float,
        /,
        *,
        color: str,
        residual: bool = True,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale, _ = register_resizing(self, scale=scale)
        self.size_multiple, self.color = 1, color
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
        # The same change of red, green and blue changes the luma by as much, and no chroma.
        correction = output - seen if self.residual_scale is None else output
        return enlarged + correction


class SRCNN(ConvChain):
    """The first super-resolution network (Dong et al., 2014 and 2016).

    Args:
        spec: "filters x kernel height x kernel width" of each layer, joined by "_"; 9-5-5 is
            "64x9x9_32x5x5_1x5x5". The last layer's 1 stands for the output, of one channel with
            color=y and of three with color=rgb, where 3 may be written as well.
        color, **options: as in `ConvChain`.
    """

    def __init__(
        self, *, spec: str = "64x9x9_32x5x5_1x5x5", color: str = "y", **options: Any
    ) -> None:
        widths, kernels = parse_layers(spec)
        planes = _planes(color)
        if widths[-1] not in (1, planes):
            known = "1" if planes == 1 else "1 or 3"
            raise ValueError(
                f"spec={spec}: the last layer has {widths[-1]} filters; with color={color} it must "
                f"have {known}"
            )
        super().__init__([*widths[:-1], planes], kernels, 0, color=color, **options)


class VGG7(ConvChain):
    """waifu2x's vgg_7: seven 3x3 convolutions, leaky ReLU of 0.1 and no norm, which would darken.

    The options are those of `ConvChain`.
    """

    def __init__(self, *, color: str = "rgb", **options: Any) -> None:
        widths = [32, 32, 64, 64, 128, 128, _planes(color)]
        super().__init__(widths, [(3, 3)] * 7, 0.1, color=color, **options)


def luma(image: Tensor) -> Tensor:
    """N3HW in [-1, 1] to the luma of BT.601, N1HW in [-1, 1]."""
    red, green, blue = image.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def parse_layers(spec: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Filters and kernel sides of each layer: [64, 1] and [(9, 9), (5, 3)] of "64x9x9_1x5x3".

    Raises ValueError with the layer and the character of a text outside this form.
    """
    widths, kernels, position = [], [], 1
    for number, layer in enumerate(str(spec).split("_"), 1):
        match = LAYER.fullmatch(layer)
        where = f'spec={spec}: layer {number}, "{layer}" at character {position},'
        if match is None:
            raise ValueError(f"{where} must read filters x height x width, such as 64x9x9")
        width, *kernel = map(int, match.groups())
        if any(side % 2 == 0 or side > LARGEST_KERNEL for side in kernel):
            raise ValueError(f"{where} must have odd kernel sides, at most {LARGEST_KERNEL}")
        widths.append(width)
        kernels.append((kernel[0], kernel[1]))
        position += len(layer) + 1
    return widths, kernels


def _planes(color: str) -> int:
    return 1 if check_choice("color", color, ("y", "rgb")) == "y" else 3
