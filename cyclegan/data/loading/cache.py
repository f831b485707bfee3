"""Images decoded and resized once: in memory, or in a file that the next run maps again.

A file holds the pixels of all images one after the other, an index as JSON, and a tail of fixed
length: a mark, the index's length and its CRC-32. Its name is made of hashes of the folder, of
what resizes the images, and of all files' paths, sizes and times, so that a file is never wrong,
only damaged, missing or no longer wanted. A build replaces the files of an earlier state of the
same folder, resized the same way, and no others.
"""

import hashlib
import json
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
import PIL

from cyclegan.data.files.reading import ImageFile, Member, Patience
from cyclegan.data.files.sources import home
from cyclegan.data.loading.dataset import decode
from cyclegan.data.loading.transforms import Preparation

_VERSION = 2
_MARK = b"cyclegan"
_TAIL = struct.Struct("<8sQI")
_SUFFIX = ".images"
# A build that stopped half-way leaves its file behind; one so old is nobody's any more.
_ABANDONED_SECONDS = 24 * 3600


class MappedImages(Sequence[np.ndarray | str]):
    """The images of a cache file, as views of the file; raises ValueError for a damaged one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        index, length = _read_index(path)
        self.shapes = [(height, width, 3) for height, width in index["sizes"]]
        self.broken = {int(place): str(why) for place, why in index["broken"].items()}
        self.ends = list(accumulate(prod(shape) for shape in self.shapes))
        if not self.ends or self.ends[-1] != length:
            raise ValueError(f"{path} does not hold the pixels of its index")
        self.checksums = index["checksums"]
        # As a plain array, whose slices cost a tenth of a memmap's; of no pixels there is no map.
        self.pixels = np.asarray(np.memmap(path, np.uint8, "r", shape=length)) if length else None

    def check(self) -> None:
        """Reads all pixels, by all cores; raises ValueError where they are not what was written."""
        good = [place for place in range(len(self)) if place not in self.broken]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda place: zlib.crc32(self._pixels(place).data), good)
        if list(found) != [self.checksums[place] for place in good]:
            raise ValueError(f"{self.path} holds other pixels than were written")

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, place: int) -> np.ndarray | str:  # type: ignore[override]
        return self.broken[place] if place in self.broken else self._pixels(place)

    def _pixels(self, place: int) -> np.ndarray:
        shape, end = self.shapes[place], self.ends[place]
        assert self.pixels is not None
        return self.pixels[end - prod(shape) : end].reshape(shape)


def decode_all(files: Iterable[ImageFile], prepare: Preparation) -> Iterator[np.ndarray | str]:
    """What `decode` makes of each file, in order, by all cores, a few files ahead."""
    cores = os.cpu_count() or 1
    waiting: deque[Future[np.ndarray | str]] = deque()
    patience = Patience()
    # Threads: Pillow lets the others run while it decodes and resizes.
    with ThreadPoolExecutor(cores) as pool:
        for file in files:
            waiting.append(pool.submit(decode, file, prepare, patience))
            if len(waiting) > 4 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def cache_path(place: Path, folder: Path, files: Sequence[ImageFile], prepare: Preparation) -> Path:
    """The file in `place` for these files of `folder`, resized so: another if any has changed."""
    # Another Pillow may decode or resize a little differently.
    resizing = _hash([_VERSION, PIL.__version__, *prepare.resizing])
    base, patience = home(folder), Patience()
    content = _hash([_state(file, base, patience) for file in files])
    return place / f"{_hash([str(folder.resolve())])}-{resizing}-{content}{_SUFFIX}"


def open_cache(path: Path, files: Sequence[ImageFile], prepare: Preparation) -> MappedImages | None:
    """The cache file, if it is there, whole, and none of the files it calls broken reads now."""
    try:
        images = MappedImages(path)
        images.check()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(images) != len(files):
        return None
    patience = Patience()
    again = (decode(files[place], prepare, patience) for place in images.broken)
    mended = any(not isinstance(levels, str) for levels in again)
    return None if mended else images


def write_cache(path: Path, images: Iterable[np.ndarray | str]) -> MappedImages:
    """Writes the file whole or not at all, whoever else may be writing it; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            _write(file, images)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _remove_older(path)
    return MappedImages(path)


def _write(file: BinaryIO, images: Iterable[np.ndarray | str]) -> None:
    sizes: list[tuple[int, int]] = []
    checksums: list[int] = []
    broken: dict[int, str] = {}
    for levels in images:
        if isinstance(levels, str):
            broken[len(sizes)] = levels
            sizes.append((0, 0))
            checksums.append(0)
        else:
            pixels = np.ascontiguousarray(levels).data
            file.write(pixels)
            sizes.append((levels.shape[0], levels.shape[1]))
            checksums.append(zlib.crc32(pixels))
    index = json.dumps({"sizes": sizes, "checksums": checksums, "broken": broken}).encode()
    file.write(index)
    file.write(_TAIL.pack(_MARK, len(index), zlib.crc32(index)))


def _read_index(path: Path) -> tuple[dict[str, Any], int]:
    """The index, and how many bytes of pixels lie before it."""
    with path.open("rb") as file:
        whole = file.seek(0, os.SEEK_END)
        file.seek(max(0, whole - _TAIL.size))
        tail = file.read()
        if len(tail) != _TAIL.size:
            raise ValueError(f"{path} is too short")
        mark, length, checksum = _TAIL.unpack(tail)
        pixels = whole - _TAIL.size - length
        if mark != _MARK or pixels < 0:
            raise ValueError(f"{path} does not end as it should")
        file.seek(pixels)
        index = file.read(length)
    if zlib.crc32(index) != checksum:
        raise ValueError(f"{path} has a damaged index")
    return json.loads(index), pixels


def _remove_older(path: Path) -> None:
    """Removes files of the same folder, resized the same way, in a state it is no longer in."""
    same = path.stem.rpartition("-")[0]
    for other in (*path.parent.glob(f"{same}-*{_SUFFIX}"), *path.parent.glob(f".{same}-*.partial")):
        try:
            alive = time.time() - other.stat().st_mtime < _ABANDONED_SECONDS
            if other != path and not (other.suffix == ".partial" and alive):
                other.unlink()
        except OSError:
            # Gone already, or in use where files in use cannot be removed: it costs only room.
            continue


def _state(file: ImageFile, folder: Path, patience: Patience) -> tuple[str, int, int]:
    if isinstance(file, Member):
        shard = file.shard
        return f"{shard.path.relative_to(folder)}!{file.inside}", shard.size, shard.mtime_ns
    name = str(file.relative_to(folder))
    try:
        stat = patience.keep_trying(file.stat)
    except OSError:
        return name, 0, 0
    return name, stat.st_size, stat.st_mtime_ns


def _hash(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
