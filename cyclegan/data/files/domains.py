"""Finding the images of both domains, and checking them before a long run begins."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.images import (
    SUFFIXES,
    UnreadableImage,
    image_size,
    read_image,
)
from cyclegan.data.files.reading import (
    ImageFile,
    Member,
    Patience,
    size_of,
)
from cyclegan.data.files.sources import (
    CACHE_FOLDER,
    Found,
    compressed_of,
    find_files,
    home,
    is_place,
    places_of,
)
from cyclegan.data.files.sources import find_images as find_images
from cyclegan.data.files.tar_index import refuse_compressed

# Up to this size a domain's files are decoded to the end before training; of a larger one only
# the headers are read, and a file that breaks further in is named when its turn comes.
FULL_CHECK_BYTES = 200_000_000

HEADERS_AT_ONCE = 256

# What is worth enlarging to a crop: smaller images are a mistake (tracking pixels, icons).
SMALLEST_SIDE = 8

# What a 70x70 patch discriminator can judge, where images are used as they are.
SMALLEST_UNRESIZED = 32


@dataclass(frozen=True)
class Domain:
    """One folder's images as they were found."""

    # Or a tar file, or a pattern of several.
    folder: Path
    files: list[ImageFile]
    sizes: list[tuple[int, int]]
    unreadable: dict[ImageFile, str]
    too_small: dict[ImageFile, str]
    damaged: dict[ImageFile, str] = field(default_factory=dict)
    passed_over: dict[ImageFile, str] = field(default_factory=dict)

    def describe(self, name: str) -> str:
        """One line: how many images, and their sizes."""
        smallest, largest = min(self.sizes, key=_area), max(self.sizes, key=_area)
        sizes = f"{smallest[0]}x{smallest[1]}"
        if smallest != largest:
            sizes += f" to {largest[0]}x{largest[1]}"
        return f"{name}: {len(self.files)} images of {sizes} px in {self.folder}{self._shards()}"

    def complaints(self) -> list[str]:
        """One line for each kind of file that was left out, naming the files."""
        lines = []
        for what, paths in (
            ("skipped as unreadable", self.unreadable),
            ("skipped as too small", self.too_small),
            ("used as far as it is whole", self.damaged),
            ("not looked into", self.passed_over),
        ):
            if paths:
                named = [f"{path.name} ({why})" for path, why in paths.items()]
                lines.append(f"{what}: {_some(named)}")
        return lines

    def _shards(self) -> str:
        inside = [file.shard.path for file in self.files if isinstance(file, Member)]
        if not inside:
            return ""
        most = "" if len(inside) == len(self.files) else f"{len(inside)} of them "
        count = len(set(inside))
        return f" ({most}in {count} tar file{'s' if count > 1 else ''})"


def stems(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Each file's place in the folder without its ending; with it where two would else be one."""
    names = [path.relative_to(folder) for path in files]
    bare = [name.with_suffix("") for name in names]
    often = Counter([*bare, *names])
    return [stem if often[stem] == 1 else name for stem, name in zip(bare, names, strict=True)]


def domain_place(settings: TrainSettings, phase: str, domain: str) -> Path | None:
    """Where the images of domain A or B for train or test lie, or None where there are none.

    With --direction BtoA the two change places, as in the classic implementation. Raises UserError
    where there are but compressed tar files.
    """
    return next(iter(_places(settings, phase, domain)), None)


def domain_folder(settings: TrainSettings, phase: str, domain: str) -> Path | None:
    """The same where it is a folder, or what --dir_A or --dir_B says is one."""
    place = domain_place(settings, phase, domain)
    given = phase == "train" and settings.dir_A is not None
    return place if place is not None and (given or place.is_dir()) else None


def domain_files(settings: TrainSettings, place: Path) -> Found:
    """The images of such a place, whether they can be read or not."""
    keep = settings.cache_dir or home(place) / CACHE_FOLDER
    return find_files(place, keep=keep if settings.cache in ("auto", "disk") else None)


def check_domains(settings: TrainSettings) -> tuple[Domain, Domain]:
    """Both training domains; raises UserError where training cannot work."""
    return check_domain(settings, "A"), check_domain(settings, "B")


def check_domain(settings: TrainSettings, domain: str) -> Domain:
    places = _places(settings, "train", domain)
    if not places or not is_place(places[0]):
        raise UserError(_missing(settings, _as_named(domain, settings), *places))
    place, *others = places
    found = domain_files(settings, place)
    paths = found.files[: settings.max_dataset_size]
    if not paths and not found.problems:
        raise UserError(f"{place} holds no images: put some there ({', '.join(sorted(SUFFIXES))})")
    checked = _inspect(place, paths, smallest=_smallest_side(settings, domain))
    used = {path.shard.path for path in paths if isinstance(path, Member)}
    checked.damaged.update((path, why) for path, why in found.problems.items() if path in used)
    checked.unreadable.update((p, why) for p, why in found.problems.items() if p not in used)
    checked.passed_over.update((path, f"{place} is there") for path in others)
    if not checked.files:
        complaints = "; ".join(checked.complaints())
        remedy = _remedy(settings) if checked.too_small else ""
        raise UserError(f"{place} holds no image to train on: {complaints}{remedy}")
    return checked


def _places(settings: TrainSettings, phase: str, domain: str) -> list[Path]:
    """The place of a domain, and others that it might have been."""
    domain = _as_named(domain, settings)
    own: Path | None = getattr(settings, f"dir_{domain}")
    if phase == "train" and own is not None:
        return [own]
    if settings.dataroot is None:
        return []
    root = settings.dataroot
    names = [f"{phase}{domain}", *([domain] if phase == "train" else [f"val{domain}"])]
    found = next(filter(None, (places_of(root, name) for name in names)), [])
    for path in [] if found else (path for name in names for path in compressed_of(root, name)):
        refuse_compressed(path)
    return found


def _inspect(folder: Path, paths: Sequence[ImageFile], *, smallest: int) -> Domain:
    patience = Patience()
    whole = sum(_bytes(path, patience) for path in paths) <= FULL_CHECK_BYTES
    look = _size_of_whole if whole else _size
    # A header takes less time than handing it to a thread: those go by the hundred.
    chunk = 1 if whole else HEADERS_AT_ONCE
    parts = [paths[i : i + chunk] for i in range(0, len(paths), chunk)]
    # Reading an image silences warnings for the process, which threads may leave so: undone here.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda part: [look(path, patience) for path in part], parts)
        results = [result for part in found for result in part]
    sizes = {p: r for p, r in zip(paths, results, strict=True) if isinstance(r, tuple)}
    good = [path for path, size in sizes.items() if min(size) >= smallest]
    return Domain(
        folder=folder,
        files=good,
        sizes=[sizes[path] for path in good],
        unreadable={p: r for p, r in zip(paths, results, strict=True) if isinstance(r, str)},
        too_small={
            path: f"{size[0]}x{size[1]} px, at least {smallest} needed"
            for path, size in sizes.items()
            if min(size) < smallest
        },
    )


def _bytes(path: ImageFile, patience: Patience) -> int:
    try:
        return size_of(path, patience)
    # It will be named as unreadable.
    except OSError:
        return 0


def _size(path: ImageFile, patience: Patience) -> tuple[int, int] | str:
    try:
        return image_size(path, patience=patience)
    except UnreadableImage as error:
        return str(error)


def _size_of_whole(path: ImageFile, patience: Patience) -> tuple[int, int] | str:
    try:
        return read_image(path, patience=patience).size
    except UnreadableImage as error:
        return str(error)


def _smallest_side(settings: TrainSettings, domain: str) -> int:
    if settings.preprocess == "crop":
        return settings.crop_size // settings.smaller(domain)
    return SMALLEST_UNRESIZED if settings.preprocess == "none" else SMALLEST_SIDE


def size_warning(A: Domain, B: Domain, *, scale: int = 1) -> str | None:
    """A line about domains whose sizes do not agree with --scale."""
    side_A, side_B = (median(min(size) for size in domain.sizes) for domain in (A, B))
    if scale * side_A < 1.5 * side_B and side_B < 1.5 * scale * side_A:
        return None
    sizes = f"images of A are typically {side_A:.0f} px, of B {side_B:.0f} px"
    if scale > 1:
        swapped = "; to exchange the two, use --direction BtoA" if side_A > side_B else ""
        return f"{sizes}: that is not --scale {scale}{swapped}"
    if side_A < side_B:
        return f"{sizes}: a generator keeps the size of its image; to enlarge A, use --scale"
    return f"{sizes}: a generator keeps the size of its image"


def _missing(settings: TrainSettings, domain: str, folder: Path | None = None) -> str:
    if folder is not None:
        what = "there" if folder.name.endswith(".tar") else "a folder"
        return f"--dir_{domain} {folder} is not {what}: check the path"
    root = settings.dataroot
    if root is None:
        return f"where are the images of {domain}? give --dataroot, or --dir_A and --dir_B"
    if not root.is_dir():
        return f"--dataroot {root} is not a folder: check the path"
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    return (
        f"--dataroot {root} has no folder train{domain} or {domain} "
        f"(folders there: {_some(there) or 'none'}), nor train{domain}-*.tar: make it, or give "
        "--dir_A and --dir_B"
    )


def _remedy(settings: TrainSettings) -> str:
    if settings.preprocess == "crop":
        return f"; lower --crop_size {settings.crop_size}, or use --preprocess resize_and_crop"
    return "; use --preprocess resize_and_crop" if settings.preprocess == "none" else ""


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    # A file's name may hold a line's end, or bytes that no terminal can print.
    return "".join(c if c.isprintable() else "?" for c in ", ".join(names[:most])) + more


def _as_named(domain: str, settings: TrainSettings) -> str:
    """What the folders and options call this domain: --direction BtoA exchanges the two."""
    return domain if settings.direction == "AtoB" else {"A": "B", "B": "A"}[domain]


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
