"""What monitors show of a run besides its curves: previews, health, histograms, hard images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from cyclegan.data.files.jpeg import preview_jpeg


class Preview:
    """Translations of the run's fixed images in one picture.

    A callable draws the picture when it is first needed, in whatever thread.
    """

    def __init__(self, image: Image.Image | Callable[[], Image.Image]) -> None:
        self._image = image
        self._jpeg = b""
        self._lock = Lock()

    @property
    def image(self) -> Image.Image:
        with self._lock:
            return self._draw()

    @property
    def jpeg(self) -> bytes:
        """The picture for pages, encoded once."""
        with self._lock:
            self._jpeg = self._jpeg or preview_jpeg(self._draw())
            return self._jpeg

    def copy(self) -> "Preview":
        """A preview whose picture may be changed."""
        return Preview(lambda: self.image.copy())

    def _draw(self) -> Image.Image:
        if not isinstance(self._image, Image.Image):
            self._image = self._image()
        return self._image


@dataclass(frozen=True)
class Alarm:
    """A fault: what the metrics show, what that usually means, and what to try.

    `name` and `where` identify it, as in ("collapse", "G_AB").
    """

    name: str
    where: str
    saw: str
    means: str
    remedy: str


@dataclass(frozen=True)
class Health:
    """A line of plain text for each thing that is watched, and the alarms."""

    lines: tuple[str, ...]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True)
class Histogram:
    """`counts` of values in bins of equal width from `low` to `high`."""

    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Histograms:
    """By "weights/G_AB/<layer>", "gradients/..." and "activations/..."."""

    by_name: Mapping[str, Histogram]


@dataclass(frozen=True)
class HardImage:
    """A training image and its cycle error, the mean of |rec - real| in levels of 255."""

    file: str
    error: float
    thumbnail: Image.Image


@dataclass(frozen=True)
class HardImages:
    """By domain, the distribution of the training images' cycle errors, and the images with the
    largest ones, the worst first.
    """

    spread: Mapping[str, Histogram]
    worst: Mapping[str, tuple[HardImage, ...]]


Artifact = Preview | Health | Histograms | HardImages
