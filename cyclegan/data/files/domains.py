"""Checks the training images of both domains before a long run begins."""

import math
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from cyclegan.config.errors import UserError, printable
from cyclegan.data.files.images import SUFFIXES, UnreadableImage, image_size, read_image
from cyclegan.data.files.reading import ImageFile, RetryPolicy, TarMember, size_of
from cyclegan.data.files.sources import DataSources, source_exists

# The files of a domain of up to this size are decoded before training. For a larger one only the
# headers are read, and a damaged file is reported when it is drawn.
FULL_CHECK_BYTES = 200_000_000

HEADERS_PER_TASK = 256

# Smaller images are not worth enlarging to a crop: they are icons or tracking pixels.
MIN_SIDE = 8

# The smallest image, used at its own size, that a 70x70 patch discriminator accepts.
MIN_SIDE_UNRESIZED = 32


@dataclass(frozen=True)
class DomainImages:
    """The images of one domain, and the files that were left out with the reason."""

    source: Path
    files: list[ImageFile]
    sizes: list[tuple[int, int]]
    unreadable: dict[ImageFile, str] = field(default_factory=dict)
    too_small: dict[ImageFile, str] = field(default_factory=dict)
    damaged: dict[ImageFile, str] = field(default_factory=dict)
    ignored: dict[ImageFile, str] = field(default_factory=dict)

    def describe(self, name: str) -> str:
        """One line: the number of images and their sizes."""
        extremes = min(self.sizes, key=math.prod), max(self.sizes, key=math.prod)
        sizes = " to ".join(dict.fromkeys(f"{width}x{height}" for width, height in extremes))
        where = f"{self.source}{self._tar_files()}"
        return f"{name}: {len(self.files)} images of {sizes} px in {where}"

    def complaints(self) -> list[str]:
        """One line for each reason why files were left out."""
        kinds = {
            "skipped as unreadable": self.unreadable,
            "skipped as too small": self.too_small,
            "used as far as it is whole": self.damaged,
            "not looked into": self.ignored,
        }
        return [
            f"{kind}: {_first([f'{path.name} ({why})' for path, why in paths.items()])}"
            for kind, paths in kinds.items()
            if paths
        ]

    def _tar_files(self) -> str:
        shards = [file.shard.path for file in self.files if isinstance(file, TarMember)]
        if not shards:
            return ""
        part = "" if len(shards) == len(self.files) else f"{len(shards)} of them "
        count = len(set(shards))
        return f" ({part}in {count} tar file{'s' if count > 1 else ''})"


def check_domains(sources: DataSources) -> tuple[DomainImages, DomainImages]:
    """The training images of both domains; raises UserError if training cannot work."""
    return check_domain(sources, "A"), check_domain(sources, "B")


def check_domain(sources: DataSources, domain: str) -> DomainImages:
    candidates = sources.candidates("train", domain)
    if not candidates or not source_exists(candidates[0]):
        raise UserError(describe_missing(sources, sources.letter(domain), *candidates))
    source, *others = candidates
    found = sources.scan(source)
    files = found.files[: sources.max_dataset_size]
    if not files and not found.problems:
        raise UserError(f"{source} holds no images: put some there ({', '.join(sorted(SUFFIXES))})")
    checked = _inspect(source, files, min_side=_min_side(sources, domain))
    used = {file.shard.path for file in files if isinstance(file, TarMember)}
    for path, problem in found.problems.items():
        (checked.damaged if path in used else checked.unreadable)[path] = problem
    checked.ignored.update((path, f"{source} is there") for path in others)
    if not checked.files:
        complaints = "; ".join(checked.complaints())
        remedy = _remedy(sources) if checked.too_small else ""
        raise UserError(f"{source} holds no image to train on: {complaints}{remedy}")
    return checked


def size_warning(A: DomainImages, B: DomainImages, *, scale: int = 1) -> str | None:
    """A warning if the sizes of the domains contradict --scale."""
    side_A, side_B = (median(min(size) for size in domain.sizes) for domain in (A, B))
    if scale * side_A < 1.5 * side_B and side_B < 1.5 * scale * side_A:
        return None
    sizes = f"images of A are typically {side_A:.0f} px, of B {side_B:.0f} px"
    if scale > 1:
        swapped = "; to exchange the two, use --direction BtoA" if side_A > side_B else ""
        return f"{sizes}: that is not --scale {scale}{swapped}"
    enlarge = "; to enlarge A, use --scale" if side_A < side_B else ""
    return f"{sizes}: a generator keeps the size of its image{enlarge}"


def _inspect(source: Path, files: Sequence[ImageFile], *, min_side: int) -> DomainImages:
    retry = RetryPolicy()
    decode = sum(_bytes(file, retry) for file in files) <= FULL_CHECK_BYTES
    # Reading a header takes less time than starting a task, so that a task reads many.
    chunk = 1 if decode else HEADERS_PER_TASK
    parts = [files[i : i + chunk] for i in range(0, len(files), chunk)]
    # The threads change the process's warning filters, which this restores.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda part: [_size(file, retry, decode) for file in part], parts)
        results = dict(zip(files, (result for part in found for result in part), strict=True))
    sizes = {file: result for file, result in results.items() if isinstance(result, tuple)}
    good = {file: size for file, size in sizes.items() if min(size) >= min_side}
    return DomainImages(
        source=source,
        files=list(good),
        sizes=list(good.values()),
        unreadable={file: why for file, why in results.items() if isinstance(why, str)},
        too_small={
            file: f"{size[0]}x{size[1]} px, at least {min_side} needed"
            for file, size in sizes.items()
            if file not in good
        },
    )


def _bytes(file: ImageFile, retry: RetryPolicy) -> int:
    try:
        return size_of(file, retry)
    # The file will be reported as unreadable.
    except OSError:
        return 0


def _size(file: ImageFile, retry: RetryPolicy, decode: bool) -> tuple[int, int] | str:
    """Width and height, or the reason why the file cannot be read."""
    try:
        return read_image(file, retry=retry).size if decode else image_size(file, retry=retry)
    except UnreadableImage as error:
        return str(error)


def _min_side(sources: DataSources, domain: str) -> int:
    if sources.preprocess == "crop":
        return sources.crop_size // (sources.scale if domain == "A" else 1)
    return MIN_SIDE_UNRESIZED if sources.preprocess == "none" else MIN_SIDE


def describe_missing(
    sources: DataSources, letter: str, source: Path | None = None, *_: Path
) -> str:
    """Why a training domain has no source, and the remedy."""
    if source is not None:
        what = "there" if source.name.endswith(".tar") else "a folder"
        return f"--dir_{letter} {source} is not {what}: check the path"
    root = sources.dataroot
    if root is None:
        return f"where are the images of {letter}? give --dataroot, or --dir_A and --dir_B"
    if not root.is_dir():
        return f"--dataroot {root} is not a folder: check the path"
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    return (
        f"--dataroot {root} has no folder train{letter} or {letter} "
        f"(folders there: {_first(there) or 'none'}), nor train{letter}-*.tar: make it, or give "
        "--dir_A and --dir_B"
    )


def _remedy(sources: DataSources) -> str:
    if sources.preprocess == "crop":
        return f"; lower --crop_size {sources.crop_size}, or use --preprocess resize_and_crop"
    return "; use --preprocess resize_and_crop" if sources.preprocess == "none" else ""


def _first(names: Sequence[str], count: int = 10) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return printable(", ".join(names[:count])) + more
