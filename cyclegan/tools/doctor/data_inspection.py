"""A data folder before a long run: every file inspected, and the problems of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from cyclegan.config.errors import UserError
from cyclegan.data.files.domains import DomainImages, describe_missing, size_warning
from cyclegan.data.files.images import SUFFIXES
from cyclegan.data.files.reading import ImageFile, TarMember
from cyclegan.data.files.sources import (
    DataSources,
    ScanResult,
    scan_source,
    source_exists,
    walk_files,
)
from cyclegan.tools.doctor.duplicates import find_duplicates
from cyclegan.tools.doctor.findings import KINDS, Finding
from cyclegan.tools.doctor.image_inspection import (
    DecodedImage,
    InspectedFile,
    inspect_files,
    suffix_of,
)


@dataclass(frozen=True)
class InspectedFolder:
    """One folder or tar file, such as trainA or testB, with all its files."""

    name: str
    path: Path
    files: list[InspectedFile]

    @property
    def num_images(self) -> int:
        """The number of files with an image's ending, readable or not."""
        return sum(suffix_of(each.file) in SUFFIXES for each in self.files)

    @property
    def usable(self) -> list[DecodedImage]:
        return [f.image for f in self.files if f.image and "too_small" not in f.problems]


@dataclass(frozen=True)
class Inspection:
    """All findings by their kind, in the order of KINDS."""

    root: Path | None
    folders: list[InspectedFolder]
    findings: dict[str, list[Finding]]

    @property
    def ok(self) -> bool:
        """True without errors and warnings; notes do not count."""
        return all(KINDS[kind].severity == "note" for kind in self.findings)

    def name(self, file: ImageFile) -> str:
        """The file's path, relative to the data folder if it lies there."""
        if isinstance(file, TarMember):
            return f"{self.name(file.shard.path)}!{file.inner_path}"
        if self.root is None or not file.is_relative_to(self.root):
            return str(file)
        return file.relative_to(self.root).as_posix()


def find_folders(sources: DataSources) -> dict[str, Path]:
    """The folders or tar files that a run would use, as trainA -> path. Raises UserError if a
    training domain is missing.
    """
    folders = {}
    for name in ("trainA", "trainB", "testA", "testB"):
        path = sources.find(name[:-1], name[-1])
        if path is not None and source_exists(path):
            folders[name] = path
        elif name.startswith("train"):
            problem = describe_missing(sources, name[-1], path)
            # The doctor takes the data folder as a positional argument.
            raise UserError(problem.replace("--dataroot", "DATAROOT"))
    return folders


def inspect_data(root: Path | None, paths: Mapping[str, Path]) -> Inspection:
    """Inspects all files of the folders, with a progress bar on stderr if that is a terminal."""
    scans = {name: _scan(path) for name, path in paths.items()}
    files = [file for scan in scans.values() for file in scan.files]
    console = Console(stderr=True)
    bar: dict[str, Any] = {
        "console": console,
        "transient": True,
        "disable": not console.is_terminal,
    }
    inspected = iter(list(track(inspect_files(files), "inspecting", len(files), **bar)))
    folders = []
    for name, scan in scans.items():
        broken_tars = [InspectedFile(tar, {"damaged": why}) for tar, why in scan.problems.items()]
        own = [*islice(inspected, len(scan.files)), *broken_tars]
        folders.append(InspectedFolder(name, paths[name], own))
    found = _all_findings(folders)
    by_kind = {kind: [finding for finding in found if finding.kind == kind] for kind in KINDS}
    return Inspection(root, folders, {kind: each for kind, each in by_kind.items() if each})


def _scan(path: Path) -> ScanResult:
    """The images that a run would find, followed by the files that it ignores."""
    # index_dir=None: an inspection writes nothing into the data folder.
    found = scan_source(path, index_dir=None)
    known = set(found.files)
    others = [file for file in walk_files(path) if file not in known] if path.is_dir() else []
    return ScanResult([*found.files, *others], found.problems)


def _all_findings(folders: list[InspectedFolder]) -> list[Finding]:
    findings = [
        Finding(kind, [each.file], detail)
        for folder in folders
        for each in folder.files
        for kind, detail in each.problems.items()
    ]
    findings += [
        Finding("no_images", [folder.path], "no image that can be used")
        for folder in folders
        if not folder.usable
    ]
    findings += find_duplicates({folder.name: folder.usable for folder in folders})
    train = [folder for folder in folders if folder.name in ("trainA", "trainB") and folder.usable]
    if len(train) == 2:
        A, B = (DomainImages(f.path, [], [image.size for image in f.usable]) for f in train)
        if warning := size_warning(A, B):
            findings.append(Finding("sizes", [folder.path for folder in train], warning))
    return findings
