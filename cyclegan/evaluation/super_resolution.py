"""Super-resolution measured as the published tables do it, beside bicubic interpolation.

An image is cropped to a multiple of the scale, reduced and enlarged again, with 8 bits after each;
PSNR and SSIM are of luma alone, without a border of `scale` pixels.
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cyclegan.data.files.images import UnreadableImage, read_image, to_tensor
from cyclegan.evaluation.image_metrics import (
    SSIM_WINDOW,
    psnr,
    sliced_wasserstein,
    ssim,
)
from cyclegan.networks.generators.bicubic import cropped, enlarged, reduced

# The whole set is held in memory for the sliced Wasserstein distance: enough for a stable figure.
MOST_IMAGES = 64

Enlarge = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of one image's luma, or their means."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Measured:
    """One image's scores by method, or why it has none."""

    path: Path
    scores: dict[str, Score]
    problem: str | None = None


class SuperResolution:
    """Measures methods by name on images: each maps a small image to one `scale` times as large."""

    def __init__(self, methods: dict[str, Enlarge], *, scale: int) -> None:
        self.methods = methods
        self.scale = scale
        self._scores: list[dict[str, Score]] = []
        self._real: list[Image.Image] = []
        self._made: dict[str, list[Image.Image]] = {name: [] for name in methods}

    def measure(self, paths: Sequence[Path]) -> Iterator[Measured]:
        """Each image as it is measured; one that cannot be is given with its problem."""
        for path in paths:
            try:
                image = cropped(read_image(path), self.scale)
                check_size(image, self.scale)
                full = is_gray(path)
            except (UnreadableImage, ValueError) as error:
                yield Measured(path, {}, str(error))
                continue
            yield Measured(path, self._measure(image, full=full))

    def mean(self) -> dict[str, Score]:
        """Of every image measured so far; of none at all a ValueError."""
        return {
            name: Score(
                mean(scores[name].psnr for scores in self._scores),
                mean(scores[name].ssim for scores in self._scores),
            )
            for name in self.methods
        }

    def distances(self) -> dict[str, float]:
        """Sliced Wasserstein distance to the real images, of up to 64 of them."""
        real = _Tensors(self._real)
        return {
            name: sliced_wasserstein(_Tensors(images), real) for name, images in self._made.items()
        }

    def _measure(self, image: Image.Image, *, full: bool) -> dict[str, Score]:
        small = reduced(image, self.scale)
        made = {name: method(small) for name, method in self.methods.items()}
        scores = {
            name: score(large, image, border=self.scale, full=full) for name, large in made.items()
        }
        self._scores.append(scores)
        if len(self._real) < MOST_IMAGES:
            self._real.append(image)
            for name, large in made.items():
                self._made[name].append(large)
        return scores


def score(image: Image.Image, reference: Image.Image, *, border: int, full: bool = False) -> Score:
    """Of the luma of two images of one size, without so many pixels at every edge.

    full: on gray levels as they are. Raises ValueError where the sizes differ.
    """
    if image.size != reference.size:
        sizes = f"{image.width}x{image.height} px, not {reference.width}x{reference.height}"
        raise ValueError(f"the enlarged image has {sizes}")
    ours, theirs = (
        luma(part, full=full)[border:-border, border:-border] for part in (image, reference)
    )
    # psnr() expects a peak of 2.
    return Score(psnr(ours / 127.5, theirs / 127.5), ssim(ours, theirs, peak=255))


def luma(image: Image.Image, *, full: bool = False) -> Tensor:
    """H x W float64 whole levels, ITU-R BT.601: in [16, 235], or in [0, 255] where `full`."""
    red, green, blue = torch.from_numpy(np.array(image, dtype=np.float64) / 255).unbind(-1)
    levels = 65.481 * red + 128.553 * green + 24.966 * blue
    return (levels * 255 / 219 if full else 16 + levels).round()


def is_gray(path: Path) -> bool:
    """Whether the file has no colour channels: the published tables take its levels as they are,
    and do not squeeze them into [16, 235] as they do with the luma of colours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            return file.mode in ("1", "L", "LA", "I", "F") or file.mode.startswith("I;16")


def check_size(image: Image.Image, scale: int) -> None:
    """Raises ValueError where less than SSIM's window is left within the border."""
    smallest = SSIM_WINDOW + 2 * scale
    if min(image.size) < smallest:
        size = f"{image.width}x{image.height}"
        raise ValueError(f"too small: {size} px, at least {smallest} needed at --scale {scale}")


def through(translate: Enlarge, scale: int, *, own_scale: int) -> Enlarge:
    """A generator as a method: one that keeps the size of its image is given it enlarged."""
    if own_scale == scale:
        return translate
    return lambda image: translate(enlarged(image, scale))


class _Tensors(Collection[Tensor]):
    """8-bit images that become tensors one at a time: all at once would need four times as much."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        return map(to_tensor, self.images)

    def __contains__(self, image: object) -> bool:
        return image in self.images
