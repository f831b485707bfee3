"""A run's previews in its folder: as they were drawn, and beside that as pages have them."""

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from cyclegan.data.files.images import UnreadableImage, read_image, save_image
from cyclegan.data.files.jpeg import PREVIEW_BYTES, preview_jpeg
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.atomic_files import write_atomically

# All together they stay within what a browser opens at once, 8 MB.
MOST_PREVIEWS = 40

_JPEG = b"\xff\xd8\xff"


def preview_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / f"step_{step:08d}.png"


def preview_steps(run_dir: Path) -> list[int]:
    """The steps of all previews that are kept, rising; raises OSError where that cannot be read."""
    folder = run_dir / "previews"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
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


def keep_preview(run_dir: Path, step: int, preview: Preview) -> None:
    """The picture itself, and beside it the one that pages take from then on."""
    # That first: somebody may be waiting for it.
    data = preview.jpeg
    save_image(preview.image, preview_path(run_dir, step))
    _keep_small(run_dir, step, data)


def read_preview(run_dir: Path, step: int) -> Image.Image:
    """The picture itself; raises UnreadableImage where there is none of that step.

    Links are not followed: the folder may be from somebody else.
    """
    path = preview_path(run_dir, step)
    # A pipe of that name would wait for its other end.
    if not _is_plain(path):
        raise UnreadableImage("there is no file of it")
    return read_image(path)


def small_preview(run_dir: Path, step: int, *, keep: bool = False) -> bytes:
    """As pages have it; raises UnreadableImage like `read_preview`. What had to be made small anew
    is kept if asked for.
    """
    path, small = preview_path(run_dir, step), _small_path(run_dir, step)
    with suppress(OSError):
        if _is_plain(small) and small.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            with small.open("rb") as file:
                data = file.read(PREVIEW_BYTES + 1)
            if data.startswith(_JPEG) and len(data) <= PREVIEW_BYTES:
                return data
    data = preview_jpeg(read_preview(run_dir, step))
    if keep:
        with suppress(OSError):
            _keep_small(run_dir, step, data)
    return data


def previews(run_dir: Path, *, until: int | None) -> Iterator[tuple[int, bytes]]:
    """Steps and JPEGs of previews spread over the run; those that cannot be read are left out.

    Later ones than `until` are of a run that went back, and are made anew.
    """
    try:
        steps = [step for step in preview_steps(run_dir) if until is None or step <= until]
    except OSError:
        return
    for step in spread(steps):
        with suppress(UnreadableImage, OSError):
            yield step, base64.b64encode(small_preview(run_dir, step, keep=True))


def _keep_small(run_dir: Path, step: int, data: bytes) -> None:
    path = _small_path(run_dir, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(data))


def _small_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / "small" / f"step_{step:08d}.jpg"


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
