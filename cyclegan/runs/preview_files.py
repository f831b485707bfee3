"""The previews in a run's folder: the picture itself, and a small JPEG of it for pages."""

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

# As many as keep a page at the size that a browser opens at once, 8 MB.
MAX_PREVIEWS = 40

_JPEG = b"\xff\xd8\xff"


def preview_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / f"step_{step:08d}.png"


def preview_steps(run_dir: Path) -> list[int]:
    """The steps of all previews, in rising order; raises OSError if the folder cannot be read."""
    folder = run_dir / "previews"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = (re.fullmatch(r"step_(\d{8,15})\.png", name, re.ASCII) for name in names)
    return sorted(int(match[1]) for match in found if match)


def choose_evenly(steps: Sequence[int]) -> list[int]:
    """At most MAX_PREVIEWS evenly spaced steps, with the first and the newest.

    A step that is left out once is not needed later: as more come, every second one goes.
    """
    stride = 1
    while len(kept := list(steps[::stride])) >= MAX_PREVIEWS:
        stride *= 2
    return kept if not kept or kept[-1] == steps[-1] else [*kept, steps[-1]]


def save_preview(run_dir: Path, step: int, preview: Preview) -> None:
    # The JPEG is encoded first, as a page may be waiting for it.
    data = preview.jpeg
    save_image(preview.image, preview_path(run_dir, step))
    _save_small(run_dir, step, data)


def read_preview(run_dir: Path, step: int) -> Image.Image:
    """Raises UnreadableImage if there is none, or a link: the folder may be from somebody else."""
    path = preview_path(run_dir, step)
    if not _is_plain(path):
        raise UnreadableImage("there is no file of it")
    return read_image(path)


def small_preview(run_dir: Path, step: int, *, keep: bool = False) -> bytes:
    """The small JPEG; one that is missing or outdated is encoded, and saved if `keep` is true.

    Raises UnreadableImage like `read_preview`.
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
            _save_small(run_dir, step, data)
    return data


def base64_previews(run_dir: Path, *, until: int | None) -> Iterator[tuple[int, bytes]]:
    """Steps and small JPEGs, evenly chosen from the run; unreadable ones are left out.

    Previews later than `until` are from before a rollback.
    """
    try:
        steps = [step for step in preview_steps(run_dir) if until is None or step <= until]
    except OSError:
        return
    for step in choose_evenly(steps):
        with suppress(UnreadableImage, OSError):
            yield step, base64.b64encode(small_preview(run_dir, step, keep=True))


def _save_small(run_dir: Path, step: int, data: bytes) -> None:
    path = _small_path(run_dir, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _small_path(run_dir: Path, step: int) -> Path:
    return run_dir / "previews" / "small" / f"step_{step:08d}.jpg"


def _is_plain(path: Path) -> bool:
    """True for a file, not a link; a named pipe would block until somebody writes to it."""
    return path.is_file() and not path.is_symlink()
