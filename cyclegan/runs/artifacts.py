"""What a monitor shows of a run: previews, health, histograms, hard examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from cyclegan.data.files.jpeg import preview_jpeg


class Preview:
    """What the generators now make of the run's fixed images, as one picture, which may be drawn
    only when somebody, in whatever thread, first asks for it.
    """

    def __init__(self, image: Image.Image | Callable[[], Image.Image]) -> None:
        self._image = image
        self._jpeg = b""
        self._lock = Lock()

    @property
    def image(self) -> Image.Image:
        with self._lock:
            return self._drawn()

    @property
    def jpeg(self) -> bytes:
        """The picture as pages have it, made once for all of them."""
        with self._lock:
            self._jpeg = self._jpeg or preview_jpeg(self._drawn())
            return self._jpeg

    def copy(self) -> "Preview":
        """The same for somebody who may draw on it, or make it smaller."""
        return Preview(lambda: self.image.copy())

    def _drawn(self) -> Image.Image:
        if not isinstance(self._image, Image.Image):
            self._image = self._image()
        return self._image


@dataclass(frozen=True)
class Alarm:
    """Something that a run's numbers say is wrong: what was seen, what that usually means, and
    what to try. `name` and `where` tell it from others, as in ("collapse", "G_AB").
    """

    name: str
    where: str
    saw: str
    means: str
    remedy: str


@dataclass(frozen=True)
class Health:
    """How a run is, in plain words: a line for each thing that is watched, and what is wrong."""

    lines: tuple[str, ...]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True)
class Histogram:
    """How values are spread: `counts` of them in equally wide bins from `low` to `high`."""

    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Histograms:
    """Of a network's layers, by "weights/G_AB/<layer>", "gradients/..." and "activations/..."."""

    of: Mapping[str, Histogram]


@dataclass(frozen=True)
class HardImage:
    """A training image and its cycle error, the mean of |rec - real| in levels of 255."""

    file: str
    error: float
    thumbnail: Image.Image


@dataclass(frozen=True)
class HardImages:
    """By domain, "A" and "B": how the cycle errors of the training images are spread, and those
    that are learned worst, the worst first.
    """

    spread: Mapping[str, Histogram]
    worst: Mapping[str, tuple[HardImage, ...]]


Exhibit = Preview | Health | Histograms | HardImages
