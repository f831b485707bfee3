"""The images of a run, decoded once before it begins, and where they are kept."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import Domain
from cyclegan.data.files.sources import CACHE_FOLDER, home
from cyclegan.data.loading.cache import (
    cache_path,
    decode_all,
    open_cache,
    write_cache,
)
from cyclegan.data.loading.dataset import Decoded
from cyclegan.data.loading.transforms import Preparation
from cyclegan.hardware.devices import disk_free, ram_free

Say = Callable[[str], object]
Kind = Literal["ram", "disk", "off"]

# More than this in memory is for those who ask: the system keeps a file in memory as well.
LARGEST_IN_RAM = 2 * 10**9


@dataclass(frozen=True)
class _Job:
    """One domain to decode, and the folder of its cache file, were it on disk."""

    domain: Domain
    prepare: Preparation
    place: Path

    @property
    def needed(self) -> int:
        """Bytes of the decoded images, as far as the files' headers tell."""
        sizes = (self.prepare.resized(*size) for size in self.domain.sizes)
        return sum(3 * width * height for width, height in sizes)

    @cached_property
    def path(self) -> Path:
        return cache_path(self.place, self.domain.folder, self.domain.files, self.prepare)

    def decode(self) -> Iterator[np.ndarray | str]:
        """All images, with a bar where there is a terminal."""
        console = Console()
        files = self.domain.files
        return iter(
            track(
                decode_all(files, self.prepare),
                f"decoding {self.domain.folder.name}",
                len(files),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
        )


def choose_cache(needed: int, ram_free: int, disk_free: int) -> Kind:
    """Where so many bytes of decoded images go: memory, if they take no more than 2 GB and a
    quarter of what is free there; else the disk, if no more than a quarter of what is free.
    """
    if needed <= min(LARGEST_IN_RAM, ram_free // 4):
        return "ram"
    return "disk" if needed <= disk_free // 4 else "off"


def decode_once(
    domains: tuple[Domain, Domain],
    prepare: tuple[Preparation, Preparation],
    settings: TrainSettings,
    *,
    say: Say,
) -> tuple[Decoded, Decoded] | None:
    """The resized images of both domains by --cache, or None where each is to be decoded whenever
    it is drawn. Says in one line what was done; raises UserError for --cache ram without the room.
    """
    jobs = [
        _Job(domain, way, settings.cache_dir or home(domain.folder) / CACHE_FOLDER)
        for domain, way in zip(domains, prepare, strict=True)
    ]
    # Reading an image silences warnings for the process, which threads may leave so: undone here.
    with warnings.catch_warnings():
        return _decode(jobs, settings, say)


def _decode(
    jobs: Sequence[_Job], settings: TrainSettings, say: Say
) -> tuple[Decoded, Decoded] | None:
    needed = sum(job.needed for job in jobs)
    kind = _chosen(jobs, needed) if settings.cache == "auto" else settings.cache
    if kind == "disk":
        try:
            return _on_disk(jobs, needed, say)
        except OSError as error:
            say(
                f"warning: no cache in {jobs[0].place} ({error.strerror or error}): see --cache_dir"
            )
            kind = choose_cache(needed, ram_free(), 0)
    if kind == "ram":
        return _in_memory(jobs, needed, say)
    if settings.cache != "off":
        say(
            f"images: decoded whenever they are drawn; kept decoded they would take {_size(needed)}"
        )
    return None


def _chosen(jobs: Sequence[_Job], needed: int) -> Kind:
    if choose_cache(needed, ram_free(), 0) == "ram":
        return "ram"
    # With what the files of an earlier run take, so that they do not count against themselves.
    written = sum(job.path.stat().st_size for job in jobs if job.path.exists())
    return choose_cache(needed, 0, min(disk_free(job.place) for job in jobs) + written)


def _in_memory(jobs: Sequence[_Job], needed: int, say: Say) -> tuple[Decoded, Decoded]:
    if needed > ram_free():
        raise UserError(
            f"--cache ram: the decoded images take {_size(needed)}, of memory {_size(ram_free())} "
            "are free: use --cache disk or --cache off"
        )
    images_A, images_B = (list(job.decode()) for job in jobs)
    say(f"images: decoded once, {_size(needed)} in memory")
    return images_A, images_B


def _on_disk(jobs: Sequence[_Job], needed: int, say: Say) -> tuple[Decoded, Decoded]:
    images_A, images_B = (_mapped(job) for job in jobs)
    places = dict.fromkeys(str(job.place) for job in jobs)
    say(f"cache: {' and '.join(places)}, {_size(needed)}")
    return images_A, images_B


def _mapped(job: _Job) -> Decoded:
    found = open_cache(job.path, job.domain.files, job.prepare)
    if found is not None:
        return found
    # What cannot be written to says so by itself, and is not full.
    job.place.mkdir(parents=True, exist_ok=True)
    if job.needed > disk_free(job.place):
        raise OSError(f"{_size(job.needed)} needed, {_size(disk_free(job.place))} free")
    return write_cache(job.path, job.decode())


def _size(count: int) -> str:
    """14 kB, 152 MB, 1.2 GB."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
