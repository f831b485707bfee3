"""Image metrics: PSNR of a pair, sliced Wasserstein distance of two sets."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cyclegan.data.files.images import to_tensor
from cyclegan.losses.frequency import laplacian_pyramid

# Karras et al. (2018), section 5: 7x7 patches, levels down to 16 px, 512 directions.
PATCH_SIZE = 7
MIN_LEVEL_SIZE, MAX_LEVELS = 16, 32
NUM_DIRECTIONS = 512
# The paper takes 128 patches of each of thousands of images. Small sets need more of each image, up
# to NUM_PATCHES in all.
MIN_PATCHES_PER_IMAGE, MAX_PATCHES_PER_IMAGE, NUM_PATCHES = 128, 512, 8192
# A standard deviation below this, an eighth of a gray level, is rounding and must not be amplified.
MIN_STD = 1e-3

Images = Sequence[Tensor | Image.Image]


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]; infinite where they are equal."""
    error = float((image - reference).square().mean())
    return float("inf") if error == 0 else float(10 * np.log10(4.0 / error))


def sliced_wasserstein(images: Images, references: Images, *, seed: int = 0) -> float:
    """Sliced Wasserstein distance of 7x7 patches of Laplacian pyramids, times 1,000, averaged over
    the pyramid's levels; 0 is best (Karras et al., 2018, section 5 and appendix).

    8-bit images, or C x H x W in [-1, 1], of any sizes; the two sets need not pair up. Patches have
    the same random positions in the k-th image of either set if the two have the same size.
    """
    count = NUM_PATCHES // max(len(images), len(references))
    count = min(max(count, MIN_PATCHES_PER_IMAGE), MAX_PATCHES_PER_IMAGE)
    pyramids = [
        [_patches(image, count, seed + index) for index, image in enumerate(part)]
        for part in (images, references)
    ]
    num_levels = min(len(pyramid) for part in pyramids for pyramid in part)
    distances = []
    for level in range(num_levels):
        pair = [torch.cat([pyramid[level] for pyramid in part]) for part in pyramids]
        distances.append(_distance(_normalized(pair[0]), _normalized(pair[1]), seed))
    return 1000 * float(np.mean(distances))


def _patches(image: Tensor | Image.Image, count: int, seed: int) -> list[Tensor]:
    """`count` patches of each level of the image's pyramid."""
    generator = torch.Generator().manual_seed(seed)
    pixels = image if isinstance(image, Tensor) else to_tensor(image)
    pyramid = laplacian_pyramid(pixels[None], levels=MAX_LEVELS, min_size=2 * MIN_LEVEL_SIZE)
    return [_level_patches(level[0], count, generator) for level in pyramid]


def _level_patches(level: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Count x C x 7 x 7, at random positions; a level smaller than a patch is padded."""
    down, right = (max(0, PATCH_SIZE - side) for side in level.shape[-2:])
    level = functional.pad(level, (0, right, 0, down), mode="replicate")
    windows = level.unfold(1, PATCH_SIZE, 1).unfold(2, PATCH_SIZE, 1)
    rows = torch.randint(windows.shape[1], (count,), generator=generator)
    columns = torch.randint(windows.shape[2], (count,), generator=generator)
    return windows[:, rows, columns].transpose(0, 1)


def _normalized(patches: Tensor) -> Tensor:
    """N x 147: each colour channel of the whole set normalized to mean 0 and deviation 1."""
    mean = patches.mean(dim=(0, 2, 3), keepdim=True)
    std = patches.std(dim=(0, 2, 3), keepdim=True).clamp_min(MIN_STD)
    return ((patches - mean) / std).flatten(1)


def _distance(patches: Tensor, references: Tensor, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(patches.shape[1], NUM_DIRECTIONS, generator=generator)
    directions /= directions.norm(dim=0, keepdim=True)
    # NumPy sorts five times as fast as torch.
    projected, other = (
        torch.from_numpy(np.sort((part @ directions).numpy(), axis=0))
        for part in (patches, references)
    )
    if len(projected) != len(other):
        quantiles = torch.linspace(0, 1, min(len(projected), len(other)))
        projected, other = (
            part[(quantiles * (len(part) - 1)).round().long()] for part in (projected, other)
        )
    return float((projected - other).abs().mean())
