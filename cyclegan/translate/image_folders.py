"""Whole folders through a translator: an iterable of results that any command can show."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import torch
from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import find_images
from cyclegan.data.files.images import (
    SUFFIXES,
    UnreadableImage,
    image_size,
    read_image,
    save_image,
)
from cyclegan.translate.compiled import Size

Translate = Callable[[Sequence[Image.Image]], list[Image.Image]]
# How many images of each size (width, height) go at once, of so many that there are.
BatchSizes = Callable[[Mapping[Size, int]], Mapping[Size, int]]


@dataclass(frozen=True)
class Job:
    """One image to translate: where it is, and where its translation goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Result:
    """What became of a job: `problem` says in a few words why it failed, or is None."""

    job: Job
    problem: str | None = None


def find_jobs(source: Path, output: Path) -> list[Job]:
    """The images of a file or folder, with targets under `output` that keep sub-folders and names.

    A single file may also be given a single file as its output. Raises UserError where there is
    nothing to translate, or where a translation would take its own source's place or leave the
    output folder.
    """
    if source.is_file():
        as_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
        jobs = [Job(source, output if as_file else output / _writable_name(source))]
    elif source.is_dir():
        if output.is_file():
            raise UserError(f"--output {output} is a file, but --input a folder: name a folder")
        inside, whole = _real(output), _real(source)
        jobs = [
            Job(path, output / path.relative_to(source))
            for path in find_images(source)
            if whole == inside or inside not in _real(path).parents
        ]
    else:
        raise UserError(f"--input {source} is not there: check the path")
    if not jobs:
        raise UserError(f"--input {source} holds no images ({', '.join(sorted(SUFFIXES))})")
    for job in jobs:
        if _real(job.target) == _real(job.source):
            raise UserError(f"--output {output} would overwrite the input: choose another folder")
    if source.is_dir():
        stay_inside(output, [job.target for job in jobs])
    return jobs


def stay_inside(output: Path, targets: Iterable[Path]) -> None:
    """Raises UserError where a link in the output folder leads a target's folder out of it. A
    target that is a link itself is harmless: it is replaced, not followed.
    """
    inside = _real(output)
    for folder in {target.parent for target in targets}:
        if not _real(folder).is_relative_to(inside):
            raise UserError(
                f"--output {output}: {folder} leads out of it, to {_real(folder)}: "
                "remove that link, or choose another folder"
            )


def unfinished(jobs: Iterable[Job], *, since: float = 0.0) -> list[Job]:
    """Those whose target is not there, or was made of an earlier state of its source, or by weights
    older than `since` (in seconds of the epoch). Targets appear whole or not at all.
    """
    return [job for job in jobs if _time(job.target) < max(since, _time(job.source), 1.0)]


def translate_files(
    translate: Translate,
    jobs: Sequence[Job],
    *,
    batch_size: int | BatchSizes,
    num_threads: int,
) -> Iterator[Result]:
    """Puts every job through `translate` (a Translator's `batch`), images of one size together,
    and gives each result once it is written, in the order of translation.

    Reading and writing run on threads beside the translation, which is never more than a batch,
    or an image for each thread, ahead of what is written. A file that cannot be read, or an image
    that is too large for the memory, is a result with a problem; a target that cannot be written
    raises OSError.
    """
    num_threads = bound = max(1, num_threads)
    unwritten: deque[tuple[Result, Future[None] | None]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        batches = _batches(jobs, list(pool.map(_size, jobs)), batch_size)
        for batch, images in _ahead(pool, batches, images=num_threads):
            for pairs in _same_size(zip(batch, images, strict=True)):
                bound = max(bound, len(pairs))
                while len(unwritten) > bound or _first_is_done(unwritten):
                    yield _finish(*unwritten.popleft())
                unwritten.extend(_translated(translate, pairs, pool))
        while unwritten:
            yield _finish(*unwritten.popleft())
    finally:
        # After an error or Ctrl-C what is being written is finished, and nothing begun any more.
        pool.shutdown(cancel_futures=True)


def _translated(
    translate: Translate, pairs: Sequence[tuple[Job, Image.Image | str]], pool: ThreadPoolExecutor
) -> Iterator[tuple[Result, Future[None] | None]]:
    """Jobs with their images, all of one size, or with the reasons why they could not be read; to
    results, with the writing that each waits for.
    """
    images = [image for _, image in pairs if isinstance(image, Image.Image)]
    fakes: Sequence[Image.Image | str] = (
        _within_memory(translate, images) if images else [str(problem) for _, problem in pairs]
    )
    for (job, _), fake in zip(pairs, fakes, strict=True):
        if isinstance(fake, str):
            yield Result(job, fake), None
        else:
            yield Result(job), pool.submit(save_image, fake, job.target)


def _within_memory(
    translate: Translate, images: Sequence[Image.Image]
) -> Sequence[Image.Image | str]:
    """Translated together, or else by halves; a problem for an image that alone is too large."""
    try:
        return translate(images)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
    # Past the handler: the error's frames hold memory.
    torch.cuda.empty_cache()
    if len(images) == 1:
        return [_too_large(images[0])]
    half = len(images) // 2
    parts = (images[:half], images[half:])
    return [fake for part in parts for fake in _within_memory(translate, part)]


def _first_is_done(unwritten: Sequence[tuple[Result, Future[None] | None]]) -> bool:
    if not unwritten:
        return False
    writing = unwritten[0][1]
    return writing is None or writing.done()


def _finish(result: Result, writing: Future[None] | None) -> Result:
    if writing is not None:
        writing.result()
    return result


def _real(path: Path) -> Path:
    """Where all links lead; unlike Path.resolve, a link to itself raises nothing."""
    return Path(os.path.realpath(path))


def _time(path: Path) -> float:
    """When the file was last written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _batches(
    jobs: Sequence[Job], sizes: Sequence[Size | None], batch_size: int | BatchSizes
) -> Iterator[list[Job]]:
    """Jobs of one size together; those whose size nobody knows, one by one."""
    counts = Counter(size for size in sizes if size)
    at_once = (
        dict.fromkeys(counts, batch_size) if isinstance(batch_size, int) else batch_size(counts)
    )
    pairs = sorted(zip(jobs, sizes, strict=True), key=lambda pair: str(pair[1]))
    for size, group in groupby(pairs, key=lambda pair: pair[1]):
        yield from _chunks([job for job, _ in group], at_once[size] if size else 1)


def _ahead(
    pool: ThreadPoolExecutor, batches: Iterable[list[Job]], *, images: int
) -> Iterator[tuple[list[Job], list[Image.Image | str]]]:
    """Each batch with its images, the next one, and at least so many images, being read
    meanwhile.
    """
    waiting: deque[tuple[list[Job], list[Future[Image.Image | str]]]] = deque()
    for batch in batches:
        waiting.append((batch, [pool.submit(_read, job) for job in batch]))
        if sum(len(jobs) for jobs, _ in waiting) - len(waiting[0][0]) >= images:
            jobs, reading = waiting.popleft()
            yield jobs, [image.result() for image in reading]
    for jobs, reading in waiting:
        yield jobs, [image.result() for image in reading]


def _read(job: Job) -> Image.Image | str:
    try:
        return read_image(job.source)
    except UnreadableImage as error:
        return str(error)


def _size(job: Job) -> Size | None:
    try:
        return image_size(job.source)
    except UnreadableImage:
        return None


def _same_size(
    pairs: Iterable[tuple[Job, Image.Image | str]],
) -> Iterator[list[tuple[Job, Image.Image | str]]]:
    """Usually all of them at once; but a file's header may tell another size than its picture."""

    def size(pair: tuple[Job, Image.Image | str]) -> tuple[int, int]:
        return pair[1].size if isinstance(pair[1], Image.Image) else (0, 0)

    for _, group in groupby(sorted(pairs, key=size), key=size):
        yield list(group)


def _chunks(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    remaining = iter(jobs)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _too_large(image: Image.Image) -> str:
    remedy = "use a smaller image, or --device cpu"
    return f"{image.width}x{image.height} px do not fit into memory: {remedy}"


def _writable_name(source: Path) -> str:
    """The file's own name where its ending is one that is written, else with .png."""
    return source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png"
