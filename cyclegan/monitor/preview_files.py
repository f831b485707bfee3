"""A run's previews on its page: spread over its time, and made small once."""

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from cyclegan.data.images import UnreadableImage, read_image
from cyclegan.monitor.pictures import jpeg
from cyclegan.run_files import write_atomically

# All together they stay within what a browser opens at once, 12 MB.
MOST_PREVIEWS = 40
MOST_BYTES = 300_000

_JPEG = b"\xff\xd8\xff"


def preview_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / f"step_{step:08d}.png"


def preview_steps(run_dir: Path) -> list[int]:
    """The steps of all previews that are kept, rising."""
    try:
        names = [path.name for path in (run_dir / "previews").iterdir()]
    except OSError:
        return []
    found = (re.fullmatch(r"step_(\d{8,15})\.png", name, re.ASCII) for name in names)
    return sorted(int(match[1]) for match in found if match)


def spread(steps: Sequence[int]) -> list[int]:
    """At most MOST_PREVIEWS of them, evenly spread, the first and the newest always. As more come,
    only every second one stays: what is left out once is not needed again.
    """
    stride = 1
    while len(kept := list(steps[::stride])) >= MOST_PREVIEWS:
        stride *= 2
    return kept if not kept or kept[-1] == steps[-1] else [*kept, steps[-1]]


def keep_small(run_dir: Path, step: int, image: Image.Image) -> bytes:
    """Beside the preview itself: from then on the page takes it from there."""
    data = jpeg(image, most=MOST_BYTES)
    path = _small_path(run_dir, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(data))
    return data


def previews(run_dir: Path, *, until: int | None) -> Iterator[tuple[int, bytes]]:
    """Steps and JPEGs of previews spread over the run; those that cannot be read are left out.

    Later ones than `until` are of a run that went back, and are made anew.
    """
    steps = [step for step in preview_steps(run_dir) if until is None or step <= until]
    for step in spread(steps):
        data = _small(run_dir, step)
        if data is not None:
            yield step, base64.b64encode(data)


def _small(run_dir: Path, step: int) -> bytes | None:
    path, small = preview_path(run_dir, step), _small_path(run_dir, step)
    # Where there is none, or an older one, it is made anew.
    with suppress(OSError):
        if small.is_file() and small.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            with small.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            if data.startswith(_JPEG) and len(data) <= MOST_BYTES:
                return data
    try:
        # A pipe of that name would wait for its other end.
        image = read_image(path) if path.is_file() else None
    except (UnreadableImage, OSError):
        return None
    if image is None:
        return None
    try:
        return keep_small(run_dir, step, image)
    except OSError:
        return jpeg(image, most=MOST_BYTES)


def _small_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / "small" / f"step_{step:08d}.jpg"
