"""From a whole image to what the networks see: resize, random crop, random mirror."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from cyclegan.data.images import to_tensor
from cyclegan.settings import Preprocess, TrainSettings


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

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Tensor:
        """3 x H x W in [-1, 1] from 8-bit RGB; every random draw comes from `random`."""
        image = self.resize(image)
        # Drawn whether used or not, so that one image's crop never depends on another option.
        place, mirrored = random.random(2), random.random() < 0.5
        if "crop" in self.preprocess:
            image = _crop(image, self.crop_size, place)
        if self.flip and mirrored:
            image = ImageOps.mirror(image)
        return to_tensor(image)

    def resize(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if self.preprocess.startswith("resize"):
            width = height = self.load_size
        elif self.preprocess.startswith("scale_width"):
            # Never lower than a crop: the classic implementation's rule, without a crop too.
            height = int(max(self.load_size * height / width, self.crop_size))
            width = self.load_size
        if "crop" not in self.preprocess:
            step = self.multiple
            width, height = (max(step, round(side / step) * step) for side in (width, height))
        if (width, height) == image.size:
            return image
        return image.resize((width, height), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, side: int, place: np.ndarray) -> Image.Image:
    left = int(place[0] * (max(image.width - side, 0) + 1))
    top = int(place[1] * (max(image.height - side, 0) + 1))
    return image.crop((left, top, left + side, top + side))
