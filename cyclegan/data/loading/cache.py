"""Keeps images decoded and resized: in memory, or in a file that later runs map again.

A cache file holds the pixels of all images one after the other, an index as JSON, and a tail of
fixed length: a mark, the length of the index and its CRC-32. Its name is a hash of the source, the
resizing, and the paths, sizes and times of all image files, so that it is never out of date.
"""

import hashlib
import json
import logging
import os
import struct
import time
import warnings
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import PIL
from rich.console import Console
from rich.filesize import decimal
from rich.progress import track

from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import DomainImages
from cyclegan.data.files.reading import ImageFile, RetryPolicy, TarMember, replaced_file
from cyclegan.data.files.sources import cache_folder, source_dir
from cyclegan.data.loading.dataset import DecodedImages, UnpairedImages, decode
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.hardware.devices import disk_free, ram_free

logger = logging.getLogger(__name__)

Kind = Literal["ram", "disk", "off"]

# --cache auto keeps at most this much in memory: the system keeps files in memory too.
MAX_RAM_BYTES = 2 * 10**9

_VERSION = 2
_MARK = b"cyclegan"
_TAIL = struct.Struct("<8sQI")
_SUFFIX, _PARTIAL = ".images", ".partial"
# An unfinished file of this age was abandoned.
_ABANDONED_SECONDS = 24 * 3600


def with_cache(
    dataset: UnpairedImages,
    domains: tuple[DomainImages, DomainImages],
    *,
    cache: Kind | Literal["auto"],
    cache_dir: Path | None = None,
) -> UnpairedImages:
    """The dataset with its images decoded once, as --cache and --cache_dir ask, and a log line that
    tells where they are. Raises UserError if memory is too small for --cache ram.
    """
    caches = [
        _DomainCache(domain, transform, cache_folder(domain.source, cache_dir))
        for domain, transform in zip(domains, dataset.transforms, strict=True)
    ]
    # The decoding threads change the process's warning filters, which this restores.
    with warnings.catch_warnings():
        return replace(dataset, decoded=_decode(caches, cache))


def choose_cache(needed: int, ram_free: int, disk_free: int) -> Kind:
    """The cache for this many bytes of decoded images: memory, if they take at most 2 GB and a
    quarter of what is free; else the disk, if they take at most a quarter of what is free.
    """
    if needed <= min(MAX_RAM_BYTES, ram_free // 4):
        return "ram"
    return "disk" if needed <= disk_free // 4 else "off"


def map_images(path: Path, *, check: bool) -> list[np.ndarray | str]:
    """The images of a cache file, as views of the mapped file. Raises ValueError if the file is
    damaged; `check` compares the checksums of all images too.
    """
    index, length = _read_index(path)
    sizes = [(int(height), int(width)) for height, width in index["sizes"]]
    ends = list(accumulate(3 * height * width for height, width in sizes))
    if not sizes or min(map(min, sizes)) < 0 or ends[-1] != length:
        raise ValueError(f"{path} does not hold the pixels of its index")
    # Slices of a plain array cost a tenth of a memmap's. An empty file cannot be mapped.
    pixels = np.asarray(
        np.memmap(path, np.uint8, "r", shape=length) if length else np.empty(0, np.uint8)
    )
    images = [
        pixels[e - 3 * h * w : e].reshape(h, w, 3) for (h, w), e in zip(sizes, ends, strict=True)
    ]
    if check:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            checksums = list(pool.map(zlib.crc32, images))
        if checksums != index["checksums"]:
            raise ValueError(f"{path} holds other pixels than were written")
    broken = {int(place): str(why) for place, why in index["broken"].items()}
    return [broken.get(place, image) for place, image in enumerate(images)]


def decode_all(files: Iterable[ImageFile], transform: ImageTransform) -> Iterator[np.ndarray | str]:
    """The results of `decode` in order, computed by all cores a few files ahead."""
    cores = os.cpu_count() or 1
    pending: deque[Future[np.ndarray | str]] = deque()
    retry = RetryPolicy()
    # Threads, since Pillow releases the GIL while it decodes and resizes.
    with ThreadPoolExecutor(cores) as pool:
        for file in files:
            pending.append(pool.submit(decode, file, transform, retry))
            if len(pending) > 4 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def cache_path(
    folder: Path, source: Path, files: Sequence[ImageFile], transform: ImageTransform
) -> Path:
    """The file in `folder` for these files of a source in their present state, resized so."""
    # Another version of Pillow may decode or resize a little differently.
    resizing = _hash([_VERSION, PIL.__version__, *transform.cache_key])
    base, retry = source_dir(source), RetryPolicy()
    content = _hash([_state(file, base, retry) for file in files])
    return folder / f"{_hash([str(source.resolve())])}-{resizing}-{content}{_SUFFIX}"


def open_cache(
    path: Path, files: Sequence[ImageFile], transform: ImageTransform
) -> DecodedImages | None:
    """The cache file; None if it is missing or damaged, or a file it calls broken now decodes."""
    try:
        images = map_images(path, check=True)
        broken = [file for file, image in zip(files, images, strict=True) if isinstance(image, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    retry = RetryPolicy()
    return images if all(isinstance(decode(f, transform, retry), str) for f in broken) else None


def write_cache(path: Path, images: Iterable[np.ndarray | str]) -> DecodedImages:
    """Writes the file atomically, even if other processes do the same; raises OSError."""
    with replaced_file(path, _PARTIAL) as partial, partial.open("xb") as file:
        _write(file, images)
        file.flush()
        os.fsync(file.fileno())
    _remove_older(path)
    return map_images(path, check=False)


@dataclass(frozen=True)
class _DomainCache:
    """The images of one domain, and the folder of their cache file."""

    domain: DomainImages
    transform: ImageTransform
    folder: Path

    @property
    def num_bytes(self) -> int:
        """The size of the decoded images, as far as the headers of their files tell."""
        sizes = (self.transform.resized_size(*size) for size in self.domain.sizes)
        return sum(3 * width * height for width, height in sizes)

    @cached_property
    def path(self) -> Path:
        return cache_path(self.folder, self.domain.source, self.domain.files, self.transform)

    def map(self) -> DecodedImages:
        """The cache file, written if it is missing; raises OSError."""
        found = open_cache(self.path, self.domain.files, self.transform)
        if found is not None:
            return found
        # A folder that cannot be made raises its own error, before it is called full.
        self.folder.mkdir(parents=True, exist_ok=True)
        free = disk_free(self.folder)
        if self.num_bytes > free:
            raise OSError(f"{decimal(self.num_bytes)} needed, {decimal(free)} free")
        return write_cache(self.path, self.decode())

    def decode(self) -> Iterable[np.ndarray | str]:
        """All images, with a progress bar on a terminal."""
        console, files = Console(), self.domain.files
        return track(
            decode_all(files, self.transform),
            f"decoding {self.domain.source.name}",
            len(files),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )


def _decode(
    caches: Sequence[_DomainCache], cache: Kind | Literal["auto"]
) -> tuple[DecodedImages, DecodedImages] | None:
    needed = sum(each.num_bytes for each in caches)
    kind = _choose(caches, needed) if cache == "auto" else cache
    if kind == "disk":
        try:
            images_A, images_B = (each.map() for each in caches)
            folders = dict.fromkeys(str(each.folder) for each in caches)
            logger.info("cache: %s, %s", " and ".join(folders), decimal(needed))
            return images_A, images_B
        except OSError as error:
            why = error.strerror or error
            logger.warning("no cache in %s (%s): see --cache_dir", caches[0].folder, why)
            kind = choose_cache(needed, ram_free(), 0)
    if kind == "ram":
        if needed > ram_free():
            raise UserError(
                f"--cache ram: the decoded images take {decimal(needed)}, of memory "
                f"{decimal(ram_free())} are free: use --cache disk or --cache off"
            )
        decoded_A, decoded_B = (list(each.decode()) for each in caches)
        logger.info("images: decoded once, %s in memory", decimal(needed))
        return decoded_A, decoded_B
    if cache != "off":
        how = "decoded whenever they are drawn; kept decoded they would take"
        logger.info("images: %s %s", how, decimal(needed))
    return None


def _choose(caches: Sequence[_DomainCache], needed: int) -> Kind:
    if choose_cache(needed, ram_free(), 0) == "ram":
        return "ram"
    # The files of an earlier run count as free space, since they would be used again.
    written = sum(each.path.stat().st_size for each in caches if each.path.exists())
    return choose_cache(needed, 0, min(disk_free(each.folder) for each in caches) + written)


def _write(file: BinaryIO, images: Iterable[np.ndarray | str]) -> None:
    sizes: list[tuple[int, ...]] = []
    checksums: list[int] = []
    broken: dict[int, str] = {}
    for place, image in enumerate(images):
        if isinstance(image, str):
            broken[place], image = image, np.empty((0, 0, 3), np.uint8)
        pixels = np.ascontiguousarray(image)
        file.write(pixels.data)
        sizes.append(pixels.shape[:2])
        checksums.append(zlib.crc32(pixels.data))
    index = json.dumps({"sizes": sizes, "checksums": checksums, "broken": broken}).encode()
    file.write(index)
    file.write(_TAIL.pack(_MARK, len(index), zlib.crc32(index)))


def _read_index(path: Path) -> tuple[dict[str, Any], int]:
    """The index, and the number of bytes of pixels before it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL.size))
        tail = file.read()
        if len(tail) != _TAIL.size:
            raise ValueError(f"{path} is too short")
        mark, length, checksum = _TAIL.unpack(tail)
        pixels = size - _TAIL.size - length
        if mark != _MARK or pixels < 0:
            raise ValueError(f"{path} does not end as it should")
        file.seek(pixels)
        index = file.read(length)
    if zlib.crc32(index) != checksum:
        raise ValueError(f"{path} has a damaged index")
    return json.loads(index), pixels


def _remove_older(path: Path) -> None:
    """Removes the files of earlier states of the same source with the same resizing."""
    prefix = path.stem.rpartition("-")[0]
    for other in path.parent.glob(f"*{prefix}-*"):
        # An OSError means that the file is gone already, or in use: it costs only space.
        with suppress(OSError):
            abandoned = time.time() - other.stat().st_mtime > _ABANDONED_SECONDS
            suffixes = (_SUFFIX, _PARTIAL) if abandoned else (_SUFFIX,)
            if other != path and other.suffix in suffixes:
                other.unlink()


def _state(file: ImageFile, base: Path, retry: RetryPolicy) -> tuple[str, int, int]:
    if isinstance(file, TarMember):
        shard = file.shard
        return f"{shard.path.relative_to(base)}!{file.inner_path}", shard.size, shard.mtime_ns
    name = str(file.relative_to(base))
    try:
        status = retry.call(file.stat)
    except OSError:
        return name, 0, 0
    return name, status.st_size, status.st_mtime_ns


def _hash(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
