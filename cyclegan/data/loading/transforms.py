"""Resizing, random cropping and random mirroring of training images."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cyclegan.config.train_options import Preprocess


@dataclass(frozen=True)
class ImageTransform:
    """The preprocessing of the classic implementation, with Pillow's antialiased bicubic resize.

    resize_and_crop: resize to load_size x load_size, then a random crop;
    crop: a random crop of the image at its own size;
    scale_width, scale_width_and_crop: resize to the width load_size, keeping the aspect ratio;
    resize: resize to load_size x load_size; none: keep the size. Without a crop, the sides become
    the nearest multiples of `multiple`, which the networks need.
    """

    preprocess: Preprocess
    load_size: int
    crop_size: int
    flip: bool
    multiple: int = 4

    def resize(self, image: Image.Image) -> Image.Image:
        """The deterministic part of the transform, which a cache may keep."""
        size = self.resized_size(*image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def crop(self, pixels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """A random crop of a resized H x W x 3 image, as a view, and whether to mirror it."""
        # The same numbers are drawn for all options, so that no option changes another one's draws.
        place, flip = random.random(2), random.random() < 0.5
        if "crop" in self.preprocess:
            pixels = _crop(pixels, self.crop_size, place)
        return pixels, bool(self.flip and flip)

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an image of this width and height after `resize`."""
        if self.preprocess.startswith("resize"):
            width = height = self.load_size
        elif self.preprocess.startswith("scale_width"):
            # The classic implementation never makes the height less than a crop, even without one.
            height = int(max(self.load_size * height / width, self.crop_size))
            width = self.load_size
        if "crop" not in self.preprocess:
            step = self.multiple
            width, height = (max(step, round(side / step) * step) for side in (width, height))
        return width, height

    @property
    def cache_key(self) -> tuple[str, int, int, int]:
        """Everything that `resize` depends on: transforms with equal keys can share a cache."""
        resizing = self.preprocess.removesuffix("_and_crop")
        scales_width = resizing == "scale_width"
        return (
            resizing,
            self.load_size if scales_width or resizing == "resize" else 0,
            self.crop_size if scales_width else 0,
            1 if "crop" in self.preprocess else self.multiple,
        )


def _crop(pixels: np.ndarray, side: int, place: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    left = int(place[0] * (max(width - side, 0) + 1))
    top = int(place[1] * (max(height - side, 0) + 1))
    crop = pixels[top : top + side, left : left + side]
    if crop.shape[:2] == (side, side):
        return crop
    # The file has shrunk since the domains were checked: pad with black at the right and bottom.
    missing = [(0, side - length) for length in crop.shape[:2]]
    return np.pad(crop, [*missing, (0, 0)])
