"""The previews on the page's slider, over a run's whole time: bounded however long it is."""

import bisect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cyclegan.data.files.images import UnreadableImage
from cyclegan.pages.visdom.server.frames import name_of
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.preview_files import preview_steps, small_preview

MAX_FRAMES = 200


@dataclass(eq=False)
class Frame:
    """A preview: as it is shown, as the JPEG that the page gets, or in the run's folder. Once the
    JPEG was asked for, `name` and `size` are known: of its bytes, and in pixels.
    """

    step: int
    run_dir: Path | None = None
    preview: Preview | None = None
    data: bytes = b""
    name: str = ""
    size: tuple[int, int] = (0, 0)

    def encode(self) -> bytes:
        """The JPEG; raises UnreadableImage where the picture is gone."""
        preview, data = self.preview, self.data
        if preview is not None:
            self.data = data = preview.jpeg
            self.preview = None
        elif not data:
            if self.run_dir is None:
                raise UnreadableImage("it is kept nowhere")
            data = small_preview(self.run_dir, self.step)
        self.name, self.size = name_of(data), _size(data)
        return data

    def leave_to_its_file(self) -> None:
        """Where it has one, it needs no memory."""
        self.preview = None
        if self.run_dir is not None:
            self.data = b""


class Frames:
    """Previews over a run's whole time: the first, the newest, and some between, evenly spread."""

    def __init__(self, run_dir: Path | None) -> None:
        self._run_dir = run_dir
        self._frames: list[Frame] = []

    def find(self) -> list[int]:
        """The steps in the run's folder; raises OSError where that cannot be read."""
        return preview_steps(self._run_dir) if self._run_dir else []

    def take_up(self, found: Sequence[int], *, before: float) -> int:
        """Begins with the previews of these steps `before` that; gives the last, or -1."""
        earlier = [Frame(step, self._run_dir) for step in found if step < before]
        self._frames = _spread(earlier, MAX_FRAMES - len(self._frames)) + self._frames
        return self._frames[-1].step if self._frames else -1

    def add(self, step: int, preview: Preview) -> None:
        self.forget(step)
        # One picture at most waits in memory; those before it are found again in their files.
        for frame in self._frames:
            frame.leave_to_its_file()
        self._frames.append(Frame(step, self._run_dir, preview))
        if len(self._frames) > MAX_FRAMES:
            # Of those between, the one that leaves the smallest gap.
            steps = [frame.step for frame in self._frames]
            gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
            del self._frames[1 + gaps.index(min(gaps))]

    def forget(self, step: int) -> None:
        """Drops the previews of that step and later ones."""
        self._frames = [frame for frame in self._frames if frame.step < step]

    def drop(self, frame: Frame) -> None:
        """Gives up on one that cannot be read."""
        self._frames = [other for other in self._frames if other is not frame]

    def copy(self) -> list[Frame]:
        return self._frames.copy()


def _spread(frames: list[Frame], most: int) -> list[Frame]:
    """At most so many: the first, the last, and those nearest to even distances in steps."""
    if len(frames) <= max(2, most):
        return frames
    steps = [frame.step for frame in frames]
    chosen = set()
    for index in range(most):
        wanted = steps[0] + (steps[-1] - steps[0]) * index / (most - 1)
        right = bisect.bisect_left(steps, wanted)
        near = (steps[place] for place in (right - 1, right) if 0 <= place < len(steps))
        chosen.add(min(near, key=lambda step: abs(step - wanted)))
    return [frame for frame in frames if frame.step in chosen]


def _size(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.width, image.height
