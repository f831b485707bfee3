"""Conversions between image files, 8-bit RGB images and tensors.

Inside the program an image is C x H x W float32 in [-1, 1].
"""

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cyclegan.data.files.reading import ImageFile, RetryPolicy, open_file, replaced_file, size_of

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".webp"})

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    **{suffix: {"quality": 95, "subsampling": 0} for suffix in LOSSY_SUFFIXES},
    # Run-length matches alone take a third of the time on photographs. Most files stay about as
    # large; repetitive ones, such as drawings, grow by up to a seventh.
    ".png": {"compress_type": zlib.Z_RLE},
}


class UnreadableImage(ValueError):
    """The file does not hold a complete image; the message is the reason in a few words."""


def read_image(file: ImageFile, *, retry: RetryPolicy | None = None) -> Image.Image:
    """The image as `to_rgb` converts it; the first frame of an animation. Raises UnreadableImage if
    it does not decode to the end.
    """
    # A decoder may raise any exception on a damaged file.
    try:
        with _open(file, retry, whole=True) as image:
            image.load()
            return to_rgb(image)
    except Exception as error:
        raise UnreadableImage(_reason(error, file)) from None


def image_size(file: ImageFile, *, retry: RetryPolicy | None = None) -> tuple[int, int]:
    """Width and height of the upright image, read from the header; raises UnreadableImage."""
    try:
        with _open(file, retry) as image:
            # PngImageFile.getexif() would decode it. Pillow rotates the size of a TIFF itself.
            orientation = Image.Image.getexif(image).get(0x0112, 1)
            rotated = image.format != "TIFF" and orientation in (5, 6, 7, 8)
            return (image.height, image.width) if rotated else image.size
    except Exception as error:
        raise UnreadableImage(_reason(error, file)) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts to upright 8-bit RGB: applies the EXIF orientation, puts transparency on white, and
    scales 16-bit and float images instead of clipping them.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16") or image.mode == "F":
        image = Image.fromarray(_scale_to_uint8(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        # The colour of fully transparent pixels is arbitrary.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def save_image(image: Image.Image, path: Path) -> None:
    """Writes the image atomically, in the format of the path's suffix."""
    try:
        # Pillow takes the format from the suffix.
        with replaced_file(path) as partial:
            image.save(partial, **_SAVE_OPTIONS.get(path.suffix.lower(), {}))
    except OSError as error:
        # Pillow's error for a full disk does not name the path.
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from None


def to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB to 3 x H x W float32 in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.array(image, dtype=np.uint8)))


def to_image(tensor: Tensor) -> Image.Image:
    """3 x H x W in [-1, 1] to 8-bit RGB, rounded and clipped."""
    return Image.fromarray(to_uint8(tensor).cpu().numpy())


def from_uint8(
    pixels: Tensor, *, memory_format: torch.memory_format = torch.preserve_format
) -> Tensor:
    """... x H x W x 3 uint8 to ... x 3 x H x W float32 in [-1, 1], on the same device."""
    images = pixels.movedim(-1, -3).to(torch.float32, memory_format=memory_format)
    # CUDA divides by a number as a product with its inverse, which rounds differently.
    return images.div_(torch.full((), 127.5, device=images.device)).sub_(1.0)


def from_uint8_numpy(pixels: Tensor, flipped: Tensor) -> Tensor:
    """`from_uint8` for N x H x W x 3 on the CPU, mirroring the images at the indices `flipped`.
    NumPy uses one thread; PyTorch would compete for the cores that compute the step.
    """
    mirrored = set(flipped.tolist())
    num, height, width, channels = pixels.shape
    images = torch.empty((num, channels, height, width))
    values = images.numpy()
    for index, image in enumerate(pixels.numpy()):
        image = image[:, ::-1] if index in mirrored else image
        np.divide(image.transpose(2, 0, 1), 127.5, out=values[index], dtype=np.float32)
    values -= 1.0
    return images


def to_uint8(images: Tensor) -> Tensor:
    """... x 3 x H x W in [-1, 1] to ... x H x W x 3 uint8 on the same device, rounded, clipped."""
    pixels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1)


@contextmanager
def _open(
    file: ImageFile, retry: RetryPolicy | None, *, whole: bool = False
) -> Iterator[Image.Image]:
    """Opens the image without Pillow's warnings, which name damaged EXIF data and every photograph
    over 89 megapixels. Pillow still refuses twice that size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_file(file, retry, whole=whole) as stream, Image.open(stream) as image:
            yield image


def _scale_to_uint8(image: Image.Image) -> np.ndarray:
    """Deep gray to 0 .. 255: 16-bit by its full range, float by the range its values are in."""
    values = np.asarray(image, dtype=np.float64)
    brightest = values[np.isfinite(values)].max(initial=0.0)
    if image.mode == "F" and brightest <= 1.0:
        values = values * 255.0
    elif image.mode != "F" or brightest > 255.0:
        values = values / 257.0
    pixels: np.ndarray = np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
    return pixels


def _reason(error: BaseException, file: ImageFile) -> str:
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        size = _declared_size(file) or _megapixels(error)
        return f"{size}: more than the {limit} megapixels that are safe to decode"
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
    """The size in the header of an image that Image.open refuses because of its size."""
    for factory, accept in list(Image.OPEN.values()):
        try:
            with open_file(file) as stream:
                if accept is None or accept(stream.read(16)) is True:
                    stream.seek(0)
                    image = factory(stream, "")
                    return f"{image.width}x{image.height} px"
        # It has another format, or the decoder itself refuses, as WEBP's does.
        except Exception:
            continue
    return None


def _megapixels(error: Image.DecompressionBombError) -> str:
    """The size as Pillow's message tells it."""
    pixels = next((int(word) for word in re.findall(r"\d+", str(error))), 0)
    return f"{pixels // 10**6} megapixels" if pixels else "too large"
