"""Reduced and degraded photographs: the low-resolution domain of super-resolution.

Tensors are N x 3 x H x W in [-1, 1]; all random numbers come from the generator passed in.
"""

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cyclegan.data.files.images import to_image, to_tensor
from cyclegan.networks.generators.bicubic import downscale, resize

Range = tuple[float, float]

# Short names for import paths of classes with the keyword arguments scale, blur, noise, jpeg.
KINDS = {
    "bicubic": "cyclegan.tools.degrade.classical.BicubicReduction",
    "classical": "cyclegan.tools.degrade.classical.Classical",
    "real": "cyclegan.tools.degrade.real_esrgan.SecondOrder",
}


class Degradation(Protocol):
    """Makes an image `scale` times smaller; the sides are multiples of the scale."""

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image: ...


@dataclass(frozen=True)
class BicubicReduction:
    """Bicubic reduction alone, as in the published tables of super-resolution."""

    scale: int

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        return downscale(image, self.scale)


@dataclass(frozen=True)
class Classical:
    """Blur, bicubic reduction, noise and JPEG, in this order; None leaves a step out.

    Args:
        scale: how many times smaller the image becomes.
        blur: standard deviation of the Gaussian blur, in pixels of the large image.
        noise: standard deviation of the Gaussian noise, in 8-bit values.
        jpeg: quality, 1 to 100.
    """

    scale: int
    blur: Range | None = (0.2, 2.0)
    noise: Range | None = (0.0, 10.0)
    jpeg: Range | None = (60, 95)

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        tensor = to_tensor(image)[None]
        if self.blur:
            tensor = filter_image(tensor, gaussian_kernel(random.uniform(*self.blur)))
        tensor = resize(tensor, shrink=self.scale)
        if self.noise:
            tensor = tensor + gaussian_noise(tensor, random.uniform(*self.noise), random)
        image = to_image(tensor[0])
        return compress(image, draw_quality(self.jpeg, random)) if self.jpeg else image


def filter_image(image: Tensor, kernel: np.ndarray) -> Tensor:
    """Correlates each channel with a kernel of odd side; the borders are reflected."""
    reach = len(kernel) // 2
    borders = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    # NumPy reflects repeatedly; torch refuses to pad by more than the image.
    padded = torch.from_numpy(np.pad(image.numpy(), borders, mode="reflect"))
    weight = torch.from_numpy(kernel.astype(np.float32))[None, None]
    channels = functional.conv2d(padded.flatten(0, 1)[:, None], weight)
    return channels.reshape(*image.shape[:2], *channels.shape[-2:])


def gaussian_kernel(
    sigma: float, across: float | None = None, *, angle: float = 0.0, side: int | None = None
) -> np.ndarray:
    """Side x side, sum 1: a Gaussian of deviation `sigma` along the angle (in radians) and `across`
    (default: sigma) at right angles to it. The side is odd; by default it is six deviations.
    """
    sigma = max(sigma, 1e-3)
    across = sigma if across is None else max(across, 1e-3)
    reach = side // 2 if side else math.ceil(3 * max(sigma, across))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * math.cos(angle) + y * math.sin(angle)
    away = y * math.cos(angle) - x * math.sin(angle)
    return normalize(np.exp(-0.5 * ((along / sigma) ** 2 + (away / across) ** 2)))


def normalize(kernel: np.ndarray) -> np.ndarray:
    kernel /= kernel.sum()
    return kernel


def gaussian_noise(
    image: Tensor, sigma: float, random: np.random.Generator, *, gray: bool = False
) -> Tensor:
    """Noise of a deviation in 8-bit values, to be added; gray: the same in every channel."""
    shape = (len(image), 1 if gray else image.shape[1], *image.shape[2:])
    noise = torch.from_numpy(random.standard_normal(shape, dtype=np.float32))
    return (noise * (sigma / 127.5)).expand_as(image)


def draw_quality(jpeg: Range, random: np.random.Generator) -> int:
    """A random integer of the range, both ends included."""
    return int(random.integers(round(jpeg[0]), round(jpeg[1]), endpoint=True))


def compress(image: Image.Image, quality: int) -> Image.Image:
    """The image after JPEG compression with halved chroma, as cameras write it."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(file).convert("RGB")
