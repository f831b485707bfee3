"""The previews on the page's slider, whose number is bounded however long a run is."""

import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cyclegan.data.files.images import UnreadableImage
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.preview_files import preview_steps, small_preview

MAX_FRAMES = 200


@dataclass(eq=False)
class SliderFrame:
    """A preview in memory, as a JPEG, or in its file. `size`, in pixels, is known after the first
    `encode`; `name` is what our server calls the JPEG.
    """

    step: int
    run_dir: Path | None = None
    preview: Preview | None = None
    data: bytes = b""
    name: str = ""
    size: tuple[int, int] = (0, 0)
    is_readable: bool = True

    def encode(self) -> bytes:
        """The JPEG; raises UnreadableImage if the picture is gone."""
        data = self.data
        if self.preview is not None:
            self.data = data = self.preview.jpeg
            self.preview = None
        elif not data:
            if self.run_dir is None:
                raise UnreadableImage("it is kept nowhere")
            data = small_preview(self.run_dir, self.step)
        with Image.open(io.BytesIO(data)) as image:
            self.size = image.size
        return data

    def release(self) -> None:
        """Frees the picture's memory, if it has a file."""
        self.preview = None
        if self.run_dir is not None:
            self.data = b""


class PreviewSlider:
    """The first preview, the newest, and some evenly spread between them."""

    def __init__(self, run_dir: Path | None) -> None:
        self._run_dir = run_dir
        self._frames: list[SliderFrame] = []

    def find(self) -> list[int]:
        """The steps of the previews in the run's folder; raises OSError if it cannot be read."""
        return preview_steps(self._run_dir) if self._run_dir else []

    def prepend(self, steps: Sequence[int], *, before: float) -> int:
        """Puts the previews of these steps, as far as they are earlier than `before`, in front;
        returns the last step on the slider, or -1.
        """
        earlier = [step for step in steps if step < before]
        chosen = _evenly_spread(earlier, MAX_FRAMES - len(self._frames))
        self._frames[:0] = [SliderFrame(step, self._run_dir) for step in chosen]
        return self._frames[-1].step if self._frames else -1

    def add(self, step: int, preview: Preview) -> None:
        self.forget(step)
        # At most one picture stays in memory; the earlier ones are read from their files.
        for frame in self._frames:
            frame.release()
        self._frames.append(SliderFrame(step, self._run_dir, preview))
        if len(self._frames) > MAX_FRAMES:
            # Drops the one that leaves the smallest gap.
            steps = [frame.step for frame in self._frames]
            gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
            del self._frames[1 + gaps.index(min(gaps))]

    def forget(self, step: int) -> None:
        """Drops the previews of that step and later ones."""
        self._frames = [frame for frame in self._frames if frame.step < step]

    def copy(self) -> list[SliderFrame]:
        return [frame for frame in self._frames if frame.is_readable]


def _evenly_spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` steps: the first, the last, and those nearest to even distances."""
    if len(steps) <= max(2, count):
        return list(steps)
    chosen = set()
    for index in range(count):
        wanted = steps[0] + (steps[-1] - steps[0]) * index / max(1, count - 1)
        right = bisect_left(steps, wanted)
        chosen.add(min(steps[max(0, right - 1) : right + 1], key=lambda s: abs(s - wanted)))
    return sorted(chosen)
