"""How the images of a step are dealt out: to the batches computed one after another, and to the
processes that compute each together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler


@dataclass(frozen=True)
class Share:
    """The images of a step from `start` to `stop`, and what their mean counts in the step's mean
    where the results of all processes are averaged.
    """

    start: int
    stop: int
    weight: float

    def __len__(self) -> int:
        return self.stop - self.start


def deal(count: int, *, batch_size: int, rank: int = 0, world: int = 1) -> list[Share]:
    """Of `count` images the shares of one process, one for each batch of `batch_size`.

    Every image is in one share of one process. A process for which nothing is left of a batch takes
    an image that another has, at weight 0: all are to compute as many shares.
    """
    shares = []
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        most = -(-(stop - start) // world)
        first = min(start + rank * most, stop)
        last = min(first + most, stop)
        weight = world * (last - first) / count
        shares.append(Share(first, last, weight) if last > first else Share(stop - 1, stop, 0.0))
    return shares


class Positions(Sampler[list[int]]):
    """Lists of the positions of each step's images that fall to one process, without end; an
    epoch's last step may have fewer.
    """

    def __init__(
        self,
        epoch_length: int,
        *,
        images_per_step: int,
        start: int = 0,
        batch_size: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.epoch_length = epoch_length
        self.images_per_step = images_per_step
        self.start = start
        self.batch_size = batch_size or images_per_step
        self.rank = rank
        self.world = world

    def count(self, position: int) -> int:
        """How many images the step from this position on takes, over all processes."""
        return min(self.images_per_step, self.epoch_length - position % self.epoch_length)

    def shares(self, position: int) -> list[Share]:
        """Of that step, what falls to the process."""
        return deal(
            self.count(position), batch_size=self.batch_size, rank=self.rank, world=self.world
        )

    def since(self, position: int) -> "Positions":
        """The same from another position on."""
        return Positions(
            self.epoch_length,
            images_per_step=self.images_per_step,
            start=position,
            batch_size=self.batch_size,
            rank=self.rank,
            world=self.world,
        )

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start
        while True:
            places = (place for share in self.shares(position) for place in _places(share))
            yield [position + place for place in places]
            position += self.count(position)


def _places(share: Share) -> range:
    return range(share.start, share.stop)
