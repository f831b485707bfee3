"""The samples of two unpaired folders, each a pure function of the seed and its position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile, Patience
from cyclegan.data.loading.transforms import Preparation

# The images of a domain as `Preparation.levels` makes them, H x W x 3 uint8, each at the index of
# its file; in place of one that could not be decoded, a few words why.
Decoded = Sequence[np.ndarray | str]


@dataclass(frozen=True)
class Sample:
    """A crop of either domain, H x W x 3 uint8, perhaps a view of a cache; the place of each file
    in the domain; whether each is yet to be mirrored; and the files that turned out to be broken.
    """

    levels_A: np.ndarray
    levels_B: np.ndarray
    index_A: int
    index_B: int
    mirrored_A: bool
    mirrored_B: bool
    broken: dict[ImageFile, str]


class UnpairedImages(Dataset[Sample]):
    """The sample at any position 0, 1, 2 ... as a pure function of the seed.

    An epoch is as long as the larger domain. A comes in an order shuffled anew each epoch (and
    starts over where A is the smaller), B is drawn at random with replacement. As nothing depends
    on what was asked before, any number of workers gives the same stream, and resuming means to
    ask for the next position. Nor does it matter whether `decoded` holds the images or each is
    read from its file.
    """

    def __init__(
        self,
        files_A: Sequence[ImageFile],
        files_B: Sequence[ImageFile],
        prepare: tuple[Preparation, Preparation],
        *,
        seed: int,
        serial: bool = False,
        decoded: tuple[Decoded, Decoded] | None = None,
    ) -> None:
        self.files = files_A, files_B
        self.prepare = prepare
        self.seed = seed
        self.serial = serial
        self.decoded = decoded
        self.epoch_length = max(len(files_A), len(files_B))
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._patience = Patience()

    def __getitem__(self, position: int) -> Sample:
        random = np.random.default_rng([self.seed, 1, position])
        index_A, index_B = self._indices(position, random)
        broken: dict[ImageFile, str] = {}
        whole_A, index_A = self._load(0, index_A, broken)
        levels_A, mirrored_A = self.prepare[0].draw(whole_A, random)
        whole_B, index_B = self._load(1, index_B, broken)
        levels_B, mirrored_B = self.prepare[1].draw(whole_B, random)
        return Sample(levels_A, levels_B, index_A, index_B, mirrored_A, mirrored_B, broken)

    def _indices(self, position: int, random: np.random.Generator) -> tuple[int, int]:
        epoch, place = divmod(position, self.epoch_length)
        drawn_B = int(random.integers(len(self.files[1])))
        if self.serial:
            return place % len(self.files[0]), place % len(self.files[1])
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.epoch_length)
            self._order = (epoch, order)
        return int(self._order[1][place]) % len(self.files[0]), drawn_B

    def _load(
        self, domain: int, index: int, broken: dict[ImageFile, str]
    ) -> tuple[np.ndarray, int]:
        files = self.files[domain]
        # A file that breaks in mid-run is replaced by the next one that does not.
        for offset in range(len(files)):
            place = (index + offset) % len(files)
            if self.decoded is None:
                levels = decode(files[place], self.prepare[domain], self._patience)
            else:
                levels = self.decoded[domain][place]
            if not isinstance(levels, str):
                return levels, place
            broken[files[place]] = levels
        raise UserError(f"no image in {files[0].parent} can be read any more: check the disk")


def decode(
    file: ImageFile, prepare: Preparation, patience: Patience | None = None
) -> np.ndarray | str:
    """The image, H x W x 3 uint8, resized; or a few words why it cannot be read."""
    try:
        return prepare.levels(read_image(file, patience=patience))
    except UnreadableImage as error:
        return str(error)
