"""One image file, decoded completely: its problems, its colours and its fingerprint."""

import hashlib
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from cyclegan.data.files.domains import MIN_SIDE, MIN_SIDE_UNRESIZED
from cyclegan.data.files.images import SUFFIXES, UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile, open_file
from cyclegan.tools.doctor.perceptual_hash import SMALL, perceptual_hash

T = TypeVar("T")

# Images of at most this contrast (standard deviation of the luma, 0 to 255) are flat.
FLAT_CONTRAST = 2.0
# Beyond this ratio of the sides, little of an image survives the resize to a square.
MAX_ASPECT = 4.0
# Larger images are decoded one at a time: one on each of 64 cores would need more memory than
# training does.
LARGE_PIXELS = 40_000_000
# Colours are measured on about this many pixels, evenly spaced.
SAMPLED_PIXELS = 2**14
# Endings of images, most of which Pillow cannot read (or finds only a thumbnail in).
FOREIGN_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".svg", ".psd", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".tga"),
)
# Formats that begin with a signature, so that no other file is taken for them.
_SIGNED_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")


class Colors(NamedTuple):
    """Statistics of 8-bit values: means and mean squares of the channels, mean and standard
    deviation of the luma, and the mean difference of the largest and the smallest channel.
    """

    mean: np.ndarray
    square: np.ndarray
    brightness: float
    contrast: float
    saturation: float


class DecodedImage(NamedTuple):
    """What is kept of an image: `digest` is a hash of the size and all pixels, `thumbnail` is
    SMALL x SMALL x 3 of uint8, `hash` is None for a flat image, which resembles every other.
    """

    file: ImageFile
    size: tuple[int, int]
    colors: Colors
    digest: bytes
    thumbnail: np.ndarray
    hash: int | None


class InspectedFile(NamedTuple):
    """A file with its problems (kind -> detail); `image` is None if it could not be decoded."""

    file: ImageFile
    problems: dict[str, str]
    image: DecodedImage | None = None


def inspect_files(files: Sequence[ImageFile]) -> Iterator[InspectedFile]:
    """Inspects the files on all cores; yields the results in the same order."""
    lock = threading.Lock()
    return map_in_threads(lambda file: inspect_file(file, lock=lock), files)


def map_in_threads(
    function: Callable[[ImageFile], T], files: Sequence[ImageFile], *, max_threads: int = 256
) -> Iterator[T]:
    """Yields function(file) of all files in order; the function may read images."""
    # Loads Pillow's plugins: threads that load them at the same time fail.
    Image.init()
    num_threads = min(max_threads, os.cpu_count() or 1)
    # read_image changes the filters of warnings, which all threads share, so they are restored.
    with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
        warnings.simplefilter("ignore")
        try:
            yield from pool.map(function, files)
        finally:
            # The rest is not needed after Ctrl-C.
            pool.shutdown(cancel_futures=True)


def inspect_file(file: ImageFile, *, lock: AbstractContextManager[object]) -> InspectedFile:
    """Decodes the file completely; never raises. A very large image is decoded under `lock`."""
    if suffix_of(file) not in SUFFIXES:
        image_format = _foreign_format(file)
        return InspectedFile(file, {"foreign": image_format} if image_format else {})
    try:
        problems, num_pixels = _inspect_header(file)
        with lock if num_pixels > LARGE_PIXELS else nullcontext():
            return _inspect_pixels(file, read_image(file), problems)
    except Exception as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        detail = " ".join(words.split()) or type(error).__name__
        return InspectedFile(file, {_kind_of_error(error): detail})


def suffix_of(file: ImageFile) -> str:
    return PurePosixPath(file.name).suffix.lower()


def measure_colors(pixels: np.ndarray) -> Colors:
    """Statistics of an H x W x 3 uint8 array, on a regular grid of pixels if it is large."""
    step = max(1, math.isqrt(pixels.shape[0] * pixels.shape[1] // SAMPLED_PIXELS))
    # Contiguous channels: sums over three neighbouring values take ten times as long.
    channels = np.ascontiguousarray(pixels[::step, ::step].reshape(-1, 3).T)
    values = channels.astype(np.float64)
    luma = 0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2]
    return Colors(
        mean=values.mean(axis=1),
        square=(values**2).mean(axis=1),
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        saturation=float((channels.max(axis=0) - channels.min(axis=0)).mean()),
    )


def _foreign_format(file: ImageFile) -> str | None:
    """The format of an image whose ending the program ignores; None for other files."""
    if (suffix := suffix_of(file)) in FOREIGN_SUFFIXES:
        return suffix[1:].upper()
    try:
        with open_file(file) as stream, Image.open(stream, formats=_SIGNED_FORMATS) as image:
            return str(image.format)
    except Exception:
        return None


def _inspect_header(file: ImageFile) -> tuple[dict[str, str], int]:
    """Problems that the header shows, with details that may be empty, and the number of pixels.
    A header that cannot be read gives none: decoding will report it.
    """
    try:
        with open_file(file) as stream, Image.open(stream) as image:
            # Pillow calls a JPEG with a second picture, such as a depth map, MPO.
            image_format = "JPEG" if image.format == "MPO" else str(image.format)
            expected = Image.registered_extensions().get(suffix_of(file), image_format)
            # image.getexif() would decode a PNG completely.
            orientation = Image.Image.getexif(image).get(0x0112, 1)
            frames = getattr(image, "n_frames", 1) if image_format != "JPEG" else 1
            deep = image.mode[:4] in ("I", "F", "I;16")
            deep = deep or any(";16" in str(tile) for tile in getattr(image, "tile", []))
            problems = {
                "wrong_ending": f"is a {image_format}" if image_format != expected else "",
                "animated": f"{frames} pictures" if frames > 1 else "",
                "cmyk": image.mode if image.mode in ("CMYK", "LAB") else "",
                "deep": "more than 8 bits" if deep else "",
                "alpha": image.mode if image.has_transparency_data else "",
                "turned": f"orientation {orientation}" if orientation in range(2, 9) else "",
            }
            return problems, image.width * image.height
    except Exception:
        return {}, 0


def _inspect_pixels(file: ImageFile, image: Image.Image, problems: dict[str, str]) -> InspectedFile:
    pixels = np.asarray(image)
    colors = measure_colors(pixels)
    flat = colors.contrast < FLAT_CONTRAST
    key = f"{image.width}x{image.height}:".encode()
    decoded = DecodedImage(
        file=file,
        size=image.size,
        colors=colors,
        digest=hashlib.blake2b(pixels.data, digest_size=16, key=key).digest(),
        thumbnail=np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)),
        hash=None if flat else perceptual_hash(image),
    )
    shape = f"{image.width}x{image.height} px"
    shorter, longer = min(image.size), max(image.size)
    problems |= {
        "too_small": shape if shorter < MIN_SIDE else "",
        "tiny": shape if MIN_SIDE <= shorter < MIN_SIDE_UNRESIZED else "",
        "long": shape if longer > MAX_ASPECT * shorter else "",
        "flat": f"contrast {colors.contrast:.1f} of 255" if flat else "",
    }
    return InspectedFile(file, {k: detail for k, detail in problems.items() if detail}, decoded)


def _kind_of_error(error: Exception) -> str:
    # The message of UnreadableImage is for readers; its cause tells the kind.
    cause = error.__context__ if isinstance(error, UnreadableImage) else error
    if isinstance(cause, UnidentifiedImageError):
        return "empty" if str(error) == "empty file" else "not_an_image"
    if isinstance(cause, Image.DecompressionBombError | MemoryError):
        return "too_large"
    unreadable = isinstance(cause, OSError) and cause.strerror
    return "unreadable" if unreadable or str(error) == "not a file" else "damaged"
