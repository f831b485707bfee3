"""An endless, seeded stream of unpaired batches, whose position is a single number."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cyclegan.data.augment import Preparation
from cyclegan.data.images import UnreadableImage, read_image
from cyclegan.errors import UserError


@dataclass(frozen=True)
class Batch:
    """N x 3 x H x W of either domain in [-1, 1], and the files that turned out to be broken."""

    real_A: Tensor
    real_B: Tensor
    broken: dict[Path, str]

    def pin_memory(self) -> "Batch":
        return Batch(self.real_A.pin_memory(), self.real_B.pin_memory(), self.broken)


Sample = tuple[Tensor, Tensor, dict[Path, str]]


class UnpairedImages(Dataset[Sample]):
    """The sample at any position 0, 1, 2 ... as a pure function of the seed.

    An epoch is as long as the larger domain. A comes in an order shuffled anew each epoch (and
    starts over where A is the smaller), B is drawn at random with replacement. As nothing depends
    on what was asked before, any number of workers gives the same stream, and resuming means to
    ask for the next position.
    """

    def __init__(
        self,
        files_A: Sequence[Path],
        files_B: Sequence[Path],
        prepare: tuple[Preparation, Preparation],
        *,
        seed: int,
        serial: bool = False,
    ) -> None:
        self.files_A, self.files_B = files_A, files_B
        self.prepare_A, self.prepare_B = prepare
        self.seed = seed
        self.serial = serial
        self.epoch_length = max(len(files_A), len(files_B))
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __getitem__(self, position: int) -> Sample:
        random = np.random.default_rng([self.seed, 1, position])
        index_A, index_B = self._indices(position, random)
        broken: dict[Path, str] = {}
        image_A = self._load(self.files_A, index_A, self.prepare_A, random, broken)
        image_B = self._load(self.files_B, index_B, self.prepare_B, random, broken)
        return image_A, image_B, broken

    def _indices(self, position: int, random: np.random.Generator) -> tuple[int, int]:
        epoch, place = divmod(position, self.epoch_length)
        drawn_B = int(random.integers(len(self.files_B)))
        if self.serial:
            return place % len(self.files_A), place % len(self.files_B)
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.epoch_length)
            self._order = (epoch, order)
        return int(self._order[1][place]) % len(self.files_A), drawn_B

    def _load(
        self,
        files: Sequence[Path],
        index: int,
        prepare: Preparation,
        random: np.random.Generator,
        broken: dict[Path, str],
    ) -> Tensor:
        # A file that breaks in mid-run is replaced by the next one that does not.
        for offset in range(len(files)):
            path = files[(index + offset) % len(files)]
            try:
                return prepare(read_image(path), random)
            except UnreadableImage as error:
                broken[path] = str(error)
        raise UserError(f"no image in {files[0].parent} can be read any more: check the disk")


class Positions(Sampler[list[int]]):
    """Lists of the positions of each batch, without end; an epoch's last batch may be shorter."""

    def __init__(self, epoch_length: int, *, batch_size: int, start: int) -> None:
        self.epoch_length = epoch_length
        self.batch_size = batch_size
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start
        while True:
            epoch_end = (position // self.epoch_length + 1) * self.epoch_length
            stop = min(position + self.batch_size, epoch_end)
            yield list(range(position, stop))
            position = stop


def stream(
    images: UnpairedImages, *, batch_size: int, start: int, num_threads: int, pin_memory: bool
) -> Iterator[Batch]:
    """Batches from position `start` on, made by `num_threads` processes (0: by this one)."""
    loader: DataLoader[Sample] = DataLoader(
        images,
        batch_sampler=Positions(images.epoch_length, batch_size=batch_size, start=start),
        num_workers=num_threads,
        collate_fn=_collate,
        pin_memory=pin_memory,
        persistent_workers=num_threads > 0,
        # Base seeds of workers come from here, not from the generator that the networks draw on.
        generator=torch.Generator(),
        worker_init_fn=_leave_signals if num_threads else None,
    )
    return _one_line(iter(loader))


def _one_line(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; a user's mistake comes from a worker without the worker's traceback."""
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def _leave_signals(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the one that trains decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate(samples: Sequence[Sample]) -> Batch:
    images_A, images_B, broken = zip(*samples, strict=True)
    return Batch(
        torch.stack(images_A),
        torch.stack(images_B),
        {path: why for found in broken for path, why in found.items()},
    )
