"""From a whole image to what the networks see: resize, then a random crop and a random mirror.

What is random is drawn anew for each sample; what is not, `cache` may keep.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cyclegan.config.train_options import Preprocess, TrainSettings


@dataclass(frozen=True)
class Preparation:
    """The classic ways to prepare an image, with Pillow's antialiased bicubic resize.

    resize_and_crop: to load_size x load_size whatever the shape, then a random crop;
    crop: a random crop at the image's own scale;
    scale_width, scale_width_and_crop: to a width of load_size in the image's own shape;
    resize: to load_size x load_size; none: as it is. Without a crop, sides become the nearest
    multiples of `multiple`, which the networks need.

    With --scale, sizes of A are so many times smaller than those of B, which the options name.
    """

    preprocess: Preprocess
    load_size: int
    crop_size: int
    flip: bool
    multiple: int = 4

    @classmethod
    def of(cls, settings: TrainSettings, domain: str, *, unit: int = 4) -> "Preparation":
        """unit: what sides of B are to be multiples of, and sides of A so many times less."""
        smaller = settings.smaller(domain)
        return cls(
            preprocess=settings.preprocess,
            load_size=settings.load_size // smaller,
            crop_size=settings.crop_size // smaller,
            flip=not settings.no_flip,
            multiple=math.lcm(unit, settings.scale) // smaller,
        )

    def levels(self, image: Image.Image) -> np.ndarray:
        """H x W x 3 uint8, resized, from 8-bit RGB: the part that no random draw changes."""
        return np.asarray(self.resize(image))

    def draw(self, levels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """A random crop of such an array, without a copy, and whether it is to be mirrored."""
        # Drawn whether used or not, so that one image's crop never depends on another option.
        place, mirrored = random.random(2), random.random() < 0.5
        if "crop" in self.preprocess:
            levels = _crop(levels, self.crop_size, place)
        return levels, bool(self.flip and mirrored)

    def resize(self, image: Image.Image) -> Image.Image:
        size = self.resized(*image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that `resize` gives an image of this width and height."""
        if self.preprocess.startswith("resize"):
            width = height = self.load_size
        elif self.preprocess.startswith("scale_width"):
            # Never lower than a crop: the classic implementation's rule, without a crop too.
            height = int(max(self.load_size * height / width, self.crop_size))
            width = self.load_size
        if "crop" not in self.preprocess:
            step = self.multiple
            width, height = (max(step, round(side / step) * step) for side in (width, height))
        return width, height

    @property
    def resizing(self) -> tuple[str, int, int, int]:
        """All that `levels` depends on: two that agree in it may share a cache."""
        way = self.preprocess.removesuffix("_and_crop")
        crops, scales = "crop" in self.preprocess, way == "scale_width"
        return (
            way,
            self.load_size if scales or way == "resize" else 0,
            self.crop_size if scales else 0,
            1 if crops else self.multiple,
        )


def _crop(levels: np.ndarray, side: int, place: np.ndarray) -> np.ndarray:
    height, width = levels.shape[:2]
    left = int(place[0] * (max(width - side, 0) + 1))
    top = int(place[1] * (max(height - side, 0) + 1))
    crop = levels[top : top + side, left : left + side]
    if crop.shape[:2] == (side, side):
        return crop
    # A file that has shrunk since the folders were checked: black at the right and below.
    missing = [(0, side - have) for have in crop.shape[:2]]
    return np.pad(crop, [*missing, (0, 0)])
