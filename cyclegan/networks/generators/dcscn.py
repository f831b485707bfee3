"""Super-resolution with dense skips and 1x1 reconstruction, at the small size (DCSCN)."""

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_count
from cyclegan.networks.generators.bicubic import register_resizing, resize
from cyclegan.networks.generators.srcnn import luma


class DCSCN(nn.Module):
    """Convolutions in sequence whose outputs all enter a reconstruction of 1x1 convolutions
    (Yamanaka et al., 2017), with PReLU and no norm, on the luma of BT.601.

    N3HW in [-1, 1] to N3(H scale)(W scale), not clamped. All layers work at the small size; a
    pixel-shuffle of their output is added to the bicubic enlargement, which keeps its chroma. The
    defaults are the authors' second, larger version; the paper's own are
    layers=7, filters=96, min_filters=32, and c-DCSCN is layers=7, filters=32, min_filters=8,
    decay=1.2, wide=24, narrow=8.

    Args:
        layers: number of 3x3 convolutions that extract features.
        filters: width of the first of them.
        min_filters: width of the last.
        decay: how fast the width falls from the first to the last: evenly at 1, early above.
        wide: width of the reconstruction's direct path (A1).
        narrow: width of its deeper path (B1 and B2).
        scale: how many times larger the output is; 1 to restore at the same size.
    """

    def __init__(
        self,
        *,
        layers: int = 12,
        filters: int = 196,
        min_filters: int = 48,
        decay: float = 1.5,
        wide: int = 64,
        narrow: int = 32,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale, _ = register_resizing(self, scale=scale)
        self.size_multiple = 1
        widths = _widths(layers, filters, min_filters, decay)
        pairs = zip([1, *widths], widths, strict=False)
        self.extract = nn.ModuleList(_conv(before, after, 3) for before, after in pairs)
        self.direct = _conv(sum(widths), check_count("wide", wide, least=1), 1)
        self.deeper = nn.Sequential(
            _conv(sum(widths), check_count("narrow", narrow, least=1), 1), _conv(narrow, narrow, 3)
        )
        self.correction = nn.Conv2d(wide + narrow, scale**2, 1)
        self.pixel_shuffle = nn.PixelShuffle(scale)

    def forward(self, image: Tensor) -> Tensor:
        features = [luma(image)]
        for layer in self.extract:
            features.append(layer(features[-1]))
        extracted = torch.cat(features[1:], dim=1)
        joined = torch.cat([self.direct(extracted), self.deeper(extracted)], dim=1)
        # The same change of red, green and blue changes the luma by as much, and no chroma.
        correction: Tensor = self.pixel_shuffle(self.correction(joined))
        return resize(image, scale=self.scale) + correction


def _widths(layers: int, filters: int, min_filters: int, decay: float) -> list[int]:
    """The width of each layer: at layer i of 0 ... n it has fallen by (i / n) ** (1 / decay) of the
    difference between `filters` and `min_filters`.
    """
    check_count("layers", layers, least=1, most=128)
    check_count("min_filters", min_filters, least=1)
    check_count("filters", filters, least=min_filters)
    if not isinstance(decay, int | float) or isinstance(decay, bool) or not 0 < decay <= 100:
        raise ValueError(f"decay={decay} must be a number above 0, at most 100")
    fallen = [(i / max(1, layers - 1)) ** (1 / decay) for i in range(layers)]
    return [int((filters - min_filters) * (1 - share) + min_filters) for share in fallen]


def _conv(in_channels: int, out_channels: int, side: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, padding_mode="reflect")
    return nn.Sequential(conv, nn.PReLU(out_channels))
