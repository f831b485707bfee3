"""Structural similarity as a loss: 0 for equal images."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config.checks import check_count, check_number
from cyclegan.losses.pixel import at_least_float32, blurred

# For images in [0, 1] (Wang et al., 2004): they keep the quotients finite on flat images.
C1, C2 = 0.01**2, 0.03**2

# Exponents of the five scales, finest first, measured with observers (Wang et al., 2003).
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# A scale's similarity below this is replaced; see _positive.
MIN_SIMILARITY = 0.01


class SSIM:
    """1 - SSIM, from 0 for equal images to 2 (Wang, Bovik, Sheikh & Simoncelli, 2004).

    SSIM = E l cs, with l = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1) and
    cs = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2), means m, variances and covariance s under a Gaussian
    window. Images in [-1, 1] are mapped to [0, 1] first, as in all published figures: l compares
    means, and in [-1, 1] two grays on either side of 0 would count as opposites.

    NCHW images of one shape and any size. Borders are reflected, so that every pixel counts as in
    torchmetrics; the window is cut where a small image cannot be reflected as far.

    Args:
        window: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
    """

    def __init__(self, window: int = 11, sigma: float = 1.5) -> None:
        self.window, self.sigma = _window(window), check_number("sigma", sigma, least=0.1)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        x, y = _to_unit(input, target)
        luminance, contrast = luminance_and_contrast(x, y, window=self.window, sigma=self.sigma)
        return 1 - (luminance * contrast).mean()


class MultiscaleSSIM:
    """1 - MS-SSIM, from 0 for equal images to 1 (Wang, Simoncelli & Bovik, 2003).

    MS-SSIM = (E l cs)_M^b_M  prod_j<M (E cs)_j^b_j: contrasts at M scales, each half as large as
    the one before (means of 2x2 pixels), luminance at the last one alone; the mean over the batch
    of each image's value. l and cs as in SSIM, images in [0, 1].

    NCHW images of one shape and any size. A scale is used only if its short side still holds the
    window; the first always is. All five need 176 px with a window of 11, three need 44. The
    published exponents b of the scales used are normalized to sum 1. A scale's mean under 0.01 is
    raised above 0, and still increases with it.

    Args:
        window: side of the window in pixels, odd, at every scale.
        sigma: standard deviation of the Gaussian in pixels.
        scales: the maximum number of scales, 1 to 5.
    """

    def __init__(self, window: int = 11, sigma: float = 1.5, scales: int = 5) -> None:
        self.window, self.sigma = _window(window), check_number("sigma", sigma, least=0.1)
        self.scales = check_count("scales", scales, most=len(EXPONENTS))

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        x, y = _to_unit(input, target)
        short = min(x.shape[-2:])
        scales = max(1, sum(short >> j >= self.window for j in range(self.scales)))
        exponents = EXPONENTS[:scales]
        product = x.new_ones(len(x))
        for scale, exponent in enumerate(exponents, start=1):
            luminance, similarity = luminance_and_contrast(
                x, y, window=self.window, sigma=self.sigma
            )
            if scale == scales:
                similarity = luminance * similarity
            else:
                x, y = (functional.avg_pool2d(image, 2) for image in (x, y))
            mean = _positive(similarity.mean(dim=(1, 2, 3)))
            product = product * mean ** (exponent / sum(exponents))
        return 1 - product.mean()


def luminance_and_contrast(
    x: Tensor, y: Tensor, *, window: int, sigma: float
) -> tuple[Tensor, Tensor]:
    """Luminance l and contrast cs of NCHW images in [0, 1], of the same shape."""
    reach = window // 2
    weights = [math.exp(-((at / sigma) ** 2) / 2) for at in range(-reach, reach + 1)]
    m_x, m_y, m_xx, m_yy, m_xy = (blurred(image, weights) for image in (x, y, x * x, y * y, x * y))
    luminance = (2 * m_x * m_y + C1) / (m_x.square() + m_y.square() + C1)
    variances = m_xx - m_x.square() + m_yy - m_y.square()
    return luminance, (2 * (m_xy - m_x * m_y) + C2) / (variances + C2)


def _window(window: int) -> int:
    if check_count("window", window, most=99) % 2 == 0:
        raise ValueError(f"window={window} must be odd, such as {window + 1}")
    return window


def _to_unit(input: Tensor, target: Tensor) -> list[Tensor]:
    return [(at_least_float32(image) + 1) / 2 for image in (input, target)]


def _positive(similarity: Tensor) -> Tensor:
    """The similarity s itself from MIN_SIMILARITY t up; below, t^2 / (2 t - s), which continues it
    with the same slope and tends to 0.

    Dissimilar images may have a negative s, whose fractional power is undefined, and at 0 its slope
    is infinite; clamping would leave such images without a gradient.
    """
    below = similarity.clamp_max(MIN_SIMILARITY)
    raised = MIN_SIMILARITY**2 / (2 * MIN_SIMILARITY - below)
    return torch.where(similarity > MIN_SIMILARITY, similarity, raised)
