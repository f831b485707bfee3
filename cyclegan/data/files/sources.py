"""Where images are: in a folder and those below it, in tar files there, or in tar files alone.

A place is a folder, a tar file, or a pattern of several such as data/trainA-*.tar.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.files.tar_index import (
    COMPRESSED,
    SUFFIX,
    read_indices,
    refuse_compressed,
)

# The folder beside the images where decoded images and indices of tar files are kept.
CACHE_FOLDER = ".cyclegan-cache"


@dataclass(frozen=True)
class Found:
    """The images of a place, and what is wrong with tar files there."""

    files: list[ImageFile]
    problems: dict[Path, str]


def find_images(folder: Path) -> list[Path]:
    """All image files under a folder, sorted, but hidden ones (also in hidden folders).

    Links to folders are followed, loops are not. Raises OSError where a folder cannot be read.
    """
    return _walk(folder, tuple(SUFFIXES))


def find_files(place: Path, *, keep: Path | None) -> Found:
    """All images of a place, those of a tar file as if it were a folder of that name.

    keep: a folder for the indices of large tar files. Raises UserError for compressed ones.
    """
    paths = _paths(place)
    for path in paths:
        refuse_compressed(path)
    shards = [path for path in paths if _is_shard(path)]
    indices = dict(zip(shards, read_indices(shards, keep=keep), strict=True))
    files: list[ImageFile] = []
    for path in paths:
        files += indices[path].members if path in indices else [path]
    return Found(files, {path: i.problem for path, i in indices.items() if i.problem})


def is_place(place: Path) -> bool:
    """Whether there is such a folder or tar file, or any tar file of such a pattern."""
    return place.is_dir() or bool(_paths(place))


def places_of(root: Path, name: str) -> list[Path]:
    """What a folder has for a domain of this name: a folder, a tar file, or tar files counted up as
    webdataset writes them.
    """
    ways = (name, f"{name}{SUFFIX}", f"{name}-*{SUFFIX}")
    return [root / way for way in ways if is_place(root / way)]


def compressed_of(root: Path, name: str) -> list[Path]:
    """The same tar files, but compressed, so that they are of no use."""
    return [
        path
        for path in (sorted(root.iterdir()) if root.is_dir() else [])
        if path.name.startswith((f"{name}.", f"{name}-")) and path.name.endswith(COMPRESSED)
    ]


def home(place: Path) -> Path:
    """The folder that a place is or lies in."""
    return place if place.is_dir() else place.parent


def _paths(place: Path) -> list[Path]:
    if place.is_dir():
        return _walk(place, (*SUFFIXES, SUFFIX, *COMPRESSED))
    if not place.name.lower().endswith((SUFFIX, *COMPRESSED)):
        return []
    if place.is_file():
        return [place]
    return sorted(path for path in place.parent.glob(place.name) if path.is_file())


def _walk(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # In order, so that of two links to one folder the same is followed on every machine.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in names
            if name.lower().endswith(endings) and not name.startswith(".")
        ]
    return sorted(found)


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def _raise(error: OSError) -> NoReturn:
    raise error
