"""Differentiable augmentations of all images that discriminators see, for small sets of images
(Zhao et al., 2020).

Each is a differentiable callable on an NCHW batch in [-1, 1]. Every image of the batch draws its
own parameters from torch's global generator on the batch's device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config.checks import check_number

Augmentation = Callable[[Tensor], Tensor]


class RandomTranslation:
    """Shifts each image by whole pixels, up to `ratio` of its sides, and fills up with 0."""

    def __init__(self, ratio: float = 1 / 8) -> None:
        self.ratio = check_number("ratio", ratio, most=1)

    def __call__(self, image: Tensor) -> Tensor:
        down, right = (int(side * self.ratio) for side in image.shape[-2:])
        padded = functional.pad(image, (right, right, down, down))
        return _random_crop(_random_crop(padded, image.shape[2], dim=2), image.shape[3], dim=3)


class RandomCutout:
    """Sets a rectangle of `ratio` of each side to 0, at a random place of each image; up to half of
    it may lie outside.
    """

    def __init__(self, ratio: float = 1 / 2) -> None:
        self.ratio = check_number("ratio", ratio, most=1)

    def __call__(self, image: Tensor) -> Tensor:
        rows, columns = (_span(image, side, int(side * self.ratio)) for side in image.shape[-2:])
        cut = rows[:, None, :, None] & columns[:, None, None, :]
        return image.masked_fill(cut, 0)


class RandomColor:
    """Changes brightness and colours; unsuitable if colour itself is to be learned.

    Args:
        brightness: the largest number that is added to all channels, or subtracted.
        saturation: how far the factor on a pixel's distance from its gray may differ from 1.
        contrast: the same for the distance from the image's mean.
    """

    def __init__(
        self, *, brightness: float = 0.5, saturation: float = 1.0, contrast: float = 0.5
    ) -> None:
        self.brightness = check_number("brightness", brightness, most=2)
        self.saturation = check_number("saturation", saturation, most=1)
        self.contrast = check_number("contrast", contrast, most=1)

    def __call__(self, image: Tensor) -> Tensor:
        image = image + _uniform(image, self.brightness)
        gray = image.mean(dim=1, keepdim=True)
        image = torch.lerp(gray, image, 1 + _uniform(image, self.saturation))
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return torch.lerp(mean, image, 1 + _uniform(image, self.contrast))


class AugmentedDiscriminator:
    """A discriminator of augmented images.

    No module, so that the discriminator's weights keep their names.
    """

    def __init__(
        self, discriminator: Callable[..., Any], augmentations: Sequence[Augmentation]
    ) -> None:
        self.discriminator = discriminator
        self.augmentations = tuple(augmentations)
        self.keeps_queues = bool(getattr(discriminator, "keeps_queues", False))

    def __call__(self, image: Tensor, *, real: bool = False) -> Tensor | list[Tensor]:
        for augment in self.augmentations:
            image = augment(image)
        options = {"real": real} if self.keeps_queues else {}
        logits: Tensor | list[Tensor] = self.discriminator(image, **options)
        return logits


def _uniform(image: Tensor, most: float) -> Tensor:
    """One number per image, uniform from -most to most."""
    shape = (len(image), 1, 1, 1)
    return most * (2 * torch.rand(shape, dtype=image.dtype, device=image.device) - 1)


def _random_crop(image: Tensor, side: int, *, dim: int) -> Tensor:
    """`side` rows (dim 2) or columns (dim 3) of each image, from a random one on."""
    room = image.shape[dim] - side
    first = torch.randint(room + 1, (len(image), 1), device=image.device)
    index = first + torch.arange(side, device=image.device)
    index = index[:, None, :, None] if dim == 2 else index[:, None, None, :]
    sizes = list(image.shape)
    sizes[dim] = side
    return image.gather(dim, index.expand(sizes))


def _span(image: Tensor, side: int, size: int) -> Tensor:
    """A mask of `side` positions per image: `size` of them around a random one."""
    middle = torch.randint(side + 1 - size % 2, (len(image), 1), device=image.device)
    position = torch.arange(side, device=image.device)
    first = middle - size // 2
    return (position >= first) & (position < first + size)
