"""Pictures on their way to a page: small enough to be sent often."""

import io

from PIL import Image

# Of a preview on a page: wider than that shows it, for a look from nearby; on its way to Visdom it
# is a third larger.
PREVIEW_WIDTH, PREVIEW_BYTES = 1400, 200_000

# From what looks like the picture itself to what still looks well: beyond that, smaller shows more.
_QUALITIES = (85, 65, 50, 40)


def preview_jpeg(image: Image.Image) -> bytes:
    """A preview as a JPEG file of at most PREVIEW_BYTES, and no wider than PREVIEW_WIDTH."""
    return jpeg(image, most=PREVIEW_BYTES, width=PREVIEW_WIDTH)


def jpeg(image: Image.Image, *, most: int, width: int | None = None) -> bytes:
    """The picture as a JPEG file of at most so many bytes: in less quality, then smaller, until it
    fits. Wider than `width` it is reduced to that first.
    """
    # A picture in RGB is not copied: of a sheet of previews, that is ten megabytes.
    image = image if image.mode == "RGB" else image.convert("RGB")
    if width is not None and image.width > width:
        image = _reduced(image, width / image.width)
    for quality in _QUALITIES:
        data = _encoded(image, quality)
        if len(data) <= most:
            return data
    while len(data) > most and max(image.size) > 1:
        # Bytes go about with the pixels, though not all the way.
        image = _reduced(image, min(0.9, 0.95 * (most / len(data)) ** 0.5))
        data = _encoded(image, quality)
    return data


def _reduced(image: Image.Image, by: float) -> Image.Image:
    size = max(1, round(image.width * by)), max(1, round(image.height * by))
    return image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    # Not optimized: that is 2 to 6 % smaller, and takes the memory of the picture once more.
    image.save(file, format="JPEG", quality=quality)
    return file.getvalue()
