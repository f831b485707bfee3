"""Translates image files: reading and writing run on threads beside the translation."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import (
    SUFFIXES,
    UnreadableImage,
    image_size,
    read_image,
    save_image,
)
from cyclegan.data.files.sources import find_images
from cyclegan.networks.execution import Size

Translate = Callable[[Sequence[Image.Image]], list[Image.Image]]
# From the number of images of each size (width, height) to the batch size for each.
BatchSizes = Callable[[Mapping[Size, int]], Mapping[Size, int]]


@dataclass(frozen=True)
class TranslationJob:
    source: Path
    target: Path


@dataclass(frozen=True)
class TranslationResult:
    """`problem` says in a few words why the job failed; None if its target is written."""

    job: TranslationJob
    problem: str | None = None


# A job with its image, or with the reason why it could not be read.
_Read = tuple[TranslationJob, Image.Image | str]


def find_jobs(source: Path, output: Path) -> list[TranslationJob]:
    """A job for each image of a file or folder; targets keep the names and subfolders.

    The output for a single file may also be a file. Raises UserError if there is nothing to
    translate, or if a target would replace its source or lie outside the output folder.
    """
    if source.is_file():
        as_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
        # A format that is not written becomes PNG.
        name = source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png"
        jobs = [TranslationJob(source, output if as_file else output / name)]
    elif source.is_dir():
        if output.is_file():
            raise UserError(f"--output {output} is a file, but --input a folder: name a folder")
        real_output, real_source = _real(output), _real(source)
        jobs = [
            TranslationJob(path, output / path.relative_to(source))
            for path in find_images(source)
            if real_source == real_output or real_output not in _real(path).parents
        ]
    else:
        raise UserError(f"--input {source} is not there: check the path")
    if not jobs:
        raise UserError(f"--input {source} holds no images ({', '.join(sorted(SUFFIXES))})")
    for job in jobs:
        if _real(job.target) == _real(job.source):
            raise UserError(f"--output {output} would overwrite the input: choose another folder")
    if source.is_dir():
        refuse_outside(output, [job.target for job in jobs])
    return jobs


def refuse_outside(output: Path, targets: Iterable[Path]) -> None:
    """Raises UserError if a link leads the folder of a target out of the output folder. A target
    that is itself a link is replaced, not followed.
    """
    real_output = _real(output)
    for folder in {target.parent for target in targets}:
        if not _real(folder).is_relative_to(real_output):
            raise UserError(
                f"--output {output}: {folder} leads out of it, to {_real(folder)}: "
                "remove that link, or choose another folder"
            )


def unfinished(jobs: Iterable[TranslationJob], *, since: float = 0.0) -> list[TranslationJob]:
    """The jobs whose target is missing, or older than its source or than `since` (the time in
    seconds since the epoch at which the weights were written).
    """
    return [job for job in jobs if _time(job.target) < max(since, _time(job.source), 1.0)]


def translate_files(
    translate: Translate,
    jobs: Sequence[TranslationJob],
    *,
    batch_size: int | BatchSizes,
    num_threads: int,
) -> Iterator[TranslationResult]:
    """Translates in batches of one image size, and yields each result once its file is written.

    At most a batch, or an image for each thread, waits to be written. An image that cannot be read
    or does not fit into memory gives a result with a problem; raises OSError if a write fails.
    """
    num_threads = limit = max(1, num_threads)
    unwritten: deque[tuple[TranslationResult, Future[None]]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        batches = _batches(jobs, list(pool.map(_size, jobs)), batch_size)
        for batch in _read_ahead(pool, batches, num_images=num_threads):
            for group in _by_size(batch):
                limit = max(limit, len(group))
                while len(unwritten) > limit or (unwritten and unwritten[0][1].done()):
                    yield _written(*unwritten.popleft())
                unwritten.extend(_translated(translate, group, pool))
        while unwritten:
            yield _written(*unwritten.popleft())
    finally:
        # After an error or Ctrl-C, writes in progress are finished and no other is begun.
        pool.shutdown(cancel_futures=True)


def _written(result: TranslationResult, writing: Future[None]) -> TranslationResult:
    writing.result()
    return result


def _batches(
    jobs: Sequence[TranslationJob], sizes: Sequence[Size | None], batch_size: int | BatchSizes
) -> Iterator[list[TranslationJob]]:
    """Jobs of one size together; those of unknown size one by one."""
    counts = Counter(size for size in sizes if size)
    by_size: Mapping[Size, int] = (
        dict.fromkeys(counts, batch_size) if isinstance(batch_size, int) else batch_size(counts)
    )
    pairs = sorted(zip(jobs, sizes, strict=True), key=lambda pair: str(pair[1]))
    for size, group in groupby(pairs, key=lambda pair: pair[1]):
        same = [job for job, _ in group]
        step = by_size[size] if size else 1
        yield from (same[i : i + step] for i in range(0, len(same), step))


def _read_ahead(
    pool: ThreadPoolExecutor, batches: Iterable[list[TranslationJob]], *, num_images: int
) -> Iterator[list[_Read]]:
    """Each batch with its images, while the next batch and at least `num_images` are read."""
    waiting: deque[list[Future[_Read]]] = deque()
    for batch in batches:
        waiting.append([pool.submit(_read, job) for job in batch])
        if sum(map(len, waiting)) - len(waiting[0]) >= num_images:
            yield [reading.result() for reading in waiting.popleft()]
    for batch_reading in waiting:
        yield [reading.result() for reading in batch_reading]


def _by_size(batch: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Usually one group; but the size in a file's header may differ from its image's."""

    def size(pair: _Read) -> Size:
        return pair[1].size if isinstance(pair[1], Image.Image) else (0, 0)

    for _, group in groupby(sorted(batch, key=size), key=size):
        yield list(group)


def _translated(
    translate: Translate, group: Sequence[_Read], pool: ThreadPoolExecutor
) -> Iterator[tuple[TranslationResult, Future[None]]]:
    """The results for images of one size, or for unreadable ones, with the writes in progress."""
    images = [image for _, image in group if isinstance(image, Image.Image)]
    unread = [problem for _, problem in group if isinstance(problem, str)]
    outputs = _within_memory(translate, images) if images else unread
    for (job, _), output in zip(group, outputs, strict=True):
        if isinstance(output, str):
            nothing: Future[None] = Future()
            nothing.set_result(None)
            yield TranslationResult(job, output), nothing
        else:
            yield TranslationResult(job), pool.submit(save_image, output, job.target)


def _within_memory(
    translate: Translate, images: Sequence[Image.Image]
) -> Sequence[Image.Image | str]:
    """Translates a batch, or its halves if it is too large; a problem for an image that alone is
    too large.
    """
    try:
        return translate(images)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
    # After the handler, as the error's frames hold memory.
    torch.cuda.empty_cache()
    if len(images) == 1:
        size = f"{images[0].width}x{images[0].height} px"
        return [f"{size} do not fit into memory: use a smaller image, or --device cpu"]
    half = len(images) // 2
    return [
        output
        for part in (images[:half], images[half:])
        for output in _within_memory(translate, part)
    ]


def _read(job: TranslationJob) -> _Read:
    try:
        return job, read_image(job.source)
    except UnreadableImage as error:
        return job, str(error)


def _size(job: TranslationJob) -> Size | None:
    try:
        return image_size(job.source)
    except UnreadableImage:
        return None


def _real(path: Path) -> Path:
    """The path without links; unlike Path.resolve, it raises nothing for a link to itself."""
    return Path(os.path.realpath(path))


def _time(path: Path) -> float:
    """When the file was last written; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
