"""The preview grid: fixed images, their translations, reconstructions and cycle errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, ZOOM = 200, 144
_MARGIN, _GAP = 12, 8
_TITLE, _HEADER, _CAPTION = 30, 22, 44
_HEAD = _MARGIN + _TITLE + _HEADER
WIDTH = 2 * _MARGIN + 4 * CELL + 3 * ZOOM + 6 * _GAP

_INK, _FAINT, _PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
# The possible ends of the colour scale, in levels of 255: few, so that grids stay comparable.
_ENDS = (2, 5, 10, 20, 50, 100, 255)
# Magma of matplotlib (Smith and van der Walt, 2015, CC0) at every eighth of its range: equal steps
# of the error look equally large, also in gray.
_MAGMA = np.array(
    [
        [0, 0, 4],
        [28, 16, 68],
        [79, 18, 123],
        [129, 37, 129],
        [181, 54, 122],
        [229, 80, 100],
        [251, 135, 97],
        [254, 194, 135],
        [252, 253, 191],
    ],
    dtype=np.float64,
)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PreviewRow:
    """An image, its translation and its reconstruction, which has the size of the image."""

    name: str
    real: Image.Image
    fake: Image.Image
    rec: Image.Image


def draw_grid(rows_A: Sequence[PreviewRow], rows_B: Sequence[PreviewRow]) -> Image.Image:
    """A row for each image, WIDTH px wide: real, fake, rec, the cycle error as a heat map, and the
    region with the largest error zoomed from all three. Images of A come first.

    The smaller images of a row are enlarged to the size of the largest by bicubic interpolation.
    """
    end = _end([cycle_error(row) for row in (*rows_A, *rows_B)])
    groups = [(rows, *names) for rows, names in ((rows_A, "AB"), (rows_B, "BA")) if rows]
    height = sum(_HEAD + sum(_height(row) for row in rows) for rows, _, _ in groups)
    page = Image.new("RGB", (WIDTH, height + _MARGIN), _PAPER)
    top = 0
    for rows, here, there in groups:
        page.paste(_header(rows[0], here, there, end), (0, top))
        top += _HEAD
        for row in rows:
            page.paste(_strip(row, end), (0, top))
            top += _height(row)
    return page


def cycle_error(row: PreviewRow) -> np.ndarray:
    """The mean of |rec - real| over the channels, H x W, in levels of 255."""
    rec, real = pixels_at_same_size(row.rec, row.real)
    error: np.ndarray = np.abs(rec - real).mean(axis=2)
    return error


def heat(error: np.ndarray, end: float) -> Image.Image:
    """Colours from black over red to light yellow, which stands for `end` and all above it."""
    place = np.clip(error / end, 0, 1) * (len(_MAGMA) - 1)
    before = np.minimum(place.astype(int), len(_MAGMA) - 2)
    share = (place - before)[..., None]
    colours = _MAGMA[before] * (1 - share) + _MAGMA[before + 1] * share
    return Image.fromarray(colours.round().astype(np.uint8))


def worst_window(error: np.ndarray, side: int) -> Box:
    """The square of `side` pixels with the largest error, as left, top, right, bottom; the one
    nearest to the center if several are equal. The map is at least as large as the square.
    """
    total = np.pad(error.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    rows, columns = (np.arange(count) - (count - 1) / 2 for count in sums.shape)
    distance = np.hypot(rows[:, None], columns[None])
    ties = sums >= sums.max() - 1e-6 * side * side
    top, left = np.unravel_index(np.where(ties, distance, np.inf).argmin(), sums.shape)
    return int(left), int(top), int(left) + side, int(top) + side


def pixels(image: Image.Image) -> np.ndarray:
    """H x W x 3 float32, 0 to 255."""
    return np.asarray(image, dtype=np.float32)


def pixels_at_same_size(image: Image.Image, other: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of both; the larger image is reduced by bicubic interpolation."""
    size = min(image.width, other.width), min(image.height, other.height)
    return pixels(_resized(image, size)), pixels(_resized(other, size))


def center_crop(image: Image.Image, side: int) -> Image.Image:
    """The center of the image, at most `side` x `side`."""
    width, height = min(image.width, side), min(image.height, side)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _end(errors: Sequence[np.ndarray]) -> int:
    most = max((float(np.quantile(error, 0.95)) for error in errors), default=0.0)
    return next((end for end in _ENDS if most <= end), _ENDS[-1])


def _strip(row: PreviewRow, end: float) -> Image.Image:
    """One row, with its name below the zooms."""
    size = _size(row)
    images = [_resized(image, size) for image in (row.real, row.fake, row.rec)]
    error = cycle_error(row)
    # A whole factor, if the zoom is larger than the window.
    factor = max(1, round(4 * ZOOM / min(size)))
    side = min(max(1, ZOOM // factor), *size)
    resized = np.asarray(Image.fromarray(error).resize(size, Image.Resampling.NEAREST))
    window = worst_window(resized, side)
    zooms = [i.crop(window).resize((ZOOM, ZOOM), Image.Resampling.NEAREST) for i in images]

    fitted = _fitted(size)
    shown = [_shown(image, fitted) for image in images]
    coloured = heat(np.asarray(_shown(Image.fromarray(error), fitted)), end)
    framed = [_framed(image, window, fitted[0] / size[0]) for image in (*shown, coloured)]
    strip = Image.new("RGB", (WIDTH, _height(row)), _PAPER)
    for left, cell in zip(_lefts(), (*framed, *zooms), strict=True):
        strip.paste(cell, (left, 0))
    pen, corner = ImageDraw.Draw(strip), (_lefts()[4], ZOOM + 6)
    text = f"{_short(row.name)}\ncycle error {error.mean():.1f} levels of 255"
    pen.text(corner, text, fill=_FAINT, font=_font(12), spacing=3)
    return strip


def _header(row: PreviewRow, here: str, there: str, end: float) -> Image.Image:
    strip = Image.new("RGB", (WIDTH, _HEAD), _PAPER)
    pen = ImageDraw.Draw(strip)
    pen.text((_MARGIN, _MARGIN), f"{here} to {there}, and back", fill=_INK, font=_font(19))
    names = [f"real_{here}", f"fake_{there}", f"rec_{here}"]
    widths = [image.width for image in (row.real, row.fake, row.rec)]
    enlarged = [max(widths) // width for width in widths]
    titles = [
        f"{name} (bicubic x{by})" if by > 1 else name
        for name, by in zip(names, enlarged, strict=True)
    ]
    top = _MARGIN + _TITLE
    for left, title in zip(_lefts(), (*titles, "cycle error", *names), strict=True):
        pen.text((left, top), title, fill=_INK, font=_font(13))
    left = _lefts()[3] + CELL
    bar = heat(np.tile(np.linspace(0, 1, 60), (10, 1)), 1)
    pen.text((left, top + 1), f"{end}", fill=_FAINT, font=_font(12), anchor="ra")
    strip.paste(bar, (left - 26 - bar.width, top + 3))
    pen.text((left - 30 - bar.width, top + 1), "0", fill=_FAINT, font=_font(12), anchor="ra")
    return strip


def _lefts() -> list[int]:
    widths = [CELL] * 4 + [ZOOM] * 3
    return [_MARGIN + sum(widths[:index]) + index * _GAP for index in range(len(widths))]


def _size(row: PreviewRow) -> tuple[int, int]:
    images = row.real, row.fake, row.rec
    return max(image.width for image in images), max(image.height for image in images)


def _height(row: PreviewRow) -> int:
    return max(_fitted(_size(row))[1], ZOOM + _CAPTION) + _GAP


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shown(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _framed(image: Image.Image, window: Box, scale: float) -> Image.Image:
    """A white frame within a black one: one of the two is visible on any image."""
    left, top, right, bottom = (round(side * scale) for side in window)
    right, bottom = max(right, left + 2), max(bottom, top + 2)
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 1, top - 1, right, bottom), outline="black")
    pen.rectangle((left, top, right - 1, bottom - 1), outline="white")
    return image


def _short(name: str, most: int = 60) -> str:
    path = PurePath(name)
    return name if len(name) <= most else f"{path.stem[: most - 4]}...{path.suffix}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
