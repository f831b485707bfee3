"""Losses on pixels and their neighbours; and the arithmetic that image losses share."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config.checks import check_choice, check_number


class Charbonnier:
    """E sqrt((x - y)^2 + eps^2): a mean absolute difference that is smooth at 0, where it is eps
    (Charbonnier et al., 1994; Lai et al., 2017, for super-resolution).

    NCHW images of one shape and any size.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        # The square of a smaller one vanishes in single precision, and the gradient with it.
        self.eps = check_number("eps", eps, least=1e-6)

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return (difference(input, target).square() + self.eps**2).sqrt().mean()


class Gradient:
    """Mean absolute difference of the images' edges: E |d/dx (x - y)| + E |d/dy (x - y)|.

    After Mathieu et al. (2016), whose loss ignores the sign of an edge; this one does not.
    NCHW images of one shape, sides of at least 2 px.

    Args:
        operator: sobel (Sobel & Feldman, 1968; a slope of 1 per pixel gives 1, borders repeated),
            or difference (of neighbouring pixels: finer, and more sensitive to noise).
    """

    def __init__(self, operator: str = "sobel") -> None:
        operators = {"sobel": _sobel, "difference": _differences}
        self.slopes = operators[check_choice("operator", operator, operators)]

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        across, down = self.slopes(difference(input, target))
        return across.abs().mean() + down.abs().mean()


class TotalVariation:
    """E |dx/du|^p + E |dx/dv|^p over neighbouring pixels of the input, p the power: the smoother
    the image, the lower (Rudin, Osher & Fatemi, 1992; here summed over the two directions).

    The target is ignored. NCHW images, sides of at least 2 px.

    Args:
        power: 1 keeps sharp edges, 2 penalizes them most.
    """

    def __init__(self, power: int = 1) -> None:
        if isinstance(power, bool) or power not in (1, 2):
            raise ValueError(f"power={power} must be 1 or 2")
        self.power = power

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        across, down = (slope.abs() for slope in _differences(at_least_float32(input)))
        return across.pow(self.power).mean() + down.pow(self.power).mean()


def difference(input: Tensor, target: Tensor) -> Tensor:
    """The difference in float32 (or float64), also under autocast."""
    return at_least_float32(input) - at_least_float32(target)


def at_least_float32(image: Tensor) -> Tensor:
    return image.float() if image.element_size() < 4 else image


def blurred(images: Tensor, weights: Sequence[float]) -> Tensor:
    """NCHW images blurred by a separable kernel of an odd number of weights, normalized to sum 1.

    Borders are reflected, and the kernel is cut where a small image cannot be reflected as far. It
    sums shifted images, since convolutions may be rounded to 10 bits (TF32) or 8 (autocast), and
    variances are small differences of large numbers.
    """
    for dimension in (-2, -1):
        side, middle = images.shape[dimension], len(weights) // 2
        reach = min(middle, side - 1)
        line = weights[middle - reach : middle + reach + 1]
        pad = (0, 0, reach, reach) if dimension == -2 else (reach, reach, 0, 0)
        padded = functional.pad(images, pad, mode="reflect")
        images = torch.zeros_like(images)
        for k, weight in enumerate(line):
            images = images + weight / sum(line) * padded.narrow(dimension, k, side)
    return images


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    return image.diff(dim=-1), image.diff(dim=-2)


def _sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences across and down, each smoothed by (1 2 1) / 4 in the other direction."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]) / 4
    columns = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    across = (rows[..., 2:] - rows[..., :-2]) / 2
    down = (columns[..., 2:, :] - columns[..., :-2, :]) / 2
    return across, down
