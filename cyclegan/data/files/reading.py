"""Reads image files and images in tar files, with retries for network drives; replaces files."""

import errno
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import BinaryIO, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

# Seconds between two attempts to read.
RETRY_WAITS = (0.1, 0.4, 1.6)

# Stop waiting after this many consecutive failures: the drive is considered lost.
MAX_CONSECUTIVE_FAILURES = 8

# A file of at most this many bytes is read at once; a larger one is decoded while it is read.
MAX_BUFFERED_BYTES = 2**26

# Far below the usual limit of open files per process.
MAX_OPEN_SHARDS = 128

# Errors of a network drive that may pass. Not every system knows all of them.
_TRANSIENT_NAMES = (
    "EIO EAGAIN EINTR ESTALE EREMOTEIO ENOLINK ECOMM ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETDOWN "
    "ENETUNREACH ENETRESET ECONNRESET ECONNABORTED ECONNREFUSED ENOTCONN ESHUTDOWN EPIPE"
)
_TRANSIENT = {getattr(errno, name, -1) for name in _TRANSIENT_NAMES.split()}


@dataclass(frozen=True)
class Shard:
    """A tar file in the state in which its members were found."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image in a tar file, read in place without unpacking."""

    shard: Shard
    inner_path: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard.path}!{self.inner_path}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.inner_path).name

    @property
    def parent(self) -> Path:
        return self.shard.path


ImageFile = Path | TarMember


class RetryPolicy:
    """Repeats a read that failed with a transient error, after growing waits. Shared by the reads
    of many files, it stops waiting once so many in a row have failed that the drive must be lost.
    """

    def __init__(self) -> None:
        self.consecutive_failures = 0

    def call(self, read: Callable[[], T]) -> T:
        """The result of `read`; raises its OSError if retrying does not help."""
        lost = self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
        waits = iter(() if lost else RETRY_WAITS)
        while True:
            try:
                result = read()
            except OSError as error:
                if error.errno not in _TRANSIENT:
                    raise
                if (wait := next(waits, None)) is None:
                    self.consecutive_failures += 1
                    raise
                time.sleep(wait)
            else:
                self.consecutive_failures = 0
                return result


def open_file(
    file: ImageFile, retry: RetryPolicy | None = None, *, whole: bool = False
) -> BinaryIO:
    """A seekable stream of the file's bytes, with retries.

    whole: read the file at once, which is faster, up to MAX_BUFFERED_BYTES. Raises OSError, or
    ValueError for a member whose tar file was cut short or has changed.
    """
    content = _Bytes(file, retry or RetryPolicy())
    stream = io.BufferedReader(content)
    if not whole or content.size > MAX_BUFFERED_BYTES:
        return stream
    with stream:
        return io.BytesIO(stream.read(content.size))


def size_of(file: ImageFile, retry: RetryPolicy | None = None) -> int:
    """The size in bytes; raises OSError."""
    if isinstance(file, TarMember):
        return file.size
    return (retry or RetryPolicy()).call(file.stat).st_size


@contextmanager
def replaced_file(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A hidden path in the same folder to write to, which atomically replaces `path` at the end.
    Its name is random, so that nobody can put a link there beforehand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{token_hex(8)}{suffix or path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Descriptor:
    """An open file, closed with the last reference to it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class _Bytes(io.RawIOBase):
    """A file, or the part of a tar file that a member is; reopened after an error, as a network
    file handle may be stale.

    It reads at explicit offsets, so that threads and forked processes can share a descriptor.
    """

    def __init__(self, file: ImageFile, retry: RetryPolicy) -> None:
        if isinstance(file, TarMember) and file.offset + file.size > file.shard.size:
            raise ValueError("cut short, as is its tar file")
        self._file = file
        self._retry = retry
        self._start = file.offset if isinstance(file, TarMember) else 0
        self._position = 0
        self._descriptor: _Descriptor | None = None
        size = retry.call(lambda: os.fstat(self._number()).st_size)
        self.size = file.size if isinstance(file, TarMember) else size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        count = min(len(view), max(0, self.size - self._position))
        data = self._retry.call(lambda: self._read(count))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._descriptor = None
        super().close()

    def _read(self, count: int) -> bytes:
        try:
            return os.pread(self._number(), count, self._start + self._position)
        except OSError:
            self._descriptor = None
            if isinstance(self._file, TarMember):
                _open_shard.cache_clear()
            raise

    def _number(self) -> int:
        self._descriptor = self._descriptor or _open(self._file)
        return self._descriptor.number


def _open(file: ImageFile) -> _Descriptor:
    if isinstance(file, TarMember):
        return _open_shard(file.shard)
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = _Descriptor(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
    if not stat.S_ISREG(os.fstat(descriptor.number).st_mode):
        raise ValueError("not a file")
    return descriptor


# Opening a shard takes nearly as long as reading a header from it. A forked process shares the
# descriptors of its parent; a spawned one starts with none.
@lru_cache(MAX_OPEN_SHARDS)
def _open_shard(shard: Shard) -> _Descriptor:
    descriptor = _Descriptor(os.open(shard.path, os.O_RDONLY))
    status = os.fstat(descriptor.number)
    if (status.st_size, status.st_mtime_ns) != (shard.size, shard.mtime_ns):
        raise ValueError("its tar file has changed since the run began")
    return descriptor
