"""Structural similarity, as losses: 0 for equal images."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config.checks import check_count, check_number
from cyclegan.losses.pixel import at_least_float32, blurred

# For images in [0, 1] (Wang et al., 2004): they keep the quotients finite on flat images.
C1, C2 = 0.01**2, 0.03**2

# The shares of the five scales, finest first, measured on observers (Wang et al., 2003).
SHARES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# From here up the similarity of a scale is what was published; see _positive.
SMALL = 0.01


class SSIM:
    """1 - SSIM, from 0 for equal images to 2 (Wang, Bovik, Sheikh & Simoncelli, 2004).

    SSIM = E l cs, with l = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1) and
    cs = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2), means m, variances and covariance s under a Gaussian
    window. Images in [-1, 1] are brought to [0, 1] first, as in all published figures: l compares
    means, and in [-1, 1] it would take grays a little under and a little over 0 for opposites.

    NCHW images of one shape and any size. Borders are reflected, so that every pixel counts as in
    torchmetrics; a window that a small image cannot reflect is cut to fit.

    Args:
        window: side of the window in pixels, odd.
        sigma: deviation of the Gaussian in pixels.
    """

    def __init__(self, window: int = 11, sigma: float = 1.5) -> None:
        self.window, self.sigma = _window(window), check_number("sigma", sigma, least=0.1)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        luminance, contrast = _similarities(
            *_to_unit(input, target), window=self.window, sigma=self.sigma
        )
        return 1 - (luminance * contrast).mean()


class MultiscaleSSIM:
    """1 - MS-SSIM, from 0 for equal images to 1 (Wang, Simoncelli & Bovik, 2003).

    MS-SSIM = (E l cs)_M^b_M  prod_j<M (E cs)_j^b_j: contrasts at M scales, each half as large as
    the one before (means of 2x2 pixels), luminance at the last one alone; the mean over the batch
    of each image's value. l and cs as in SSIM, images in [0, 1].

    NCHW images of one shape and any size. A scale takes part only where its short side still holds
    the window, at least one always does: all five need 176 px with a window of 11, three need 44.
    The published shares b of those that take part are made to sum to 1. A scale's mean under 0.01
    is lifted above 0, and still rises with it.

    Args:
        window: side of the window in pixels, odd, at every scale.
        sigma: deviation of the Gaussian in pixels.
        scales: the most scales to look at, 1 to 5.
    """

    def __init__(self, window: int = 11, sigma: float = 1.5, scales: int = 5) -> None:
        self.window, self.sigma = _window(window), check_number("sigma", sigma, least=0.1)
        self.scales = check_count("scales", scales, most=len(SHARES))

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        x, y = _to_unit(input, target)
        short = min(x.shape[-2:])
        scales = max(1, sum(short >> j >= self.window for j in range(self.scales)))
        product = x.new_ones(len(x))
        for scale, share in enumerate(SHARES[:scales], start=1):
            luminance, similarity = _similarities(x, y, window=self.window, sigma=self.sigma)
            if scale == scales:
                similarity = luminance * similarity
            else:
                x, y = (functional.avg_pool2d(image, 2) for image in (x, y))
            mean = _positive(similarity.mean(dim=(1, 2, 3)))
            product = product * mean ** (share / sum(SHARES[:scales]))
        return 1 - product.mean()


def _window(window: int) -> int:
    if check_count("window", window, most=99) % 2 == 0:
        raise ValueError(f"window={window} must be odd, to have a middle: {window + 1}, say")
    return window


def _to_unit(input: Tensor, target: Tensor) -> list[Tensor]:
    return [(at_least_float32(image) + 1) / 2 for image in (input, target)]


def _similarities(x: Tensor, y: Tensor, *, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Luminance l and contrast cs of images in [0, 1], each NCHW as they are."""
    reach = window // 2
    weights = [math.exp(-((at / sigma) ** 2) / 2) for at in range(-reach, reach + 1)]
    m_x, m_y, m_xx, m_yy, m_xy = (blurred(image, weights) for image in (x, y, x * x, y * y, x * y))
    luminance = (2 * m_x * m_y + C1) / (m_x.square() + m_y.square() + C1)
    variances = m_xx - m_x.square() + m_yy - m_y.square()
    return luminance, (2 * (m_xy - m_x * m_y) + C2) / (variances + C2)


def _positive(similarity: Tensor) -> Tensor:
    """The same from SMALL up; below, t^2 / (2 t - s), which goes on with the same slope towards 0.

    Unlike images may have a negative s, of which a fractional power does not exist, and at 0 its
    slope is infinite; a mere floor would give such images no gradient at all.
    """
    lifted = SMALL**2 / (2 * SMALL - similarity.clamp_max(SMALL))
    return torch.where(similarity > SMALL, similarity, lifted)
