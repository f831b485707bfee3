"""Super-resolution measured as in published tables, beside bicubic interpolation.

An image is cropped to a multiple of the scale, reduced and enlarged again, with 8 bits after each;
PSNR and SSIM are those of luma alone, without a border of `scale` pixels.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cyclegan.data.files.images import read_image
from cyclegan.evaluation.image_metrics import psnr, sliced_wasserstein
from cyclegan.losses.structural import luminance_and_contrast
from cyclegan.networks.generators.bicubic import crop_to_multiple, downscale, upscale

# The sliced Wasserstein distance holds its images in memory: enough of them for a stable figure.
MAX_IMAGES = 64
# The Gaussian window of SSIM (Wang et al., 2004, section III.C).
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5

Upscaler = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of an image's luma, or their means."""

    psnr: float
    ssim: float


class SuperResolution:
    """Measures upscalers by name: each maps a small image to one `scale` times as large.

    `scores` holds the scores of every measured image by upscaler; `problems` says why an image
    could not be measured.
    """

    def __init__(self, upscalers: dict[str, Upscaler], *, scale: int) -> None:
        self.upscalers = upscalers
        self.scale = scale
        self.scores: dict[Path, dict[str, Score]] = {}
        self.problems: dict[Path, str] = {}
        self._real: list[Image.Image] = []
        self._upscaled: dict[str, list[Image.Image]] = {name: [] for name in upscalers}

    def measure(self, path: Path) -> None:
        try:
            image = crop_to_multiple(read_image(path), self.scale)
            _check_size(image, self.scale)
            full_range = is_gray(path)
        except ValueError as error:
            self.problems[path] = str(error)
            return
        small = downscale(image, self.scale)
        upscaled = {name: upscaler(small) for name, upscaler in self.upscalers.items()}
        self.scores[path] = {
            name: score(large, image, border=self.scale, full_range=full_range)
            for name, large in upscaled.items()
        }
        if len(self._real) < MAX_IMAGES:
            self._real.append(image)
            for name, large in upscaled.items():
                self._upscaled[name].append(large)

    def mean(self) -> dict[str, Score]:
        """Mean scores by upscaler; raises ValueError if no image has been measured."""
        return {
            name: Score(
                mean(scores[name].psnr for scores in self.scores.values()),
                mean(scores[name].ssim for scores in self.scores.values()),
            )
            for name in self.upscalers
        }

    def distances(self) -> dict[str, float]:
        """Sliced Wasserstein distance to up to 64 real images, by upscaler."""
        return {name: sliced_wasserstein(made, self._real) for name, made in self._upscaled.items()}


def score(
    image: Image.Image, reference: Image.Image, *, border: int, full_range: bool = False
) -> Score:
    """PSNR and SSIM of the luma of two images of one size, without `border` pixels at every edge.
    SSIM is averaged over the positions where its whole window lies within.

    full_range: for gray images. Raises ValueError if the sizes differ.
    """
    if image.size != reference.size:
        sizes = f"{image.width}x{image.height} px, not {reference.width}x{reference.height}"
        raise ValueError(f"the enlarged image has {sizes}")
    x, y = (
        luma(part, full_range=full_range)[None, None, border:-border, border:-border]
        for part in (image, reference)
    )
    luminance, contrast = luminance_and_contrast(
        x / 255, y / 255, window=SSIM_WINDOW, sigma=SSIM_SIGMA
    )
    within = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    similarity = (luminance * contrast)[..., within, within].mean()
    # psnr() expects values in [-1, 1].
    return Score(psnr(x / 127.5, y / 127.5), float(similarity))


def luma(image: Image.Image, *, full_range: bool = False) -> Tensor:
    """H x W float64 whole levels, ITU-R BT.601: in [16, 235], or in [0, 255] with full_range."""
    red, green, blue = torch.from_numpy(np.array(image, dtype=np.float64) / 255).unbind(-1)
    levels = 65.481 * red + 128.553 * green + 24.966 * blue
    return (levels * 255 / 219 if full_range else 16 + levels).round()


def is_gray(path: Path) -> bool:
    """Whether the file has no colour channels: published tables use its gray levels in full range,
    unlike the luma of colour images.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            return file.mode in ("1", "L", "LA", "I", "F") or file.mode.startswith("I;16")


def as_upscaler(translate: Upscaler, scale: int, *, own_scale: int) -> Upscaler:
    """A generator as an upscaler: one that keeps the size is given the bicubic enlargement."""
    if own_scale == scale:
        return translate
    return lambda image: translate(upscale(image, scale))


def _check_size(image: Image.Image, scale: int) -> None:
    smallest = SSIM_WINDOW + 2 * scale
    if min(image.size) < smallest:
        size = f"{image.width}x{image.height}"
        raise ValueError(f"too small: {size} px, at least {smallest} needed at --scale {scale}")
