"""The dataset of unpaired images: each sample is a function of the seed and its position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile, RetryPolicy
from cyclegan.data.loading.transforms import ImageTransform

# The resized images of a domain, H x W x 3 uint8, at the indices of their files; in place of an
# image that could not be decoded, the reason.
DecodedImages = Sequence[np.ndarray | str]


class Crop(NamedTuple):
    """H x W x 3 uint8, possibly a view of the cache; its file's index; whether to mirror it."""

    pixels: np.ndarray
    file_index: int
    flip: bool


@dataclass(frozen=True)
class Sample:
    """A crop of each domain, and the files that turned out to be unreadable, with the reason."""

    A: Crop
    B: Crop
    broken: dict[ImageFile, str]


@dataclass(eq=False)
class UnpairedImages(Dataset[Sample]):
    """Unpaired images of the domains A and B, for any position 0, 1, 2 ...

    An epoch is as long as the larger domain. The images of A are shuffled in each epoch, and repeat
    if A is the smaller domain; those of B are drawn at random with replacement. `serial` takes both
    in order. A sample depends on nothing but the seed and its position, so that any number of
    workers gives the same samples and a run can be resumed at any position. `decoded` holds the
    decoded images of A and B; without it, each image is read from its file.
    """

    files: tuple[Sequence[ImageFile], Sequence[ImageFile]]
    transforms: tuple[ImageTransform, ImageTransform]
    seed: int
    serial: bool = False
    decoded: tuple[DecodedImages, DecodedImages] | None = None

    def __post_init__(self) -> None:
        self.epoch_length = max(map(len, self.files))
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._retry = RetryPolicy()

    def __getitem__(self, position: int) -> Sample:
        random = np.random.default_rng([self.seed, 1, position])
        broken: dict[ImageFile, str] = {}
        A, B = (
            self._crop(domain, index, random, broken)
            for domain, index in enumerate(self._indices(position, random))
        )
        return Sample(A, B, broken)

    def _indices(self, position: int, random: np.random.Generator) -> tuple[int, int]:
        epoch, place = divmod(position, self.epoch_length)
        drawn_B = int(random.integers(len(self.files[1])))
        if self.serial:
            return place % len(self.files[0]), place % len(self.files[1])
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.epoch_length)
            self._order = (epoch, order)
        return int(self._order[1][place]) % len(self.files[0]), drawn_B

    def _crop(
        self, domain: int, index: int, random: np.random.Generator, broken: dict[ImageFile, str]
    ) -> Crop:
        files, transform = self.files[domain], self.transforms[domain]
        # The next readable file replaces one that became unreadable during the run.
        for offset in range(len(files)):
            place = (index + offset) % len(files)
            if self.decoded is None:
                image = decode(files[place], transform, self._retry)
            else:
                image = self.decoded[domain][place]
            if not isinstance(image, str):
                pixels, flip = transform.crop(image, random)
                return Crop(pixels, place, flip)
            broken[files[place]] = image
        raise UserError(f"no image in {files[0].parent} can be read any more: check the disk")


def decode(
    file: ImageFile, transform: ImageTransform, retry: RetryPolicy | None = None
) -> np.ndarray | str:
    """The resized image, H x W x 3 uint8, or the reason why it cannot be read."""
    try:
        return np.asarray(transform.resize(read_image(file, retry=retry)))
    except UnreadableImage as error:
        return str(error)
