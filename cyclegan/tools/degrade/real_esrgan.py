"""The second-order degradation of Real-ESRGAN (Wang et al., 2021): images as they are spread on the
internet. Generalised and plateau-shaped Gaussian blurs of the paper are left out.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cyclegan.data.files.images import to_image, to_tensor
from cyclegan.tools.degrade import classical
from cyclegan.tools.degrade.classical import Range, filter_image, gaussian_kernel, normalize

# Probabilities and ranges of the paper (section 4.1 and the published training options).
KERNEL_SIDES = range(7, 22, 2)
SINC_PROBABILITY, FINAL_SINC_PROBABILITY = 0.1, 0.8
ANISOTROPIC_PROBABILITY = 0.3
GAUSSIAN_PROBABILITY, GRAY_PROBABILITY = 0.5, 0.4
RESIZE_MODES = ("area", "bilinear", "bicubic")

# The strongest blur and noise of the second pass, as fractions of the first pass.
SECOND_BLUR, SECOND_NOISE = 1 / 2, 5 / 6


class DegradationPass(NamedTuple):
    """Blur, resize and noise: their ranges, and the probabilities of enlarging and reducing."""

    blur: Range | None
    noise: Range | None
    poisson: Range
    enlarge: float
    reduce: float
    factors: Range
    blur_probability: float


class SecondOrder:
    """Two passes of blur, resize, noise and JPEG, then a resize to the final size with ringing.

    Args:
        scale: how many times smaller the image becomes.
        blur: deviation of the Gaussian blurs of the first pass, in pixels; None: no filters.
        noise: deviation of its Gaussian noise, in 8-bit values; None: no noise.
        jpeg: quality of both JPEG compressions, 1 to 100; None: no compression.
    """

    def __init__(
        self,
        scale: int,
        *,
        blur: Range | None = (0.2, 3.0),
        noise: Range | None = (1.0, 30.0),
        jpeg: Range | None = (30, 95),
    ) -> None:
        self.scale, self.filters, self.jpeg = scale, blur is not None, jpeg
        second_blur = blur and (min(blur[0], SECOND_BLUR * blur[1]), SECOND_BLUR * blur[1])
        second_noise = noise and (min(noise[0], SECOND_NOISE * noise[1]), SECOND_NOISE * noise[1])
        self.first = DegradationPass(blur, noise, (0.05, 3.0), 0.2, 0.7, (0.15, 1.5), 1.0)
        self.second = DegradationPass(
            second_blur, second_noise, (0.05, 2.5), 0.3, 0.4, (0.3, 1.2), 0.8
        )

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        size = image.height // self.scale, image.width // self.scale
        tensor = _degrade(to_tensor(image)[None], self.first, (image.height, image.width), random)
        tensor = self._compress(tensor, random)
        tensor = _degrade(tensor, self.second, size, random)
        # People compress an image after reducing and sharpening it, or before.
        if random.random() < 0.5:
            return to_image(self._compress(self._finish(tensor, size, random), random)[0])
        return to_image(self._finish(self._compress(tensor, random), size, random)[0])

    def _compress(self, image: Tensor, random: np.random.Generator) -> Tensor:
        if self.jpeg is None:
            return image.clamp(-1, 1)
        quality = classical.draw_quality(self.jpeg, random)
        return to_tensor(classical.compress(to_image(image[0]), quality))[None]

    def _finish(self, image: Tensor, size: tuple[int, int], random: np.random.Generator) -> Tensor:
        image = _resize(image, size, random)
        if not self.filters or random.random() >= FINAL_SINC_PROBABILITY:
            return image
        side = int(random.choice(KERNEL_SIDES))
        return filter_image(image, sinc_kernel(random.uniform(math.pi / 3, math.pi), side=side))


def sinc_kernel(cutoff: float, *, side: int) -> np.ndarray:
    """Side x side (odd), sum 1: the ideal circular low-pass filter at `cutoff` radians a pixel,
    truncated, so that edges ring and overshoot.
    """
    reach = side // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    radius = np.hypot(x, y)
    radius[reach, reach] = 1.0
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    kernel = cutoff * bessel / (2 * math.pi * radius)
    kernel[reach, reach] = cutoff**2 / (4 * math.pi)
    return normalize(kernel)


def poisson_noise(
    image: Tensor, strength: float, random: np.random.Generator, *, gray: bool = False
) -> Tensor:
    """Shot noise times `strength`, where white is 255 photons; gray: noise of the luminance, the
    same in every channel.
    """
    photons = (image.clamp(-1, 1) + 1) * 127.5
    if gray:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        photons = (photons * weights).sum(1, keepdim=True)
    counted = torch.from_numpy(random.poisson(photons.numpy()).astype(np.float32))
    return ((counted - photons) * (strength / 127.5)).expand_as(image)


def _degrade(
    image: Tensor, options: DegradationPass, size: tuple[int, int], random: np.random.Generator
) -> Tensor:
    """Blur, a resize to a random multiple of `size`, and noise."""
    if options.blur and random.random() < options.blur_probability:
        image = filter_image(image, _blur_kernel(options.blur, random))
    factor = _resize_factor(options, random)
    image = _resize(image, (max(1, int(size[0] * factor)), max(1, int(size[1] * factor))), random)
    if options.noise:
        gray = random.random() < GRAY_PROBABILITY
        if random.random() < GAUSSIAN_PROBABILITY:
            noise = classical.gaussian_noise(
                image, random.uniform(*options.noise), random, gray=gray
            )
        else:
            noise = poisson_noise(image, random.uniform(*options.poisson), random, gray=gray)
        image = image + noise
    return image.clamp(-1, 1)


def _blur_kernel(blur: Range, random: np.random.Generator) -> np.ndarray:
    side = int(random.choice(KERNEL_SIDES))
    if random.random() < SINC_PROBABILITY:
        # A small kernel cannot contain the rings of a low cutoff.
        lowest = math.pi / 3 if side < 13 else math.pi / 5
        return sinc_kernel(random.uniform(lowest, math.pi), side=side)
    sigma, across = random.uniform(*blur), random.uniform(*blur)
    if random.random() >= ANISOTROPIC_PROBABILITY:
        return gaussian_kernel(sigma, side=side)
    return gaussian_kernel(sigma, across, angle=random.uniform(-math.pi, math.pi), side=side)


def _resize_factor(options: DegradationPass, random: np.random.Generator) -> float:
    draw = random.random()
    if draw < options.enlarge:
        return random.uniform(1.0, options.factors[1])
    return (
        random.uniform(options.factors[0], 1.0) if draw < options.enlarge + options.reduce else 1.0
    )


def _resize(image: Tensor, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    mode = RESIZE_MODES[random.integers(len(RESIZE_MODES))]
    # Without antialiasing, like the paper's code: jagged edges belong to the degradation.
    return functional.interpolate(image, size, mode=mode)
