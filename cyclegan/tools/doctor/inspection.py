"""A data folder before a long run: every file looked at, and what is worth mending named."""

import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import Domain, domain_place, size_warning
from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import ImageFile, Member
from cyclegan.data.files.sources import Found, find_files, is_place
from cyclegan.tools.doctor.duplicates import find_duplicates
from cyclegan.tools.doctor.findings import KINDS, Finding
from cyclegan.tools.doctor.image_checks import (
    Look,
    foreign,
    look,
    suffix_of,
)


@dataclass(frozen=True)
class Part:
    """One folder or tar file, as trainA or testB, with what became of each of its files."""

    name: str
    folder: Path
    looks: list[Look]

    @property
    def num_images(self) -> int:
        """Files that the program takes for images, whether it can read them or not."""
        return sum(suffix_of(look.file) in SUFFIXES for look in self.looks)

    @property
    def usable(self) -> list[Look]:
        return [look for look in self.looks if look.size and "too_small" not in look.marks]


@dataclass(frozen=True)
class Diagnosis:
    """All that was found, in the order of KINDS."""

    root: Path | None
    parts: list[Part]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether there is nothing worth mending: notes do not count."""
        return all(KINDS[finding.kind].severity == "note" for finding in self.findings)

    def name(self, file: ImageFile) -> str:
        """Relative to the data folder, where the file lies there."""
        if isinstance(file, Member):
            return f"{self.name(file.shard.path)}!{file.inside}"
        if self.root is None or not file.is_relative_to(self.root):
            return str(file)
        return file.relative_to(self.root).as_posix()

    def by_kind(self) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.kind, []).append(finding)
        return found


def find_parts(settings: TrainSettings) -> dict[str, Path]:
    """The folders or tar files that a run would use, as trainA -> path; raises UserError without
    both domains to train on.
    """
    root = settings.dataroot
    if root is not None and not root.is_dir():
        raise UserError(f"DATAROOT {root} is not a folder: check the path")
    parts = {}
    for phase in ("train", "test"):
        for domain in "AB":
            folder = domain_place(settings, phase, domain)
            if folder is not None and is_place(folder):
                parts[f"{phase}{domain}"] = folder
            elif phase == "train":
                raise UserError(_missing(domain, folder, root))
    return parts


def list_files(place: Path) -> Found:
    """What a run would find there and, after it, the files that it passes over, but hidden ones."""
    # Without a place to keep indices: who looks over a folder leaves it as it is.
    found = find_files(place, keep=None)
    others = _others(place, set(found.files)) if place.is_dir() else []
    return Found([*found.files, *others], found.problems)


def look_at(files: Sequence[ImageFile]) -> Iterator[Look]:
    """A look at each file in turn, by all cores."""
    alone = threading.Lock()

    def work(file: ImageFile) -> Look:
        if suffix_of(file) in SUFFIXES:
            return look(file, alone=alone)
        kind = foreign(file)
        return Look(file, {"foreign": kind} if kind else {})

    # Else the first threads would do so all at once, and stumble over each other.
    Image.init()
    # Reading an image silences warnings for the process, which threads may leave so: undone here.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        try:
            yield from pool.map(work, files)
        finally:
            # After Ctrl-C nobody waits for what is left.
            pool.shutdown(cancel_futures=True)


def part_of(name: str, place: Path, found: Found, looks: Sequence[Look]) -> Part:
    """A part of looks at `found.files`, with the tar files that break off."""
    broken = [Look(path, {"damaged": problem}) for path, problem in found.problems.items()]
    return Part(name, place, [*looks, *broken])


def diagnose(root: Path | None, parts: Sequence[Part]) -> Diagnosis:
    """What is to be said of the parts, each file of which has been looked at."""
    findings = [
        Finding(kind, (look.file,), detail)
        for part in parts
        for look in part.looks
        for kind, detail in look.marks.items()
    ]
    for part in parts:
        if not part.usable:
            findings.append(Finding("no_images", (part.folder,), "no image that can be used"))
    findings += find_duplicates({part.name: part.usable for part in parts})
    findings += _sizes({part.name: part for part in parts})
    order = list(KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    return Diagnosis(root, list(parts), findings)


def _others(folder: Path, known: Set[ImageFile]) -> list[Path]:
    others: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        others += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in others if path not in known)


def _sizes(parts: Mapping[str, Part]) -> list[Finding]:
    """Whether the training domains agree in size."""
    train = [parts[name] for name in ("trainA", "trainB") if name in parts]
    sizes = [[look.size for look in part.usable if look.size] for part in train]
    if len(train) < 2 or not all(sizes):
        return []
    domains = [Domain(p.folder, [], each, {}, {}) for p, each in zip(train, sizes, strict=True)]
    line = size_warning(*domains)
    return [Finding("sizes", tuple(part.folder for part in train), line)] if line else []


def _missing(domain: str, folder: Path | None, root: Path | None) -> str:
    if folder is not None:
        return f"--dir_{domain} {folder} is not a folder: check the path"
    assert root is not None
    there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())[:10])
    return (
        f"DATAROOT {root} has no folder train{domain} or {domain} (folders there: "
        f"{there or 'none'}): make it, or give --dir_A and --dir_B"
    )


def _raise(error: OSError) -> NoReturn:
    raise error
