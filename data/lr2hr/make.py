"""Make the demo set from free photographs: A is low resolution, B is high resolution.

uv run --group demo data/lr2hr/make.py
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from skimage import data
from sklearn.datasets import load_sample_image

Box = tuple[int, int, int, int]

ROOT = Path(__file__).resolve().parent
SEED = 0
TILE = 256
STEP = 128
TEST_STEP = 224
SCALE = 2
# A multiple of SCALE * 8, so that JPEG's blocks start at the tile's corner.
MARGIN = 32
# Mean absolute difference of neighbouring grey levels; less is sky or background out of focus.
MIN_DETAIL = 2.0


class Photo(NamedTuple):
    """A photograph, and the region (left, top, right, bottom) each split may cut tiles from."""

    name: str
    load: Callable[[], np.ndarray]
    licence: str
    regions: dict[str, Box]


# Regions of one photo are disjoint, and no photo is in both trainA and trainB.
PHOTOS = [
    Photo(
        "coffee",
        data.coffee,
        "CC0, Rachel Michetti",
        {"trainB": (0, 0, 344, 400), "test": (344, 0, 600, 400)},
    ),
    Photo(
        "rocket",
        data.rocket,
        "public domain, SpaceX",
        {"trainA": (256, 0, 640, 427), "test": (0, 0, 256, 427)},
    ),
    Photo(
        "flower",
        lambda: load_sample_image("flower.jpg"),
        "CC BY 2.0, vultilion",
        {"trainA": (0, 0, 640, 427)},
    ),
    Photo("astronaut", data.astronaut, "public domain, NASA", {"trainB": (0, 0, 512, 512)}),
    Photo(
        "china",
        lambda: load_sample_image("china.jpg"),
        "CC BY 2.0, danielbuechele",
        {"trainA": (0, 0, 640, 427)},
    ),
    Photo("chelsea", data.chelsea, "CC0, Stefan van der Walt", {"test": (0, 22, 451, 278)}),
]


def make() -> None:
    """Replace the images of the four folders; one seed gives the same bytes every time."""
    rng = np.random.default_rng(SEED)
    for folder in ("trainA", "trainB", "testA", "testB"):
        (ROOT / folder).mkdir(exist_ok=True)
        for old in [*(ROOT / folder).glob("*.jpg"), *(ROOT / folder).glob("*.png")]:
            old.unlink()
    for photo in PHOTOS:
        for split, region in photo.regions.items():
            step = TEST_STEP if split == "test" else STEP
            for index, tile in enumerate(tiles(photo.load(), region, step)):
                name = f"{photo.name}_{index}"
                if split == "test":
                    degrade(tile, rng).save(ROOT / "testA" / f"{name}.png", optimize=True)
                    inner(tile).save(ROOT / "testB" / f"{name}.png", optimize=True)
                else:
                    image = degrade(tile, rng) if split == "trainA" else inner(tile)
                    image.save(ROOT / split / f"{name}.jpg", quality=95, subsampling=0)


def tiles(pixels: np.ndarray, region: Box, step: int) -> Iterator[Image.Image]:
    """Tiles about `step` apart, each with a margin; those with hardly any detail are left out."""
    left, top, right, bottom = region
    # Mirrored at the region's edge: a margin must not show what another split owns.
    padding = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    padded = np.pad(pixels[top:bottom, left:right], padding, mode="reflect")
    size = TILE + 2 * MARGIN
    for y in starts(bottom - top, step):
        for x in starts(right - left, step):
            tile = Image.fromarray(padded[y : y + size, x : x + size])
            if detail(inner(tile)) >= MIN_DETAIL:
                yield tile


def starts(length: int, step: int) -> list[int]:
    """Evenly spread starts of tiles that together cover `length`."""
    count = ceil((length - TILE) / step) + 1
    return [round(i) for i in np.linspace(0, length - TILE, count)]


def degrade(tile: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, reduce, add noise, compress, and enlarge to the old size; the margin is cut off."""
    blurred = tile.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.2)))
    small = blurred.resize((tile.width // SCALE, tile.height // SCALE), Image.Resampling.BICUBIC)
    levels = np.asarray(small, dtype=np.float64)
    noisy = levels + rng.normal(0, rng.uniform(1, 2), levels.shape)
    buffer = BytesIO()
    quality = int(rng.integers(80, 91))
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=quality
    )
    return inner(Image.open(buffer).resize(tile.size, Image.Resampling.BICUBIC))


def inner(tile: Image.Image) -> Image.Image:
    """The tile without its margin."""
    return tile.crop((MARGIN, MARGIN, tile.width - MARGIN, tile.height - MARGIN))


def detail(image: Image.Image) -> float:
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2


if __name__ == "__main__":
    make()
