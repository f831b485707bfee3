"""Measures on images: PSNR and SSIM where they pair up, sliced Wasserstein distance always."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.losses import frequency

# Karras et al. (2018), section 5: 7x7 patches, levels down to 16 px, 512 directions.
PATCH = 7
SMALLEST_LEVEL = 16
DIRECTIONS = 512
# The paper's 128 patches an image are for thousands of images; of few images, more are needed.
FEWEST_PATCHES, MOST_PATCHES, ENOUGH_PATCHES = 128, 512, 8192

# Wang et al. (2004), section III.C: a Gaussian window of deviation 1.5, and two small constants.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_CONSTANTS = (0.01, 0.03)

# A deviation below this, an eighth of a gray level, is rounding and must not be scaled up.
FLAT = 1e-3


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]; infinite where they are equal."""
    error = float((image - reference).square().mean())
    return float("inf") if error == 0 else float(10 * np.log10(4.0 / error))


def ssim(image: Tensor, reference: Tensor, *, peak: float) -> float:
    """Structural similarity of two H x W images of levels 0 to `peak`; 1 is identical (Wang et al.,
    2004). Averaged over the places where the whole window lies within: no side is below 11.
    """
    steps = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    line = torch.exp(-0.5 * (steps / SSIM_SIGMA).square())
    line /= line.sum()
    x, y = image.double(), reference.double()
    moments = torch.stack([x, y, x * x, y * y, x * y])[:, None]
    for kernel in (line.view(1, 1, -1, 1), line.view(1, 1, 1, -1)):
        moments = functional.conv2d(moments, kernel)
    mean_x, mean_y, square_x, square_y, product = moments[:, 0]
    c1, c2 = ((constant * peak) ** 2 for constant in SSIM_CONSTANTS)
    alike = (2 * mean_x * mean_y + c1) * (2 * (product - mean_x * mean_y) + c2)
    means = mean_x.square() + mean_y.square()
    return float((alike / ((means + c1) * (square_x + square_y - means + c2))).mean())


def sliced_wasserstein(
    images: Collection[Tensor], references: Collection[Tensor], *, seed: int = 0
) -> float:
    """Sliced Wasserstein distance of 7x7 patches of Laplacian pyramids, times 1,000, averaged over
    the pyramid's levels; 0 is best (Karras et al., 2018, section 5 and appendix).

    C x H x W images in [-1, 1] of any sizes; the two sets need not pair up. Patches lie at the same
    random places in the k-th image of either set where their sizes agree, so that pairs are
    compared like with like.
    """
    each = ENOUGH_PATCHES // max(len(images), len(references))
    each = min(max(each, FEWEST_PATCHES), MOST_PATCHES)
    pyramids = [
        [_patches(image, each, seed + index) for index, image in enumerate(part)]
        for part in (images, references)
    ]
    levels = min(len(pyramid) for part in pyramids for pyramid in part)
    distances = []
    for level in range(levels):
        pair = [torch.cat([pyramid[level] for pyramid in part]) for part in pyramids]
        distances.append(_distance(_normalized(pair[0]), _normalized(pair[1]), seed))
    return 1000 * float(np.mean(distances))


def laplacian_pyramid(image: Tensor) -> list[Tensor]:
    """The levels of a C x H x W image, finest first, then the rest, whose short side is under
    32 px.
    """
    short, levels = min(image.shape[-2:]), 0
    while short >= 2 * SMALLEST_LEVEL:
        short, levels = -(-short // 2), levels + 1
    return [level[0] for level in frequency.laplacian_pyramid(image[None], levels=levels)]


def _patches(image: Tensor, count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [_level_patches(level, count, generator) for level in laplacian_pyramid(image)]


def _level_patches(level: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Count x C x 7 x 7, at random places; a level smaller than a patch is extended."""
    down, right = (max(0, PATCH - side) for side in level.shape[-2:])
    level = functional.pad(level, (0, right, 0, down), mode="replicate")
    windows = level.unfold(1, PATCH, 1).unfold(2, PATCH, 1)
    rows = torch.randint(windows.shape[1], (count,), generator=generator)
    columns = torch.randint(windows.shape[2], (count,), generator=generator)
    return windows[:, rows, columns].transpose(0, 1)


def _normalized(patches: Tensor) -> Tensor:
    """N x 147: each colour channel of the whole set to mean 0 and deviation 1."""
    mean = patches.mean(dim=(0, 2, 3), keepdim=True)
    deviation = patches.std(dim=(0, 2, 3), keepdim=True).clamp_min(FLAT)
    return ((patches - mean) / deviation).flatten(1)


def _distance(patches: Tensor, references: Tensor, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(patches.shape[1], DIRECTIONS, generator=generator)
    directions /= directions.norm(dim=0, keepdim=True)
    projected, other = ((part @ directions).sort(dim=0).values for part in (patches, references))
    if len(projected) != len(other):
        places = torch.linspace(0, 1, min(len(projected), len(other)))
        projected, other = (_quantiles(part, places) for part in (projected, other))
    return float((projected - other).abs().mean())


def _quantiles(rows: Tensor, places: Tensor) -> Tensor:
    return rows[(places * (len(rows) - 1)).round().long()]
