"""Where images are. A source is a folder with all its subfolders, a tar file, or a pattern of tar
files such as data/trainA-*.tar.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cyclegan.config.options import Direction
from cyclegan.config.train_options import Preprocess
from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.files.tar_index import (
    COMPRESSED_SUFFIXES,
    TAR_SUFFIX,
    read_indices,
    refuse_compressed,
)


@dataclass(frozen=True)
class ScanResult:
    """The images of a source, and the problems of its tar files."""

    files: list[ImageFile]
    problems: dict[Path, str]


@dataclass(frozen=True)
class DataSources:
    """Where a run has its images, and what images it can use: options of the same names, which
    `TrainSettings.data_options` collects.
    """

    dataroot: Path | None = None
    dir_A: Path | None = None
    dir_B: Path | None = None
    direction: Direction = "AtoB"
    max_dataset_size: int | None = None
    # The folder of the cache, if not beside the images, and whether tar indices are kept there.
    cache_dir: Path | None = None
    keep_index: bool = True
    preprocess: Preprocess = "resize_and_crop"
    crop_size: int = 256
    scale: int = 1

    def find(self, phase: str, domain: str) -> Path | None:
        """The source of domain A or B for the phase train or test, if there is any."""
        return next(iter(self.candidates(phase, domain)), None)

    def candidates(self, phase: str, domain: str) -> list[Path]:
        """The source of a domain, followed by others that go by the same name. Raises UserError if
        there are only compressed tar files.
        """
        letter = self.letter(domain)
        given = self.dir_A if letter == "A" else self.dir_B
        if phase == "train" and given is not None:
            return [given]
        if self.dataroot is None:
            return []
        names = (f"{phase}{letter}", letter if phase == "train" else f"val{letter}")
        found = filter(None, (_find_sources(self.dataroot, name) for name in names))
        return next(found, None) or _refuse_compressed_sources(self.dataroot, names)

    def letter(self, domain: str) -> str:
        """The letter of a domain in folders and options: --direction BtoA exchanges the two."""
        return domain if self.direction == "AtoB" else {"A": "B", "B": "A"}[domain]

    def scan(self, source: Path) -> ScanResult:
        """All images of a source, readable or not."""
        index_dir = cache_folder(source, self.cache_dir) if self.keep_index else None
        return scan_source(source, index_dir=index_dir)


def find_images(folder: Path) -> list[Path]:
    """All image files under a folder, sorted, without hidden files and folders."""
    return walk_files(folder, tuple(SUFFIXES))


def scan_source(source: Path, *, index_dir: Path | None) -> ScanResult:
    """All images of a source, in which a tar file counts as a folder; `index_dir` keeps the indices
    of large tar files. Raises UserError for compressed tar files.
    """
    paths = _list_source(source)
    for path in paths:
        refuse_compressed(path)
    shards = [path for path in paths if path.suffix.lower() == TAR_SUFFIX]
    indices = dict(zip(shards, read_indices(shards, index_dir=index_dir), strict=True))
    files: list[ImageFile] = []
    for path in paths:
        files += indices[path].members if path in indices else [path]
    return ScanResult(files, {path: i.problem for path, i in indices.items() if i.problem})


def source_exists(source: Path) -> bool:
    return source.is_dir() or bool(_list_source(source))


def source_dir(source: Path) -> Path:
    """The folder that a source is or lies in."""
    return source if source.is_dir() else source.parent


def cache_folder(source: Path, cache_dir: Path | None) -> Path:
    """The folder for decoded images and the indices of tar files, beside the images by default."""
    return cache_dir or source_dir(source) / ".cyclegan-cache"


def walk_files(folder: Path, suffixes: tuple[str, ...] = ("",)) -> list[Path]:
    """All files under a folder with one of the suffixes, sorted, without hidden files and folders.
    Links are followed, but no folder is entered twice. Raises OSError if a folder cannot be read.
    """
    found: list[Path] = []
    visited: set[Path] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        real = Path(parent).resolve()
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        # Sorted, so that of two links to one folder every machine follows the same.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def unique_stems(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Each file's path in the folder without its suffix, which stays if two files share a stem."""
    names = [path.relative_to(folder) for path in files]
    stems = [name.with_suffix("") for name in names]
    counts = Counter([*stems, *names])
    return [stem if counts[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]


def _find_sources(root: Path, name: str) -> list[Path]:
    """A folder, a tar file, or tar files numbered as webdataset does, whichever exist."""
    patterns = (name, f"{name}{TAR_SUFFIX}", f"{name}-*{TAR_SUFFIX}")
    return [root / pattern for pattern in patterns if source_exists(root / pattern)]


def _refuse_compressed_sources(root: Path, names: Sequence[str]) -> list[Path]:
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(tuple(name + end for name in names for end in ".-")):
            refuse_compressed(path)
    return []


def _list_source(source: Path) -> list[Path]:
    """The images and tar files of a source."""
    if source.is_dir():
        return walk_files(source, (*SUFFIXES, TAR_SUFFIX, *COMPRESSED_SUFFIXES))
    if not source.name.lower().endswith((TAR_SUFFIX, *COMPRESSED_SUFFIXES)):
        return []
    if source.is_file():
        return [source]
    return sorted(path for path in source.parent.glob(source.name) if path.is_file())


def _raise(error: OSError) -> NoReturn:
    raise error
