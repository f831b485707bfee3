"""Files to images to tensors and back: the only place where any of them changes into another.

Inside the program an image is C x H x W float32 in [-1, 1]; at this edge it is 8-bit RGB.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


class UnreadableImage(ValueError):
    """A file that is not a whole image; the message says why, in a few words."""


def read_image(path: Path) -> Image.Image:
    """The file as 8-bit RGB, upright.

    The EXIF orientation is applied; gray becomes RGB; transparency is laid on white; 16-bit and
    float images are scaled, not clipped; of an animation, the first picture. Raises
    UnreadableImage for anything that does not decode to the end.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            # A photograph of 100 megapixels is large, not an attack: Pillow still refuses 180.
            warnings.simplefilter("ignore")
            file.load()
            return _to_rgb(ImageOps.exif_transpose(file))
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError) as error:
        raise UnreadableImage(_reason(error, path)) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from None


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, from its header; raises UnreadableImage."""
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")
            turned = file.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (file.height, file.width) if turned else file.size
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError) as error:
        raise UnreadableImage(_reason(error, path)) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from None


def save_image(image: Image.Image, path: Path) -> None:
    """Writes the image whole or not at all, in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last: Pillow takes the format from it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if _is_jpeg(path) else {}
    try:
        image.save(partial, **options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB to 3 x H x W float32 in [-1, 1]."""
    levels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return levels.permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1.0)


def to_image(tensor: Tensor) -> Image.Image:
    """3 x H x W in [-1, 1] to 8-bit RGB; rounds to the nearest level and clips what lies past."""
    levels = tensor.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return Image.fromarray(levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16") or image.mode == "F":
        image = Image.fromarray(_to_levels(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        # Colour under full transparency is leftovers that nobody was meant to see.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_levels(image: Image.Image) -> np.ndarray:
    """Deep gray to 0 .. 255: 16-bit by its full range, floats by the range they seem to be in."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F" and values.max(initial=0.0) <= 1.0:
        values = values * 255.0
    elif image.mode != "F" or values.max(initial=0.0) > 255.0:
        values = values / 257.0
    levels: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
