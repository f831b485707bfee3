"""Files to images to tensors and back: the only place where any of them changes into another.

Inside the program an image is C x H x W float32 in [-1, 1]; at this edge it is 8-bit RGB.
"""

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cyclegan.data.files.reading import (
    ImageFile,
    Patience,
    open_file,
    size_of,
)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".webp"})

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    **{suffix: {"quality": 95, "subsampling": 0} for suffix in LOSSY_SUFFIXES},
    # To look for nothing but runs takes a third of the time on photographs; most files stay about
    # as large, and those with much that repeats, as drawings, grow by up to a seventh.
    ".png": {"compress_type": zlib.Z_RLE},
}


class UnreadableImage(ValueError):
    """A file that is not a whole image; the message says why, in a few words."""


def read_image(file: ImageFile, *, patience: Patience | None = None) -> Image.Image:
    """The file as `to_rgb` makes it; of an animation, the first picture.

    Raises UnreadableImage for anything that does not decode to the end. A drive that is away for a
    moment is waited for; who reads many files gives one `patience` for all.
    """
    # On a damaged file a decoder may raise anything.
    try:
        with _open(file, patience, whole=True) as image:
            image.load()
            return to_rgb(image)
    except Exception as error:
        raise UnreadableImage(_reason(error, file)) from None


def image_size(file: ImageFile, *, patience: Patience | None = None) -> tuple[int, int]:
    """Width and height of the upright image, from its header; raises UnreadableImage."""
    try:
        with _open(file, patience) as image:
            # Not image.getexif(), which decodes a PNG to its end; a TIFF's size is upright already.
            orientation = Image.Image.getexif(image).get(0x0112, 1)
            turned = image.format != "TIFF" and orientation in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception as error:
        raise UnreadableImage(_reason(error, file)) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: the EXIF orientation is applied, gray becomes RGB, transparency is laid
    on white, 16-bit and float images are scaled, not clipped.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16") or image.mode == "F":
        image = Image.fromarray(_gray_levels(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        # Colour under full transparency is leftovers that nobody was meant to see.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def save_image(image: Image.Image, path: Path) -> None:
    """Writes the image whole or not at all, in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last: Pillow takes the format from it. Nobody knows the name beforehand, to
    # put a link there.
    partial = path.with_name(f".{path.stem}.{token_hex(8)}{path.suffix}")
    try:
        image.save(partial, **_SAVE_OPTIONS.get(path.suffix.lower(), {}))
        partial.replace(path)
    except OSError as error:
        # Of a full disk, Pillow's errors do not say where.
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB to 3 x H x W float32 in [-1, 1]."""
    return from_levels(torch.from_numpy(np.array(image, dtype=np.uint8)))


def to_image(tensor: Tensor) -> Image.Image:
    """3 x H x W in [-1, 1] to 8-bit RGB; rounds to the nearest level and clips what lies past."""
    return Image.fromarray(to_levels(tensor).cpu().numpy())


def from_levels(
    levels: Tensor, *, memory_format: torch.memory_format = torch.preserve_format
) -> Tensor:
    """... x H x W x 3 of 8 bits to ... x 3 x H x W float32 in [-1, 1], on the same device."""
    images = levels.movedim(-1, -3).to(torch.float32, memory_format=memory_format)
    # A tensor there, not a number: by a number CUDA multiplies with the inverse, a bit off.
    return images.div_(torch.full((), 127.5, device=images.device)).sub_(1.0)


def from_levels_here(levels: Tensor, mirrored: Tensor) -> Tensor:
    """The same of N x H x W x 3 on the CPU, with the images of these indices mirrored. By NumPy, in
    one thread: PyTorch would call for the cores that a step is computed on.
    """
    turned = set(mirrored.tolist())
    num, height, width, channels = levels.shape
    images = torch.empty((num, channels, height, width))
    values = images.numpy()
    for index, image in enumerate(levels.numpy()):
        image = image[:, ::-1] if index in turned else image
        np.divide(image.transpose(2, 0, 1), 127.5, out=values[index], dtype=np.float32)
    values -= 1.0
    return images


def to_levels(images: Tensor) -> Tensor:
    """... x 3 x H x W in [-1, 1] to ... x H x W x 3 of 8 bits, on the same device; rounds to the
    nearest level and clips what lies past.
    """
    levels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).movedim(-3, -1)


@contextmanager
def _open(
    file: ImageFile, patience: Patience | None, *, whole: bool = False
) -> Iterator[Image.Image]:
    """The image, without Pillow's warnings: damaged EXIF is no reason to say anything, and a
    photograph of 100 megapixels is large, not an attack (Pillow still refuses 180).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_file(file, patience, whole=whole) as stream, Image.open(stream) as image:
            yield image


def _gray_levels(image: Image.Image) -> np.ndarray:
    """Deep gray to 0 .. 255: 16-bit by its full range, floats by the range they seem to be in."""
    values = np.asarray(image, dtype=np.float64)
    brightest = values[np.isfinite(values)].max(initial=0.0)
    if image.mode == "F" and brightest <= 1.0:
        values = values * 255.0
    elif image.mode != "F" or brightest > 255.0:
        values = values / 257.0
    levels: np.ndarray = np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
    return levels


def _reason(error: BaseException, file: ImageFile) -> str:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        size = _declared_size(file) or _megapixels(error)
        return f"{size}: more than the {most} megapixels that are safe to decode"
    if isinstance(error, UnidentifiedImageError):
        return "empty file" if _is_empty(file) else "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _is_empty(file: ImageFile) -> bool:
    try:
        return size_of(file) == 0
    except OSError:
        return False


def _declared_size(file: ImageFile) -> str | None:
    """The size in the header of an image that Image.open refused to give, as it is too large."""
    for factory, accept in list(Image.OPEN.values()):
        try:
            with open_file(file) as stream:
                if accept is None or accept(stream.read(16)) is True:
                    stream.seek(0)
                    image = factory(stream, "")
                    return f"{image.width}x{image.height} px"
        # Another format, or one (WEBP) that refuses by itself.
        except Exception:
            continue
    return None


def _megapixels(error: Image.DecompressionBombError) -> str:
    """By the number in Pillow's message."""
    pixels = next((int(word) for word in re.findall(r"\d+", str(error))), 0)
    return f"{pixels // 10**6} megapixels" if pixels else "too large"
