"""Batches on the device, made ahead of the step that needs them."""

import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread, current_thread, main_thread
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import from_levels, from_levels_here
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.loading.dataset import Sample, UnpairedImages
from cyclegan.data.loading.sampler import Positions

Item = TypeVar("Item")
Say = Callable[[str], object]

# After so many deaths without a batch between them, the loading processes are given up.
MOST_DEATHS = 3


@dataclass(frozen=True)
class Batch:
    """N x 3 x H x W of either domain in [-1, 1], the places of their files in the domain, and the
    files that turned out to be broken.
    """

    real_A: Tensor
    real_B: Tensor
    indices_A: tuple[int, ...]
    indices_B: tuple[int, ...]
    broken: dict[ImageFile, str]


@dataclass(frozen=True)
class Levels:
    """A batch before the device: N x H x W x 3 uint8, and the indices of those to be mirrored."""

    levels_A: Tensor
    levels_B: Tensor
    mirrored_A: Tensor
    mirrored_B: Tensor
    indices_A: tuple[int, ...]
    indices_B: tuple[int, ...]
    broken: dict[ImageFile, str]


def stream(
    images: UnpairedImages,
    positions: Positions,
    *,
    num_threads: int,
    device: torch.device,
    start: str | None = None,
    say: Say = print,
) -> Generator[Batch]:
    """Batches on `device` of the images at these positions, without end; to be closed by who asks.

    Of decoded images they are made by one thread, else by `num_threads` processes (0: by none but
    this one, when they are asked for), which begin by the method `start`. Every way gives the same
    numbers. Of processes that die, and are replaced, `say` is told.
    """
    ready = partial(_transfer, device=device)
    if images.decoded is None:
        # The processes start here, not when the first batch is asked for.
        batches = _started(images, positions, num_threads, start=start)
        made = _replaced(batches, images, positions, num_threads, say)
    else:
        made = (collate([images[position] for position in batch]) for batch in positions)
        if device.type == "cpu":
            # Nothing is left for the step's own thread to do.
            return ahead(map(ready, made))
        made = ahead(made)
    if device.type == "cuda":
        return _on_side_stream(made, device, ready)
    return (ready(levels) for levels in made)


def collate(samples: Sequence[Sample]) -> Levels:
    """One copy of each crop, into the batch."""
    return Levels(
        torch.from_numpy(np.stack([sample.levels_A for sample in samples])),
        torch.from_numpy(np.stack([sample.levels_B for sample in samples])),
        torch.tensor([i for i, sample in enumerate(samples) if sample.mirrored_A]).long(),
        torch.tensor([i for i, sample in enumerate(samples) if sample.mirrored_B]).long(),
        tuple(sample.index_A for sample in samples),
        tuple(sample.index_B for sample in samples),
        {path: why for sample in samples for path, why in sample.broken.items()},
    )


def ahead(items: Iterable[Item], *, depth: int = 2) -> Generator[Item]:
    """The same items, up to `depth` of them made by a thread before they are asked for.

    What the thread raises is raised here, in its turn. It ends when this iterator is closed or
    dropped, at the latest after the item it is at.
    """
    queue: Queue[Item | _Last] = Queue(depth)
    closed = Event()

    def work() -> None:
        last = _Last()
        try:
            for item in items:
                queue.put(item)
                if closed.is_set():
                    return
        except BaseException as error:
            last.error = error
        queue.put(last)

    # A daemon: a program that ends while the queue is full does not wait for anyone to empty it.
    thread = Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _Last):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        _empty(queue)
        # A thread that still computes when the interpreter ends would bring the program down.
        thread.join()


@dataclass
class _Last:
    """Comes after the last item, with what ended them."""

    error: BaseException | None = None


def _empty(queue: Queue[Item]) -> None:
    """Makes room, so that nobody is left waiting to put something in."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return


def _started(
    images: UnpairedImages, positions: Positions, num_threads: int, *, start: str | None = None
) -> Iterator[Levels]:
    """The batches as so many processes make them, which run from now on."""
    # More processes than cores may be what a slow drive asks for: no matter for a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader: DataLoader[Sample] = DataLoader(
            images,
            batch_sampler=positions,
            num_workers=num_threads,
            collate_fn=collate,
            persistent_workers=num_threads > 0,
            # Base seeds of workers come from here, not from what the networks draw on.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals if num_threads else None,
            multiprocessing_context=start if num_threads else None,
        )
        batches = iter(loader)
    if num_threads and current_thread() is main_thread():
        # Torch would raise in the middle of a step when a process dies; without its handler it
        # does so when the next batch is asked for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return _one_line(batches)


def _replaced(
    batches: Iterator[Levels],
    images: UnpairedImages,
    positions: Positions,
    num_threads: int,
    say: Say,
) -> Iterator[Levels]:
    """The same batches, from new processes where those that made them die."""
    position, deaths = positions.start, 0
    while True:
        try:
            for levels in batches:
                yield levels
                position += positions.count(position)
                deaths = 0
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            # What a dead process had put up to be fetched is gone with it.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
        deaths += 1
        num_threads = num_threads if deaths < MOST_DEATHS else 0
        how = "others take their place" if num_threads else "images are loaded without any now"
        say(f"warning: a process that loads images died, perhaps for want of memory; {how}")
        # Not forked: this program has threads by now.
        batches = _started(images, positions.since(position), num_threads, start="spawn")


def _one_line(batches: Iterator[Levels]) -> Iterator[Levels]:
    """The same batches; a user's mistake comes from a worker without the worker's traceback."""
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def _leave_signals(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the one that trains decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_side_stream(
    made: Iterator[Levels], device: torch.device, ready: Callable[[Levels], Batch]
) -> Generator[Batch]:
    """Copies and converts on a CUDA stream of its own, one batch ahead of the step's stream."""
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Batch, torch.cuda.Event] | None = None
    for levels in made:
        # Memory of batches that were let go is taken again: only once the step has read them.
        side.wait_stream(torch.cuda.current_stream(device))
        # Pinned here and not on the thread: a CUDA graph that is being captured meanwhile would
        # not bear allocations of another thread's.
        with torch.cuda.stream(side):
            batch = ready(_pinned(levels))
        launched = batch, side.record_event()
        if before is not None:
            yield _handed_over(*before)
        before = launched
    if before is not None:
        yield _handed_over(*before)


def _handed_over(batch: Batch, arrived: torch.cuda.Event) -> Batch:
    """The batch for the stream that its consumer computes on."""
    current = torch.cuda.current_stream(batch.real_A.device)
    current.wait_event(arrived)
    return batch


def _pinned(levels: Levels) -> Levels:
    """In memory from which a copy to the device runs beside this program."""

    def pin(tensor: Tensor) -> Tensor:
        # An empty tensor has nothing to pin.
        return tensor.pin_memory() if len(tensor) else tensor

    return replace(
        levels,
        levels_A=pin(levels.levels_A),
        levels_B=pin(levels.levels_B),
        mirrored_A=pin(levels.mirrored_A),
        mirrored_B=pin(levels.mirrored_B),
    )


def _transfer(levels: Levels, device: torch.device) -> Batch:
    """On the device as the networks want it; on CUDA without waiting for the copy."""
    behind = device.type == "cuda"

    def images(levels: Tensor, mirrored: Tensor) -> Tensor:
        if device.type == "cpu":
            return from_levels_here(levels, mirrored)
        levels = levels.to(device, non_blocking=behind)
        if len(mirrored):
            mirrored = mirrored.to(device, non_blocking=behind)
            levels = levels.index_put((mirrored,), levels.index_select(0, mirrored).flip(2))
        return from_levels(levels, memory_format=torch.contiguous_format)

    return Batch(
        images(levels.levels_A, levels.mirrored_A),
        images(levels.levels_B, levels.mirrored_B),
        levels.indices_A,
        levels.indices_B,
        levels.broken,
    )
