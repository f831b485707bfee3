"""Whole folders through a translator: an iterable of results that any command can show."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

import torch
from PIL import Image

from cyclegan.data.folders import find_images
from cyclegan.data.images import SUFFIXES, UnreadableImage, image_size, read_image, save_image
from cyclegan.errors import UserError

Translate = Callable[[Sequence[Image.Image]], list[Image.Image]]


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
    nothing to translate, or where a translation would take its own source's place.
    """
    if source.is_file():
        as_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
        jobs = [Job(source, output if as_file else output / _writable_name(source))]
    elif source.is_dir():
        if output.is_file():
            raise UserError(f"--output {output} is a file, but --input a folder: name a folder")
        inside = output.resolve()
        jobs = [
            Job(path, output / path.relative_to(source))
            for path in find_images(source)
            if source.resolve() == inside or inside not in path.resolve().parents
        ]
    else:
        raise UserError(f"--input {source} is not there: check the path")
    if not jobs:
        raise UserError(f"--input {source} holds no images ({', '.join(sorted(SUFFIXES))})")
    for job in jobs:
        if job.target.resolve() == job.source.resolve():
            raise UserError(f"--output {output} would overwrite the input: choose another folder")
    return jobs


def unfinished(jobs: Iterable[Job], *, since: float = 0.0) -> list[Job]:
    """Those whose target is not there, or was made of an earlier state of its source, or by weights
    older than `since` (in seconds of the epoch). Targets appear whole or not at all.
    """
    return [job for job in jobs if _time(job.target) < max(since, _time(job.source), 1.0)]


def translate_files(
    translate: Translate,
    jobs: Sequence[Job],
    *,
    batch_size: int,
    num_threads: int,
) -> Iterator[Result]:
    """Puts every job through `translate` (a Translator's `batch`), images of one size together,
    and gives each result as it is written.

    Reading and writing run on threads beside the translation. A file that cannot be read, or an
    image that is too large for the memory, is a result with a problem; a target that cannot be
    written raises OSError.
    """
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        sized = zip(jobs, pool.map(_size, jobs), strict=True)
        groups = sorted(sized, key=lambda pair: str(pair[1]))
        batches = chain.from_iterable(
            _chunks([job for job, _ in group], batch_size)
            for _, group in groupby(groups, key=lambda pair: pair[1])
        )
        for batch, images in _ahead(pool, batches):
            for pairs in _same_size(zip(batch, images, strict=True)):
                yield from _translate(translate, pairs, pool)


def _translate(
    translate: Translate, pairs: Sequence[tuple[Job, Image.Image | str]], pool: ThreadPoolExecutor
) -> Iterator[Result]:
    """Jobs with their images, all of one size, or with the reasons why they could not be read."""
    images = [image for _, image in pairs if isinstance(image, Image.Image)]
    if not images:
        yield from (Result(job, str(problem)) for job, problem in pairs)
        return
    try:
        fakes = translate(images)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        torch.cuda.empty_cache()
        yield from (Result(job, _too_large(images[0])) for job, _ in pairs)
        return
    jobs = [job for job, _ in pairs]
    written = [
        pool.submit(save_image, fake, job.target) for job, fake in zip(jobs, fakes, strict=True)
    ]
    for job, writing in zip(jobs, written, strict=True):
        writing.result()
        yield Result(job)


def _time(path: Path) -> float:
    """When the file was last written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _ahead(
    pool: ThreadPoolExecutor, batches: Iterable[list[Job]]
) -> Iterator[tuple[list[Job], list[Image.Image | str]]]:
    """Each batch with its images, the next batch being read meanwhile."""
    waiting: list[tuple[list[Job], list[Future[Image.Image | str]]]] = []
    for batch in batches:
        waiting.append((batch, [pool.submit(_read, job) for job in batch]))
        if len(waiting) > 1:
            jobs, images = waiting.pop(0)
            yield jobs, [image.result() for image in images]
    for jobs, images in waiting:
        yield jobs, [image.result() for image in images]


def _read(job: Job) -> Image.Image | str:
    try:
        return read_image(job.source)
    except UnreadableImage as error:
        return str(error)


def _size(job: Job) -> tuple[int, int] | None:
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
    remedy = "use a smaller --batch_size, a smaller image, or --device cpu"
    return f"{image.width}x{image.height} px do not fit into memory: {remedy}"


def _writable_name(source: Path) -> str:
    """The file's own name where its ending is one that is written, else with .png."""
    return source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png"
