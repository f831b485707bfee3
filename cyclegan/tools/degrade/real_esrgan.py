"""The degradation of Real-ESRGAN (Wang et al., 2021): what happens to a picture on the internet.

Twice over it is blurred, resized, overlaid with noise and compressed, and at the end brought to its
size with ringing. Of the paper's blurs, generalised and plateau-shaped Gaussians are left out.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cyclegan.data.files.images import to_image, to_tensor
from cyclegan.tools.degrade.classical import (
    Range,
    compressed,
    draw_quality,
    filtered,
    gaussian_kernel,
    gaussian_noise,
)

# The paper's odds and ranges (its section 4.1 and published training options).
KERNEL_SIDES = range(7, 22, 2)
SINC_ODDS, LAST_SINC_ODDS = 0.1, 0.8
ANISOTROPIC_ODDS = 0.3
GAUSSIAN_ODDS, GRAY_ODDS = 0.5, 0.4
RESIZE_MODES = ("area", "bilinear", "bicubic")

# The second pass is milder: these parts of the first one's strongest blur and noise.
SECOND_BLUR, SECOND_NOISE = 1 / 2, 5 / 6


@dataclass(frozen=True)
class Pass:
    """One of the two: how strong, and how likely larger or smaller."""

    blur: Range | None
    noise: Range | None
    poisson: Range
    larger: float
    smaller: float
    sizes: Range
    blur_odds: float = 1.0


class SecondOrder:
    """Two passes of blur, resize, noise and JPEG.

    Args:
        scale: how many times smaller the image becomes.
        blur: deviation of the Gaussian blurs of the first pass, in pixels; None: no filter at all.
        noise: deviation of its Gaussian noise, in levels of 255; None: no noise at all.
        jpeg: quality of both JPEG files, 1 to 100; None: neither.
    """

    def __init__(
        self,
        scale: int,
        *,
        blur: Range | None = (0.2, 3.0),
        noise: Range | None = (1.0, 30.0),
        jpeg: Range | None = (30, 95),
    ) -> None:
        self.scale = scale
        self.filters = blur is not None
        self.jpeg = jpeg
        self.first = Pass(blur, noise, (0.05, 3.0), larger=0.2, smaller=0.7, sizes=(0.15, 1.5))
        self.second = Pass(
            blur and (min(blur[0], SECOND_BLUR * blur[1]), SECOND_BLUR * blur[1]),
            noise and (min(noise[0], SECOND_NOISE * noise[1]), SECOND_NOISE * noise[1]),
            (0.05, 2.5),
            larger=0.3,
            smaller=0.4,
            sizes=(0.3, 1.2),
            blur_odds=0.8,
        )

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        size = image.height // self.scale, image.width // self.scale
        tensor = to_tensor(image)[None]
        tensor = _degraded(tensor, self.first, (image.height, image.width), random)
        tensor = self._compress(tensor, random)
        tensor = _degraded(tensor, self.second, size, random)
        # A picture is made smaller and sharpened either before it is uploaded or after.
        if random.random() < 0.5:
            return to_image(self._compress(self._finish(tensor, size, random), random)[0])
        return to_image(self._finish(self._compress(tensor, random), size, random)[0])

    def _compress(self, image: Tensor, random: np.random.Generator) -> Tensor:
        if self.jpeg is None:
            return image.clamp(-1, 1)
        return to_tensor(compressed(to_image(image[0]), draw_quality(self.jpeg, random)))[None]

    def _finish(self, image: Tensor, size: tuple[int, int], random: np.random.Generator) -> Tensor:
        image = _resized(image, size, random)
        if not self.filters or random.random() >= LAST_SINC_ODDS:
            return image
        side = int(random.choice(KERNEL_SIDES))
        return filtered(image, sinc_kernel(random.uniform(math.pi / 3, math.pi), side=side))


def sinc_kernel(cutoff: float, *, side: int) -> np.ndarray:
    """Side x side (odd), sum 1: the ideal round low-pass filter at `cutoff` radians a pixel, cut
    off where the kernel ends, so that edges ring and overshoot.
    """
    reach = side // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    radius = np.hypot(x, y)
    radius[reach, reach] = 1.0
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    kernel: np.ndarray = cutoff * bessel / (2 * math.pi * radius)
    kernel[reach, reach] = cutoff**2 / (4 * math.pi)
    kernel /= kernel.sum()
    return kernel


def poisson_noise(
    image: Tensor, strength: float, random: np.random.Generator, *, gray: bool = False
) -> Tensor:
    """What counting light adds where white is 255 photons, times `strength`; gray: of luminance
    alone, and the same in every channel.
    """
    light = (image.clamp(-1, 1) + 1) * 127.5
    if gray:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        light = (light * weights).sum(1, keepdim=True)
    counted = torch.from_numpy(random.poisson(light.numpy()).astype(np.float32))
    return ((counted - light) * (strength / 127.5)).expand_as(image)


def _degraded(
    image: Tensor, how: Pass, base: tuple[int, int], random: np.random.Generator
) -> Tensor:
    """Blur, a resize round the size `base`, and noise."""
    if how.blur and random.random() < how.blur_odds:
        image = filtered(image, _blur_kernel(how.blur, random))
    factor = _size_factor(how, random)
    size = max(1, int(base[0] * factor)), max(1, int(base[1] * factor))
    image = _resized(image, size, random)
    return (image + _noise(image, how, random)).clamp(-1, 1)


def _blur_kernel(blur: Range, random: np.random.Generator) -> np.ndarray:
    side = int(random.choice(KERNEL_SIDES))
    if random.random() < SINC_ODDS:
        # A small kernel cannot hold the rings of a low cutoff.
        lowest = math.pi / 3 if side < 13 else math.pi / 5
        return sinc_kernel(random.uniform(lowest, math.pi), side=side)
    sigma, across = random.uniform(*blur), random.uniform(*blur)
    if random.random() >= ANISOTROPIC_ODDS:
        return gaussian_kernel(sigma, side=side)
    return gaussian_kernel(sigma, across, angle=random.uniform(-math.pi, math.pi), side=side)


def _size_factor(how: Pass, random: np.random.Generator) -> float:
    chance = random.random()
    if chance < how.larger:
        return random.uniform(1.0, how.sizes[1])
    return random.uniform(how.sizes[0], 1.0) if chance < how.larger + how.smaller else 1.0


def _resized(image: Tensor, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    # Not antialiased, as in the paper's code: cheap software's jagged edges belong to the mix.
    mode = RESIZE_MODES[random.integers(len(RESIZE_MODES))]
    return functional.interpolate(image, size, mode=mode)


def _noise(image: Tensor, how: Pass, random: np.random.Generator) -> Tensor:
    if how.noise is None:
        return torch.zeros(())
    gray = random.random() < GRAY_ODDS
    if random.random() < GAUSSIAN_ODDS:
        return gaussian_noise(image, random.uniform(*how.noise), random, gray=gray)
    return poisson_noise(image, random.uniform(*how.poisson), random, gray=gray)
