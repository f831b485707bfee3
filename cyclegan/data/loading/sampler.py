"""Splits the images of each step into micro-batches, and each micro-batch over the processes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class MicroBatch:
    """The images of a step from `start` to `stop` that one process computes at once, and the weight
    of their mean loss in the loss of the step, which is averaged over the processes.
    """

    start: int
    stop: int
    weight: float

    def __len__(self) -> int:
        return self.stop - self.start


def split_batch(
    count: int, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[MicroBatch]:
    """The micro-batches of one process: its part of each `batch_size` of a step's `count` images.

    Every image is in one micro-batch of one process. All processes compute the same number of
    micro-batches: one that is left without an image repeats the last one with weight 0.
    """
    micro_batches = []
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        per_process = -(-(stop - start) // world_size)
        first = min(start + rank * per_process, stop)
        last = min(first + per_process, stop)
        weight = world_size * (last - first) / count
        micro_batches.append(MicroBatch(min(first, stop - 1), last, weight))
    return micro_batches


@dataclass(frozen=True)
class StepBatchSampler:
    """Yields, step after step without end, the positions of the images that one process loads. The
    last step of an epoch may have fewer images.
    """

    epoch_length: int
    images_per_step: int
    start: int = 0
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    def step_size(self, position: int) -> int:
        """The number of images, over all processes, of the step that begins at this position."""
        return min(self.images_per_step, self.epoch_length - position % self.epoch_length)

    def micro_batches(self, position: int) -> list[MicroBatch]:
        """The micro-batches of this process in the step that begins at this position."""
        return split_batch(
            self.step_size(position),
            batch_size=self.images_per_step // self.accumulate,
            rank=self.rank,
            world_size=self.world_size,
        )

    def starting_at(self, position: int) -> "StepBatchSampler":
        return replace(self, start=position)

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start
        while True:
            micro_batches = self.micro_batches(position)
            yield [position + i for each in micro_batches for i in range(each.start, each.stop)]
            position += self.step_size(position)
