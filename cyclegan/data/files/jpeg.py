"""Small JPEG files for pages that are updated often."""

import io

from PIL import Image

# The limits of a preview on a page. Base64 makes it a third larger on its way to Visdom.
PREVIEW_WIDTH, PREVIEW_BYTES = 1400, 200_000

# From visually lossless to still acceptable: below the last, a smaller image looks better.
_QUALITIES = (85, 65, 50, 40)


def preview_jpeg(image: Image.Image) -> bytes:
    """A JPEG file of at most PREVIEW_BYTES, no wider than PREVIEW_WIDTH."""
    return encode_jpeg(image, max_bytes=PREVIEW_BYTES, max_width=PREVIEW_WIDTH)


def encode_jpeg(image: Image.Image, *, max_bytes: int, max_width: int | None = None) -> bytes:
    """A JPEG file of at most `max_bytes`, found by lowering the quality, then the size."""
    # convert() would copy an RGB image, ten megabytes for a grid of previews.
    image = image if image.mode == "RGB" else image.convert("RGB")
    if max_width is not None and image.width > max_width:
        image = _scale(image, max_width / image.width)
    for quality in _QUALITIES:
        data = _encode(image, quality)
        if len(data) <= max_bytes:
            return data
    while len(data) > max_bytes and max(image.size) > 1:
        # The bytes fall a little more slowly than the number of pixels.
        image = _scale(image, min(0.9, 0.95 * (max_bytes / len(data)) ** 0.5))
        data = _encode(image, quality)
    return data


def _scale(image: Image.Image, factor: float) -> Image.Image:
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def _encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    # optimize=True would save 2 to 6 %, and need the memory of the image once more.
    image.save(file, format="JPEG", quality=quality)
    return file.getvalue()
