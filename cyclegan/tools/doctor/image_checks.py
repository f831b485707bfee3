"""One file as the doctor sees it: decoded to its end, with its faults, figures and fingerprints."""

import hashlib
import math
import stat
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from cyclegan.data.files.domains import SMALLEST_SIDE, SMALLEST_UNRESIZED
from cyclegan.data.files.images import SUFFIXES, UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile, open_file
from cyclegan.tools.doctor.perceptual_hash import SMALL, perceptual_hash

# Standard deviation of the brightness, in levels of 255, up to which there is nothing to see.
FLAT = 2.0

# How many times longer than wide; resized to a square, what is beyond is hardly an image.
LONGEST = 4.0

# Beyond this many pixels images are decoded one at a time: with 64 cores, 64 of them at once would
# take more memory than training does.
LARGE = 40_000_000

# Figures are taken from about so many pixels of an image, spread evenly.
PIXELS = 2**14

# Images by their endings, most of which Pillow cannot read (or finds only a thumbnail in).
FOREIGN_SUFFIXES = frozenset(
    {
        *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".svg", ".psd", ".exr", ".hdr"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".tga"),
    }
)

# Formats whose files begin with a sign of their own, so that nothing else is taken for them.
_SIGNED = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Figures:
    """What an image's pixels come to, in levels of 255."""

    # Of each channel, the mean and the mean of the squares.
    mean: np.ndarray
    square: np.ndarray
    # Of the luma, the mean and the standard deviation.
    brightness: float
    contrast: float
    # Mean distance of the largest from the smallest channel; 0 is gray.
    saturation: float


@dataclass(frozen=True)
class Prints:
    """By what an image is known again."""

    # Of its size and pixels.
    digest: bytes
    # SMALL x SMALL x 3 of 8 bits.
    small: np.ndarray
    # None for a flat image, which resembles every other.
    hash: int | None


@dataclass(frozen=True)
class Look:
    """What became of one file: its marks, kind -> detail, and all but those where it is read."""

    file: ImageFile
    marks: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    figures: Figures | None = None
    prints: Prints | None = None


def look(file: ImageFile, *, alone: AbstractContextManager[object]) -> Look:
    """Decodes the file to its end; never raises. A very large one is decoded holding `alone`."""
    try:
        if not _is_file(file):
            return Look(file, {"unreadable": "not a file"})
        marks, pixels = _header(file)
        with alone if pixels > LARGE else nullcontext():
            return _looked(file, read_image(file), marks)
    except Exception as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Look(file, {_fault(error): " ".join(words.split()) or type(error).__name__})


def suffix_of(file: ImageFile) -> str:
    return PurePosixPath(file.name).suffix.lower()


def foreign(file: ImageFile) -> str | None:
    """What kind of image a file is whose ending the program does not look for; None for others."""
    suffix = suffix_of(file)
    if suffix in FOREIGN_SUFFIXES:
        return suffix[1:].upper()
    try:
        if suffix in SUFFIXES or not _is_file(file):
            return None
        with open_file(file) as stream, Image.open(stream, formats=_SIGNED) as image:
            found: str | None = image.format
            return found
    except Exception:
        return None


def _is_file(file: ImageFile) -> bool:
    """Nothing else is opened: a pipe would be waited for, for ever. Raises OSError."""
    return not isinstance(file, Path) or stat.S_ISREG(file.stat().st_mode)


def _header(file: ImageFile) -> tuple[dict[str, str], int]:
    """What the header tells, and how many pixels. Whether it can be read, decoding will say."""
    try:
        with open_file(file) as stream, Image.open(stream) as image:
            return _marks(image, suffix_of(file)), image.width * image.height
    except Exception:
        return {}, 0


def _marks(image: Image.Image, suffix: str) -> dict[str, str]:
    # A camera's JPEG with a second picture of the same, as for depth, is an MPO to Pillow.
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    told = Image.registered_extensions().get(suffix, kind)
    tiles = getattr(image, "tile", [])
    # Not image.getexif(), which decodes a PNG to its end.
    orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    frames = getattr(image, "n_frames", 1) if kind != "JPEG" else 1
    wide = image.mode in ("I", "F") or image.mode.startswith("I;16")
    marks = {
        "wrong_ending": f"is a {kind}" if kind != told else "",
        "animated": f"{frames} pictures" if frames > 1 else "",
        "cmyk": image.mode if image.mode in ("CMYK", "LAB") else "",
        "deep": "more than 8 bits" if wide or any(";16" in str(tile) for tile in tiles) else "",
        "alpha": image.mode if image.has_transparency_data else "",
        "turned": f"orientation {orientation}" if orientation in range(2, 9) else "",
    }
    return {kind: detail for kind, detail in marks.items() if detail}


def _looked(file: ImageFile, image: Image.Image, marks: dict[str, str]) -> Look:
    levels = np.asarray(image)
    figures = measure(levels)
    small = image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)
    flat = figures.contrast < FLAT
    head = f"{image.width}x{image.height}:".encode()
    prints = Prints(
        digest=hashlib.blake2b(levels.data, digest_size=16, key=head).digest(),
        small=np.asarray(small),
        hash=None if flat else perceptual_hash(image),
    )
    shape = f"{image.width}x{image.height} px"
    smallest, longest = min(image.size), max(image.size)
    found = {
        "too_small": shape if smallest < SMALLEST_SIDE else "",
        "tiny": shape if SMALLEST_SIDE <= smallest < SMALLEST_UNRESIZED else "",
        "long": shape if longest > LONGEST * smallest else "",
        "flat": f"contrast {figures.contrast:.1f} of 255" if flat else "",
    }
    marks = marks | {kind: detail for kind, detail in found.items() if detail}
    return Look(file, marks, image.size, figures, prints)


def measure(levels: np.ndarray) -> Figures:
    """Figures of H x W x 3 of 8 bits; of a large image, from pixels at even distances."""
    step = max(1, math.isqrt(levels.shape[0] * levels.shape[1] // PIXELS))
    # A channel's values in a row: sums across three neighbours take ten times as long.
    channels = np.ascontiguousarray(levels[::step, ::step].reshape(-1, 3).T)
    values = channels.astype(np.float64)
    luma = 0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2]
    return Figures(
        mean=values.mean(axis=1),
        square=(values**2).mean(axis=1),
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        saturation=float((channels.max(axis=0) - channels.min(axis=0)).mean()),
    )


def _fault(error: Exception) -> str:
    """The kind of what kept a file from being read."""
    # UnreadableImage says why in words; what it was raised for says which kind that is.
    cause = error.__context__ if isinstance(error, UnreadableImage) else error
    if isinstance(cause, UnidentifiedImageError):
        return "empty" if str(error) == "empty file" else "not_an_image"
    if isinstance(cause, Image.DecompressionBombError | MemoryError):
        return "too_large"
    return "unreadable" if isinstance(cause, OSError) and cause.strerror else "damaged"
