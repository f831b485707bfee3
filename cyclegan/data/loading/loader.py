"""Loads batches onto the device ahead of the step that needs them."""

import logging
import signal
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import current_thread, main_thread
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import from_uint8, from_uint8_numpy
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.loading.dataset import Crop, Sample, UnpairedImages
from cyclegan.data.loading.sampler import StepBatchSampler

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

# After this many deaths of workers without a batch between them, images are loaded without workers.
MAX_WORKER_DEATHS = 3


@dataclass(frozen=True)
class Batch:
    """N x 3 x H x W images of both domains in [-1, 1], the indices of their files, and the files
    that turned out to be unreadable, with the reason.
    """

    real_A: Tensor
    real_B: Tensor
    indices_A: tuple[int, ...]
    indices_B: tuple[int, ...]
    broken: dict[ImageFile, str]


class Uint8Images(NamedTuple):
    """N x H x W x 3 uint8, the indices of the images to mirror, and those of their files."""

    pixels: Tensor
    flipped: Tensor
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Uint8Batch:
    """A batch on the CPU before its conversion."""

    A: Uint8Images
    B: Uint8Images
    broken: dict[ImageFile, str]


def load_batches(
    dataset: UnpairedImages,
    sampler: StepBatchSampler,
    *,
    num_workers: int,
    device: torch.device,
    start_method: str | None = None,
) -> Generator[Batch]:
    """Yields batches on `device` without end; close it to stop loading.

    A thread makes the batches of decoded images, and `num_workers` processes all others (0: this
    process, on demand), started by `start_method`. All of them yield the same numbers.
    """
    to_batch = partial(_to_device, device=device)
    if dataset.decoded is None:
        # Workers start here, before the caller starts threads of its own.
        started = _start_workers(dataset, sampler, num_workers, start_method)
        batches = _restart_dead_workers(started, dataset, sampler, num_workers)
    else:
        batches = (collate([dataset[position] for position in step]) for step in sampler)
        if device.type == "cpu":
            # The thread converts the batches too.
            return prefetch(map(to_batch, batches))
        batches = prefetch(batches)
    if device.type == "cuda":
        return _copy_on_side_stream(batches, device, to_batch)
    return (to_batch(batch) for batch in batches)


def collate(samples: Sequence[Sample]) -> Uint8Batch:
    """Copies each crop once, into the batch."""
    broken = {path: why for sample in samples for path, why in sample.broken.items()}
    return Uint8Batch(_stack([s.A for s in samples]), _stack([s.B for s in samples]), broken)


def prefetch(items: Iterable[Item], *, depth: int = 3) -> Generator[Item]:
    """Yields the items, of which a thread makes up to `depth` in advance.

    An exception of the thread is raised here in its turn. Closing or dropping the iterator ends the
    thread after the item it is making.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        pending = deque(pool.submit(next, iterator, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, iterator, end))
            yield cast(Item, item)
    finally:
        pool.shutdown(cancel_futures=True)


def _stack(crops: Sequence[Crop]) -> Uint8Images:
    return Uint8Images(
        torch.from_numpy(np.stack([crop.pixels for crop in crops])),
        torch.tensor([i for i, crop in enumerate(crops) if crop.flip]).long(),
        tuple(crop.file_index for crop in crops),
    )


def _start_workers(
    dataset: UnpairedImages, sampler: StepBatchSampler, num_workers: int, start_method: str | None
) -> Iterator[Uint8Batch]:
    """The batches of a DataLoader whose workers start now."""
    with warnings.catch_warnings():
        # A slow drive may need more workers than there are cores, of which torch warns.
        warnings.simplefilter("ignore")
        loader: DataLoader[Sample] = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=num_workers,
            collate_fn=collate,
            persistent_workers=num_workers > 0,
            # Without it, the loader would draw from the random numbers of the networks.
            generator=torch.Generator(),
            worker_init_fn=_ignore_interrupts if num_workers else None,
            multiprocessing_context=start_method if num_workers else None,
        )
        batches = iter(loader)
    if num_workers and current_thread() is main_thread():
        # torch's handler raises during a step when a worker dies. Without it, torch raises when the
        # next batch is requested.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return _unwrap_user_error(batches)


def _restart_dead_workers(
    batches: Iterator[Uint8Batch],
    dataset: UnpairedImages,
    sampler: StepBatchSampler,
    num_workers: int,
) -> Iterator[Uint8Batch]:
    """Restarts the workers if one of them is killed, and continues at the next batch."""
    position, deaths = sampler.start, 0
    while True:
        try:
            for batch in batches:
                yield batch
                position += sampler.step_size(position)
                deaths = 0
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            # All but RuntimeError are raised when the shared memory of a dead worker is opened.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
        deaths += 1
        num_workers = num_workers if deaths < MAX_WORKER_DEATHS else 0
        how = "others take their place" if num_workers else "images are loaded without any now"
        logger.warning("a process that loads images died, perhaps for want of memory; %s", how)
        # Not by forking, since this program has threads by now.
        rest = sampler.starting_at(position)
        batches = _start_workers(dataset, rest, num_workers, "spawn")


def _unwrap_user_error(batches: Iterator[Uint8Batch]) -> Iterator[Uint8Batch]:
    """Removes the traceback of a worker from the message of a UserError."""
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def _ignore_interrupts(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the training process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _copy_on_side_stream(
    batches: Iterator[Uint8Batch], device: torch.device, to_batch: Callable[[Uint8Batch], Batch]
) -> Generator[Batch]:
    """Copies and converts one batch ahead, on a CUDA stream of its own."""
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    previous: tuple[Batch, torch.cuda.Event] | None = None
    for uint8_batch in batches:
        # The memory of dropped batches is reused, but only after the step has read them.
        side.wait_stream(torch.cuda.current_stream(device))
        # Memory is pinned here and not on the thread: an allocation by another thread would break
        # the capture of a CUDA graph.
        with torch.cuda.stream(side):
            batch = to_batch(_pin(uint8_batch))
        launched = batch, side.record_event()
        if previous is not None:
            yield _wait_for_copy(*previous)
        previous = launched
    if previous is not None:
        yield _wait_for_copy(*previous)


def _wait_for_copy(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Makes the current stream wait until the batch is on the device."""
    torch.cuda.current_stream(batch.real_A.device).wait_event(copied)
    return batch


def _pin(batch: Uint8Batch) -> Uint8Batch:
    """Pins the tensors, so that copies to the device run in the background."""

    def pin(images: Uint8Images) -> Uint8Images:
        # An empty tensor cannot be pinned.
        flipped = images.flipped.pin_memory() if len(images.flipped) else images.flipped
        return Uint8Images(images.pixels.pin_memory(), flipped, images.indices)

    return replace(batch, A=pin(batch.A), B=pin(batch.B))


def _to_device(batch: Uint8Batch, device: torch.device) -> Batch:
    """Converts the images on the device; on CUDA without waiting for the copy."""
    real_A, real_B = (
        from_uint8_numpy(images.pixels, images.flipped)
        if device.type == "cpu"
        else _convert(images.pixels, images.flipped, device)
        for images in (batch.A, batch.B)
    )
    return Batch(real_A, real_B, batch.A.indices, batch.B.indices, batch.broken)


def _convert(pixels: Tensor, flipped: Tensor, device: torch.device) -> Tensor:
    non_blocking = device.type == "cuda"
    pixels = pixels.to(device, non_blocking=non_blocking)
    if len(flipped):
        flipped = flipped.to(device, non_blocking=non_blocking)
        pixels = pixels.index_put((flipped,), pixels.index_select(0, flipped).flip(2))
    return from_uint8(pixels, memory_format=torch.contiguous_format)
