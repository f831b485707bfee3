"""Measures the images per second of our loader against a plain one that decodes every image.

    python benchmarks/loader.py
    python benchmarks/loader.py --dataroot ./data/horse2zebra --images 1000

They take turns in one process on one core. The plain loader opens, resizes and crops each image
with Pillow; ours reads from files, from memory and from a cache file. A cache gives batches of
uint8 crops, which a GPU converts to floats; `as floats` includes the conversion on the CPU.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import interleave, ratio, report
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from cyclegan.data.files.images import from_uint8_numpy
from cyclegan.data.files.sources import find_images
from cyclegan.data.loading.cache import cache_path, decode_all, write_cache
from cyclegan.data.loading.dataset import DecodedImages, UnpairedImages
from cyclegan.data.loading.loader import collate
from cyclegan.data.loading.transforms import ImageTransform

CPU = torch.device("cpu")
BATCH = 4


def main() -> int:
    options = arguments()
    # One core, as in a run that uses the others.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.dataroot or photographs(Path(scratch) / "images", options.images)
        files = find_images(folder)[: options.images]
        if not files:
            sys.exit(f"--dataroot {folder} holds no images: name another folder")
        load_size = round(options.size * 286 / 256)
        transform = ImageTransform("resize_and_crop", load_size, options.size, True)
        in_memory = list(decode_all(files, transform))
        path = cache_path(Path(scratch) / "cache", folder, files, transform)
        on_disk = write_cache(path, in_memory)

        few, many = options.samples, 20 * options.samples
        counts = {
            "plain": few,
            "from files": few,
            "from memory": many,
            "from memory, as floats": many,
            "from a file": many,
            "from a file, as floats": many,
        }
        tasks: dict[str, Callable[[], object]] = {
            "plain": lambda: plain(files, load_size, options.size, few),
            "from files": lambda: ours(files, transform, None, few, floats=True),
            "from memory": lambda: ours(files, transform, in_memory, many),
            "from memory, as floats": lambda: ours(files, transform, in_memory, many, floats=True),
            "from a file": lambda: ours(files, transform, on_disk, many),
            "from a file, as floats": lambda: ours(files, transform, on_disk, many, floats=True),
        }
        seconds = interleave(tasks, rounds=options.rounds, device=CPU)
    # Seconds per image: the tasks load different numbers of images.
    each = {name: [s / counts[name] for s in taken] for name, taken in seconds.items()}
    show(each, size=options.size, count=len(files))
    figures = {
        "size": options.size,
        "files": len(files),
        "images_per_second_and_core": {name: round(1 / min(s)) for name, s in each.items()},
        "times_faster_than_plain": {
            name: round(ratio(each, "plain", name), 2) for name in each if name != "plain"
        },
    }
    report(figures, CPU, out=options.out)
    return 0


def plain(files: list[Path], load_size: int, size: int, count: int) -> None:
    """Loads each image with Pillow, like many training scripts."""
    random = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        batch = []
        for _ in range(start, min(start + BATCH, count)):
            image = Image.open(files[random.integers(len(files))]).convert("RGB")
            image = image.resize((load_size, load_size), Image.Resampling.BICUBIC)
            left, top = random.integers(load_size - size + 1, size=2).tolist()
            image = image.crop((left, top, left + size, top + size))
            if random.random() < 0.5:
                image = ImageOps.mirror(image)
            levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            batch.append(levels.float().div(255.0).sub(0.5).div(0.5))
        torch.stack(batch)


def ours(
    files: list[Path],
    transform: ImageTransform,
    decoded: DecodedImages | None,
    count: int,
    *,
    floats: bool = False,
) -> None:
    """Loads like the thread of our loader; a sample is a pair, so `count` images are count / 2."""
    both = None if decoded is None else (decoded, decoded)
    dataset = UnpairedImages((files, files), (transform, transform), seed=0, decoded=both)
    for start in range(0, count // 2, BATCH):
        batch = collate([dataset[i] for i in range(start, min(start + BATCH, count // 2))])
        if floats:
            for images in (batch.A, batch.B):
                from_uint8_numpy(images.pixels, images.flipped)


def photographs(folder: Path, count: int) -> Path:
    """JPEG files of 256 x 256 px with shapes and grain, as hard to decode as photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        shapes = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((256, 256), Image.Resampling.BICUBIC), dtype=np.float64)
        grained = np.clip(soft + random.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)
        Image.fromarray(grained).save(folder / f"{index:05}.jpg", quality=90)
    return folder


def show(each: dict[str, list[float]], *, size: int, count: int) -> None:
    table = Table("way", "images/s", "times as fast", title=f"{count} files, crops of {size} px")
    for name, seconds in each.items():
        table.add_row(name, f"{1 / min(seconds):,.0f}", f"{ratio(each, 'plain', name):.1f}")
    Console().print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the crops")
    parser.add_argument("--images", type=int, default=400, help="how many files")
    parser.add_argument("--samples", type=int, default=100, help="images a turn of the plain way")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way")
    parser.add_argument("--dataroot", type=Path, help="a folder of images; none: makes some")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
