"""The previews on the page's slider, over a run's whole time: bounded however long it is."""

import bisect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cyclegan.data.images import UnreadableImage, read_image
from cyclegan.monitor.pictures import jpeg

MAX_FRAMES = 40
# Wider than the page shows it, for a look from nearby; on its way it is a third larger.
FRAME_WIDTH, FRAME_BYTES = 1400, 200_000


@dataclass(eq=False)
class Frame:
    """A preview: as a picture, as its file, or as the JPEG that the page gets."""

    step: int
    path: Path | None = None
    image: Image.Image | None = None
    data: bytes = b""

    def encode(self) -> bytes:
        """The JPEG, made once; raises UnreadableImage where the picture is gone."""
        if not self.data:
            image = self.image
            if image is None:
                if self.path is None or self.path.is_symlink():
                    raise UnreadableImage("there is no file of it")
                image = read_image(self.path)
            self.data = jpeg(image, most=FRAME_BYTES, width=FRAME_WIDTH)
            self.image = None
        return self.data


class Frames:
    """Previews over a run's whole time: the first, the newest, and some between, evenly spread."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._frames: list[Frame] = []

    def find(self) -> dict[int, Path]:
        """The run's files, by step; raises OSError where the folder cannot be read."""
        found: dict[int, Path] = {}
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.iterdir():
                if match := re.fullmatch(r"step_(\d{1,12})\.png", path.name):
                    found[int(match[1])] = path
        return found

    def take_up(self, found: Mapping[int, Path], *, before: float) -> int:
        """Begins with these files, of steps before that one; gives the last step, or -1."""
        earlier = [Frame(step, found[step]) for step in sorted(found) if step < before]
        self._frames = _spread(earlier, MAX_FRAMES - len(self._frames)) + self._frames
        return self._frames[-1].step if self._frames else -1

    def add(self, step: int, image: Image.Image) -> None:
        self.forget(step)
        # One picture at most waits in memory; those before it are found again in their files.
        for frame in self._frames:
            frame.image = None
        path = None if self._folder is None else self._folder / f"step_{step:08d}.png"
        self._frames.append(Frame(step, path, image))
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
