"""The bytes of image files, be they files of their own or members of tar files, from a drive that
may be away for a moment.
"""

import errno
import io
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

# Seconds between two attempts to read.
WAITS = (0.1, 0.4, 1.6)

# After so many files in a row that did not come back, the drive is gone and nothing is waited for:
# to wait for each of a million files would take weeks.
MOST_LOST = 8

# Bytes that are read at once; who decodes a larger file should not hold it in memory as well.
LARGEST_WHOLE = 2**26

# Far below the number of files that a process may have open.
MOST_SHARDS_OPEN = 128

# What a network drive says that will be back. Not every system knows all of them.
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EINTR", "ESTALE", "EREMOTEIO", "ENOLINK", "ECOMM"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENOTCONN", "ESHUTDOWN", "EPIPE"),
    )
    if hasattr(errno, name)
)


@dataclass(frozen=True)
class Shard:
    """A tar file as it was when its members were found."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a tar file, read from its place there: nothing is unpacked."""

    shard: Shard
    inside: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard.path}!{self.inside}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.inside).name

    @property
    def parent(self) -> Path:
        return self.shard.path


ImageFile = Path | Member


class Patience:
    """Waits for a drive that is away: before each new attempt a little longer, and not at all for a
    drive that has failed so many files in a row that it must be gone for good.
    """

    def __init__(self) -> None:
        self.lost = 0

    def keep_trying(self, read: Callable[[], T]) -> T:
        """What `read` gives; raises its OSError where waiting does not help."""
        waits = iter(WAITS if self.lost < MOST_LOST else ())
        while True:
            try:
                result = read()
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                wait = next(waits, None)
                if wait is None:
                    self.lost += 1
                    raise
                time.sleep(wait)
            else:
                self.lost = 0
                return result


def open_file(
    file: ImageFile, patience: Patience | None = None, *, whole: bool = False
) -> BinaryIO:
    """The file's bytes, with waits and new attempts where the drive fails for a moment.

    whole: read at once, which is faster, unless they are very many. Raises OSError, or ValueError
    for a member whose tar file ends before it does or has changed.
    """
    content = _Bytes(file, patience or Patience())
    stream = io.BufferedReader(content)
    if not whole or content.size > LARGEST_WHOLE:
        return stream
    with stream:
        return io.BytesIO(stream.read(content.size))


def size_of(file: ImageFile, patience: Patience | None = None) -> int:
    """In bytes; raises OSError."""
    if isinstance(file, Member):
        return file.size
    return (patience or Patience()).keep_trying(file.stat).st_size


class _Descriptor:
    """An open file, closed when nobody is left who may read from it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class _Bytes(io.RawIOBase):
    """A file, or its part that a member is; opened anew after an error, as a handle may be stale.

    Always reads at a given place, so that threads and forked processes may share a descriptor.
    """

    def __init__(self, file: ImageFile, patience: Patience) -> None:
        if isinstance(file, Member) and file.offset + file.size > file.shard.size:
            raise ValueError("cut short, as is its tar file")
        self._file = file
        self._patience = patience
        self._start = file.offset if isinstance(file, Member) else 0
        self._place = 0
        self._descriptor: _Descriptor | None = None
        found = patience.keep_trying(lambda: os.fstat(self._number()).st_size)
        self.size = file.size if isinstance(file, Member) else found

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the file's beginning")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        count = min(len(view), max(0, self.size - self._place))
        data = self._patience.keep_trying(lambda: self._read_at(count))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._descriptor = None
        super().close()

    def _read_at(self, count: int) -> bytes:
        try:
            return os.pread(self._number(), count, self._start + self._place)
        except OSError:
            self._descriptor = None
            if isinstance(self._file, Member):
                _open_shard.cache_clear()
            raise

    def _number(self) -> int:
        self._descriptor = self._descriptor or self._open()
        return self._descriptor.number

    def _open(self) -> _Descriptor:
        if isinstance(self._file, Member):
            return _open_shard(self._file.shard)
        # Of a pipe, not to wait for somebody who writes to it.
        descriptor = _Descriptor(os.open(self._file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
        if not stat.S_ISREG(os.fstat(descriptor.number).st_mode):
            raise ValueError("not a file")
        return descriptor


# To open a shard for each of its images takes nearly as long as to read a header there. A process
# that is spawned begins with none open; one that is forked reads from those of its parent.
@lru_cache(MOST_SHARDS_OPEN)
def _open_shard(shard: Shard) -> _Descriptor:
    descriptor = _Descriptor(os.open(shard.path, os.O_RDONLY))
    now = os.fstat(descriptor.number)
    if (now.st_size, now.st_mtime_ns) != (shard.size, shard.mtime_ns):
        raise ValueError("its tar file has changed since the run began")
    return descriptor
