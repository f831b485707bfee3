"""Losses on frequency bands, or weighted by frequency."""

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config.checks import check_count, check_flag, check_number
from cyclegan.losses.pixel import blurred, difference

# The kernel of Burt and Adelson, applied down and across.
BINOMIAL = (1, 4, 6, 4, 1)


class LowFrequency:
    """Mean absolute difference of the images after averaging over `size` x `size` pixels:
    colours and brightness must stay, detail may change (after Torbunov et al., 2023, uvcgan2).

    NCHW images of one shape; windows at the right and the bottom may hold fewer pixels.
    """

    def __init__(self, size: int = 8) -> None:
        self.size = check_count("size", size)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        window = (min(self.size, height), min(self.size, width))
        return functional.avg_pool2d(input - target, window, ceil_mode=True).abs().mean()


class FocalFrequency:
    """Focal frequency loss (Jiang, Dai, Wu & Loy, 2021): E w |F(x) - F(y)|^2, F the orthonormal
    Fourier transform, w = |F(x) - F(y)|^alpha divided by its largest value in the channel.

    The frequencies that differ most count most; no gradient flows through w. NCHW images of one
    shape and any size; 0 for equal images.

    Args:
        alpha: how much more these count; with 0 the loss is the mean squared difference.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.fft2(difference(input, target), norm="ortho")
        power = spectrum.real.square() + spectrum.imag.square()
        distance = power.detach().sqrt()
        # Normalized before the power is taken: a large alpha must not overflow.
        tiny = torch.finfo(distance.dtype).tiny
        largest = distance.amax(dim=(-2, -1), keepdim=True).clamp_min(tiny)
        return ((distance / largest).pow(self.alpha) * power).mean()


class Wavelet:
    """E |W(x) - W(y)|, the mean absolute difference of all coefficients of an orthonormal Haar
    transform W (Haar, 1910; Mallat, 1989; as a loss after Huang et al., 2017).

    NCHW images of one shape and any size: odd sides repeat their last pixel at each level, and the
    levels end once a side is 1 px.

    Args:
        levels: number of decomposition levels.
        approximation: also compare the final averages. Without them only edges and texture count,
            not colours and brightness.
    """

    def __init__(self, levels: int = 3, approximation: bool = True) -> None:
        self.levels = check_count("levels", levels, most=16)
        self.approximation = check_flag("approximation", approximation)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        bands = haar(difference(input, target), levels=self.levels)
        compared = bands if self.approximation else bands[:-1]
        return torch.cat([band.abs().flatten() for band in compared]).mean()


class LaplacianPyramid:
    """sum_j E |L_j(x) - L_j(y)| over the levels of a Laplacian pyramid, the low-pass residual
    included: colours and coarse shapes count as much as detail (Bojanowski et al., 2018; Burt &
    Adelson, 1983).

    The paper's sum_j 2^(2j) |L_j(x) - L_j(y)|_1 divided by the number of pixels: level j has
    2^(2j) times fewer of them, so that each level's mean weighs the same. NCHW images of one shape
    and any size; the levels end once a side is under 4 px.

    Args:
        levels: number of levels of detail, each half the size of the one before.
    """

    def __init__(self, levels: int = 4) -> None:
        self.levels = check_count("levels", levels, most=16)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        # The pyramid is linear: that of a difference is the difference of two pyramids.
        pyramid = laplacian_pyramid(difference(input, target), levels=self.levels)
        return torch.stack([level.abs().mean() for level in pyramid]).sum()


def haar(image: Tensor, *, levels: int) -> list[Tensor]:
    """Orthonormal Haar coefficients of NCHW images: the three detail bands of each level, finest
    first (N x 3 x C x h x w: across, down, both), then the final averages (NCHW).
    """
    bands = []
    for _ in range(levels):
        if min(image.shape[-2:]) < 2:
            break
        odd = (0, image.shape[-1] % 2, 0, image.shape[-2] % 2)
        even = functional.pad(image, odd, mode="replicate")
        left, right = even[..., 0::2], even[..., 1::2]
        low, high = left + right, left - right
        image = (low[..., 0::2, :] + low[..., 1::2, :]) / 2
        across = (high[..., 0::2, :] + high[..., 1::2, :]) / 2
        down = (low[..., 0::2, :] - low[..., 1::2, :]) / 2
        both = (high[..., 0::2, :] - high[..., 1::2, :]) / 2
        bands.append(torch.stack([across, down, both], dim=1))
    return [*bands, image]


def laplacian_pyramid(image: Tensor, *, levels: int, min_size: int = 4) -> list[Tensor]:
    """The levels of detail of NCHW images, finest first, then the low-pass residual. Images with a
    side under `min_size` are not split further.
    """
    pyramid = []
    for _ in range(levels):
        if min(image.shape[-2:]) < min_size:
            break
        smaller = blurred(image, BINOMIAL)[..., ::2, ::2]
        spread = torch.zeros_like(image)
        spread[..., ::2, ::2] = smaller
        pyramid.append(image - 4 * blurred(spread, BINOMIAL))
        image = smaller
    return [*pyramid, image]
