"""Degrades a folder of photographs: which images are made of each, and where they are written."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import SUFFIXES, UnreadableImage, read_image, save_image
from cyclegan.data.files.sources import find_images, unique_stems
from cyclegan.networks.generators.bicubic import crop_to_multiple
from cyclegan.tools.degrade.classical import Degradation


class DegradeJob(NamedTuple):
    """A photograph and the paths of its small and its large image; None: not written. The name
    seeds the photograph's random numbers.
    """

    source: Path
    name: str
    small: Path | None
    large: Path | None


def find_jobs(
    folder: Path, small: Path, large: Path, *, unpaired: bool = False, seed: int = 0
) -> list[DegradeJob]:
    """Jobs for all photographs under a folder. The folders `small` and `large` get PNG files of the
    same subfolders and names.

    unpaired: a random half of the photographs gives small images, the rest large ones. Raises
    UserError if there are no photographs, or if one could be overwritten.
    """
    if not folder.is_dir():
        raise UserError(f"HR_FOLDER {folder} is not a folder: check the path")
    files = find_images(folder)
    _refuse_overlap(folder, files, small, large)
    if not files:
        raise UserError(f"HR_FOLDER {folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    if unpaired and len(files) < 2:
        raise UserError(f"--unpaired needs at least two photographs, and {folder} holds one")
    order = np.random.default_rng(seed).permutation(len(files))
    half = set(order[: len(files) // 2].tolist())
    targets = [stem.with_name(f"{stem.name}.png") for stem in unique_stems(folder, files)]
    return [
        DegradeJob(
            source=path,
            name=path.relative_to(folder).as_posix(),
            small=small / target if not unpaired or index in half else None,
            large=large / target if not unpaired or index not in half else None,
        )
        for index, (path, target) in enumerate(zip(files, targets, strict=True))
    ]


def degrade_files(
    jobs: Sequence[DegradeJob], degradation: Degradation, *, scale: int, seed: int, num_threads: int
) -> Iterator[str | None]:
    """Writes the images of all jobs on threads. Yields for each job, in order, the reason why its
    photograph cannot be used, or None. Raises OSError if a write fails.

    The large image is the photograph, cropped to a multiple of the scale.
    """

    def degrade(job: DegradeJob) -> str | None:
        try:
            image = crop_to_multiple(read_image(job.source), scale)
        except (UnreadableImage, ValueError) as error:
            return str(error)
        if job.large is not None:
            save_image(image, job.large)
        if job.small is not None:
            save_image(degradation(image, image_generator(seed, job.name)), job.small)
        return None

    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        yield from pool.map(degrade, jobs)


def refuse_filled(folders: Sequence[Path]) -> None:
    """Raises UserError if one of the output folders is not empty."""
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} is not empty: give another --output, or --overwrite to replace images "
                "of the same names"
            )


def image_generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one image, independent of the other images and of their order."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype="<u4").tolist()])


def _refuse_overlap(folder: Path, files: Sequence[Path], *targets: Path) -> None:
    """Raises UserError if output could replace photographs, or be read as such the next time."""
    source = folder.resolve()
    # A link may lead to a photograph outside of the folder.
    places = {source, *(path.resolve().parent for path in files)}
    for target in (target.resolve() for target in targets):
        inside = any(target == place or target in place.parents for place in places)
        if inside or source in target.parents:
            raise UserError(
                f"--output: {target} and the photographs in {source} lie in each other: "
                "choose an --output elsewhere"
            )
