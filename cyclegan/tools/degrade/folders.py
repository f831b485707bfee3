"""A folder of photographs through a degradation: what becomes of which file, and where it goes."""

import hashlib
import sys
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import find_images, stems
from cyclegan.data.files.images import (
    SUFFIXES,
    UnreadableImage,
    read_image,
    save_image,
)
from cyclegan.networks.generators.bicubic import cropped
from cyclegan.tools.degrade.classical import Degradation


@dataclass(frozen=True)
class Job:
    """One photograph, and where its small and its large image go; None: that is not wanted."""

    source: Path
    # Names the image's own stream of random numbers, whatever else is in the folder.
    name: str
    small: Path | None
    large: Path | None


@dataclass(frozen=True)
class Result:
    """What became of a job: `problem` says in a few words why it failed, or is None."""

    job: Job
    problem: str | None = None


def find_jobs(
    folder: Path, small: Path, large: Path, *, unpaired: bool = False, seed: int = 0
) -> list[Job]:
    """All photographs under a folder, with targets as PNG under `small` and `large` that keep
    sub-folders and names.

    unpaired: a random half is for the one, the rest for the other. Raises UserError where there are
    no photographs, or where an original could be replaced.
    """
    if not folder.is_dir():
        raise UserError(f"HR_FOLDER {folder} is not a folder: check the path")
    files = find_images(folder)
    _refuse_own_place(folder, files, small, large)
    if not files:
        raise UserError(f"HR_FOLDER {folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    if unpaired and len(files) < 2:
        raise UserError(f"--unpaired needs at least two photographs, and {folder} holds one")
    order = np.random.default_rng(seed).permutation(len(files))
    half = set(order[: len(files) // 2].tolist())
    targets = [place.with_name(f"{place.name}.png") for place in stems(folder, files)]
    return [
        Job(
            source=path,
            name=path.relative_to(folder).as_posix(),
            small=small / target if not unpaired or index in half else None,
            large=large / target if not unpaired or index not in half else None,
        )
        for index, (path, target) in enumerate(zip(files, targets, strict=True))
    ]


def degrade_files(
    jobs: Sequence[Job], degradation: Degradation, *, scale: int, seed: int, num_threads: int
) -> Iterator[Result]:
    """Puts every job through the degradation, on threads, and gives each result once it is written.

    The large image is the photograph cropped to a multiple of the scale. A photograph that cannot
    be read or is too small is a result with a problem; a target that cannot be written raises
    OSError.
    """

    def work(job: Job) -> Result:
        try:
            image = cropped(read_image(job.source), scale)
        except (UnreadableImage, ValueError) as error:
            return Result(job, str(error))
        if job.large is not None:
            save_image(image, job.large)
        if job.small is not None:
            save_image(degradation(image, random_stream(seed, job.name)), job.small)
        return Result(job)

    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        yield from pool.map(work, jobs)


def refuse_filled(folders: Sequence[Path]) -> None:
    """Raises UserError where a folder to write in is there and not empty."""
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds something already: give another --output, or --overwrite to "
                "replace images of the same names"
            )


def show(results: Iterator[Result], count: int, folders: Sequence[Path]) -> int:
    """Shows the progress, then what was written where and what was not; 1 where anything failed."""
    console = Console(highlight=False, soft_wrap=True)
    hidden = not console.is_terminal
    shown = track(results, "degrading", count, console=console, transient=True, disable=hidden)
    written: set[Path] = set()
    failed: dict[Path, str] = {}
    for result in shown:
        if result.problem is None:
            targets = result.job.small, result.job.large
            written |= {target for target in targets if target is not None}
        else:
            failed[result.job.source] = result.problem
    for folder in folders:
        console.print(_summary(folder, written), markup=False)
    for path, problem in failed.items():
        sys.stderr.write(f"not used: {path} ({problem})\n")
    return 1 if failed else 0


def random_stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one image, the same in whatever order or company it comes."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype="<u4").tolist()])


def _refuse_own_place(folder: Path, files: Sequence[Path], *targets: Path) -> None:
    """Written images must neither replace photographs nor be taken for some the next time."""
    source = folder.resolve()
    # A link to a photograph leads out of the folder.
    places = {source, *(path.resolve().parent for path in files)}
    for target in (target.resolve() for target in targets):
        inside = any(target == place or target in place.parents for place in places)
        if inside or source in target.parents:
            raise UserError(
                f"--output: {target} and the photographs in {source} lie in each other: "
                "choose an --output elsewhere"
            )


def _summary(folder: Path, written: Set[Path]) -> str:
    mine = sum(folder in path.parents for path in written)
    # What an earlier call left would not pair up with these, or would pair up where it must not.
    other = len(set(find_images(folder)) - written) if folder.is_dir() else 0
    return f"{mine} images written to {folder}" + (
        f", which holds {other} others from before" if other else ""
    )
