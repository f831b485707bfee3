"""The images inside tar files: where each lies is found once, from the headers alone.

A tar file whose images can be read from their places needs no unpacking, and no shuffling buffer
either: the order of the images is the seed's, as it is of images in folders.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from uuid import uuid4

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import (
    Member,
    Patience,
    Shard,
    open_file,
)

SUFFIX = ".tar"

# From so many images on, reading an index takes less time than the shard's headers.
WORTH_KEEPING = 1000

_VERSION = 1
_BLOCK = tarfile.BLOCKSIZE
# The first bytes of a compressed file, its endings, and what undoes it.
_COMPRESSIONS = (
    (b"\x1f\x8b", (".tar.gz", ".tgz"), "gunzip"),
    (b"\x28\xb5\x2f\xfd", (".tar.zst", ".tzst"), "unzstd"),
    (b"BZh", (".tar.bz2", ".tbz2", ".tbz"), "bunzip2"),
    (b"\xfd7zXZ\0", (".tar.xz", ".txz"), "unxz"),
    (b"\x04\x22\x4d\x18", (".tar.lz4",), "unlz4"),
)
COMPRESSED = tuple(ending for _, endings, _ in _COMPRESSIONS for ending in endings)


@dataclass(frozen=True)
class Index:
    """The images of a tar file in the order of their names, and what is wrong with the file."""

    members: list[Member]
    problem: str | None = None


def read_indices(paths: Sequence[Path], *, keep: Path | None) -> list[Index]:
    """The index of each tar file; those of large ones are kept in the folder `keep`, if it can be
    written, for the next time. Raises UserError for a compressed one.
    """
    patience = Patience()
    # Threads: most of the time goes into waiting for the drive.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda path: _index(path, keep, patience), paths))


def refuse_compressed(path: Path) -> None:
    """Raises UserError for a name like x.tar.gz."""
    for _, endings, tool in _COMPRESSIONS:
        if path.name.lower().endswith(endings):
            raise _compressed(path, tool)


def _index(path: Path, keep: Path | None, patience: Patience) -> Index:
    try:
        stat = patience.keep_trying(path.stat)
        shard = Shard(path, stat.st_size, stat.st_mtime_ns)
        kept = _Kept(shard, keep) if keep else None
        found = kept.read() if kept else None
        if found is None:
            found = _look_through(shard, patience)
            if kept:
                kept.write(found)
        return found
    except OSError as error:
        return Index([], error.strerror or str(error))


def _look_through(shard: Shard, patience: Patience) -> Index:
    found: dict[str, Member] = {}
    with open_file(shard.path, patience) as stream:
        _refuse_compressed_content(shard.path, stream)
        problem = _collect(stream, shard, found)
    return Index([found[name] for name in sorted(found, key=_parts)], problem)


def _collect(stream: BinaryIO, shard: Shard, found: dict[str, Member]) -> str | None:
    """Adds the images by name, of two of one name the last, as unpacking would; says what is wrong
    with the tar file.
    """
    begun = False
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            begun = True
            while (info := tar.next()) is not None:
                # It would remember them all.
                tar.members = []  # type: ignore[attr-defined]
                name = "/".join(_parts(info.name))
                if info.isreg() and not info.issparse() and _is_image(name):
                    found[name] = Member(shard, name, info.offset_data, info.size)
            return _wrong_end(stream, tar.offset)
    except OSError:
        raise
    # Of a damaged header tarfile may raise anything.
    except Exception:
        return "cut short" if begun else "not a tar file" if shard.size else "empty file"


def _wrong_end(stream: BinaryIO, place: int) -> str | None:
    """Tarfile stops at what is no header without a word, be it the mark of the end or damage."""
    stream.seek(place)
    mark = stream.read(_BLOCK)
    if len(mark) < _BLOCK:
        return "cut short"
    return f"damaged at byte {place}" if any(mark) else None


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") and part != ".." for part in _parts(name))
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _refuse_compressed_content(path: Path, stream: BinaryIO) -> None:
    start = stream.read(8)
    stream.seek(0)
    for mark, _, tool in _COMPRESSIONS:
        if start.startswith(mark):
            raise _compressed(path, tool)


def _compressed(path: Path, tool: str) -> UserError:
    return UserError(
        f"{path} is compressed, so that no image can be read from its middle: decompress it "
        f"({tool}), or move it elsewhere"
    )


class _Kept:
    """An index as JSON in the folder `keep`, under a name made of the shard's path."""

    def __init__(self, shard: Shard, keep: Path) -> None:
        self.shard = shard
        path = str(shard.path.resolve())
        self.path = keep / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.index.json"
        self.state: list[Any] = [_VERSION, path, shard.size, shard.mtime_ns, sorted(SUFFIXES)]

    def read(self) -> Index | None:
        """None where there is none, or one of another state of the shard."""
        try:
            kept = json.loads(self.path.read_bytes())
            if kept["state"] != self.state:
                return None
            return Index(
                [Member(self.shard, str(name), int(o), int(s)) for name, o, s in kept["members"]]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, index: Index) -> None:
        """Of a whole and large shard; to a place that cannot be written, not at all."""
        if index.problem or len(index.members) < WORTH_KEEPING:
            return
        members = [(member.inside, member.offset, member.size) for member in index.members]
        partial = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        with suppress(OSError):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps({"state": self.state, "members": members}))
                partial.replace(self.path)
            finally:
                partial.unlink(missing_ok=True)
