"""Finds the images inside tar files from the headers alone, so that each can be read in place: the
images need no unpacking, and can be shuffled like those of a folder.
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

from cyclegan.config.errors import UserError
from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import RetryPolicy, Shard, TarMember, open_file, replaced_file

TAR_SUFFIX = ".tar"

# Indices of at least this many images are kept: reading 10,000 headers takes 0.4 s on a local disk
# and a round trip each on a network drive, reading their index 0.01 s.
MIN_MEMBERS_TO_KEEP = 1000

_VERSION = 1
# The first bytes of a compressed file, its suffixes, and the tool that decompresses it.
_COMPRESSIONS = (
    (b"\x1f\x8b", (".tar.gz", ".tgz"), "gunzip"),
    (b"\x28\xb5\x2f\xfd", (".tar.zst", ".tzst"), "unzstd"),
    (b"BZh", (".tar.bz2", ".tbz2", ".tbz"), "bunzip2"),
    (b"\xfd7zXZ\0", (".tar.xz", ".txz"), "unxz"),
    (b"\x04\x22\x4d\x18", (".tar.lz4",), "unlz4"),
)
COMPRESSED_SUFFIXES = tuple(suffix for _, suffixes, _ in _COMPRESSIONS for suffix in suffixes)


@dataclass(frozen=True)
class TarIndex:
    """The images of a tar file, sorted by name, and what is wrong with the file."""

    members: list[TarMember]
    problem: str | None = None


def read_indices(paths: Sequence[Path], *, index_dir: Path | None) -> list[TarIndex]:
    """The index of each tar file. Indices of large files are kept in `index_dir`, if it can be
    written. Raises UserError for a compressed file.
    """
    retry = RetryPolicy()
    # Threads, since most of the time is spent waiting for the drive.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda path: _read_index(path, index_dir, retry), paths))


def refuse_compressed(path: Path, start: bytes = b"") -> None:
    """Raises UserError for a name like x.tar.gz, and for the first bytes of such a file."""
    for magic, suffixes, tool in _COMPRESSIONS:
        if path.name.lower().endswith(suffixes) or start.startswith(magic):
            raise UserError(
                f"{path} is compressed, so that no image can be read from its middle: decompress "
                f"it ({tool}), or move it elsewhere"
            )


def _read_index(path: Path, index_dir: Path | None, retry: RetryPolicy) -> TarIndex:
    try:
        status = retry.call(path.stat)
        shard = Shard(path, status.st_size, status.st_mtime_ns)
        if index_dir is None:
            return _scan_headers(shard, retry)
        name = str(path.resolve())
        kept = index_dir / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.index.json"
        state = [_VERSION, name, shard.size, shard.mtime_ns, sorted(SUFFIXES)]
        index = _load(kept, state, shard)
        if index is None:
            index = _scan_headers(shard, retry)
            if index.problem is None and len(index.members) >= MIN_MEMBERS_TO_KEEP:
                _save(kept, state, index)
        return index
    except OSError as error:
        return TarIndex([], error.strerror or str(error))


def _scan_headers(shard: Shard, retry: RetryPolicy) -> TarIndex:
    found: dict[str, TarMember] = {}
    with open_file(shard.path, retry) as stream:
        refuse_compressed(shard.path, stream.read(8))
        stream.seek(0)
        problem = _collect_members(stream, shard, found)
    return TarIndex([found[name] for name in sorted(found, key=_parts)], problem)


def _collect_members(stream: BinaryIO, shard: Shard, found: dict[str, TarMember]) -> str | None:
    """Adds the images by name, the last one of a name as unpacking would; returns the problem."""
    opened = False
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            opened = True
            while (info := tar.next()) is not None:
                # Without this, tarfile keeps every header in memory.
                tar.members = []  # type: ignore[attr-defined]
                name = "/".join(_parts(info.name))
                if info.isreg() and not info.issparse() and _is_image(name):
                    found[name] = TarMember(shard, name, info.offset_data, info.size)
            return _check_end(stream, tar.offset)
    except OSError:
        raise
    # tarfile may raise any exception on a damaged header.
    except Exception:
        return "cut short" if opened else "not a tar file" if shard.size else "empty file"


def _check_end(stream: BinaryIO, offset: int) -> str | None:
    """Checks the block where tarfile stopped: the end mark, or damage, which it does not report."""
    stream.seek(offset)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return "cut short"
    return f"damaged at byte {offset}" if any(block) else None


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _load(path: Path, state: list[Any], shard: Shard) -> TarIndex | None:
    """The kept index; None if it is missing, damaged or belongs to another state of the shard."""
    try:
        kept = json.loads(path.read_bytes())
        if kept["state"] != state:
            return None
        return TarIndex([TarMember(shard, str(n), int(o), int(s)) for n, o, s in kept["members"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(path: Path, state: list[Any], index: TarIndex) -> None:
    members = [(member.inner_path, member.offset, member.size) for member in index.members]
    # A folder that cannot be written gets no index.
    with suppress(OSError), replaced_file(path) as partial:
        partial.write_text(json.dumps({"state": state, "members": members}))
