"""The cycle error of each training image, and the images with the largest errors."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram

# The number of images shown for each domain, and the longest side of their thumbnails in pixels.
NUM_SHOWN = 8
THUMBNAIL_SIDE = 320
BINS = 40


class HardExamples:
    """The cycle error of each training image on the scale 0 to 255, as a running mean in which the
    newest crop counts half; and the step at which the image was last seen, -1 before that.
    """

    def __init__(self, files: tuple[Sequence[ImageFile], Sequence[ImageFile]]) -> None:
        self.files = dict(zip("AB", files, strict=True))
        self.errors = {d: np.zeros(len(f), np.float32) for d, f in self.files.items()}
        self.seen = {d: np.full(len(f), -1, np.int64) for d, f in self.files.items()}
        self._thumbnails: dict[ImageFile, Image.Image | None] = {}

    def update(self, step: int, errors: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Takes pairs of image index and error by domain; skips errors that are not finite."""
        for domain, pairs in errors.items():
            means = self.errors[domain]
            for index, error in pairs:
                if np.isfinite(error):
                    first = self.seen[domain][index] < 0
                    means[index] = error if first else (means[index] + error) / 2
                    self.seen[domain][index] = step

    def state_dict(self) -> dict[str, Any]:
        return {
            domain: {
                "errors": torch.from_numpy(self.errors[domain].copy()),
                "seen": torch.from_numpy(self.seen[domain].copy()),
            }
            for domain in self.files
        }

    def load_state_dicts(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Loads the states of one or several ranks; for each image the latest error counts. The
        errors of a domain start anew if its number of images has changed.
        """
        for domain in self.files:
            self.errors[domain].fill(0)
            self.seen[domain].fill(-1)
        for state in states:
            for domain, kept in state.items():
                errors, seen = kept["errors"].numpy(), kept["seen"].numpy()
                if len(seen) != len(self.seen[domain]):
                    continue
                later = seen > self.seen[domain]
                self.errors[domain][later] = errors[later]
                self.seen[domain][later] = seen[later]

    def merged(self, states: Sequence[Mapping[str, Any]]) -> "HardExamples":
        """The errors that all ranks have seen, from their states."""
        if len(states) == 1:
            return self
        merged = copy.copy(self)
        merged.errors = {domain: errors.copy() for domain, errors in self.errors.items()}
        merged.seen = {domain: seen.copy() for domain, seen in self.seen.items()}
        merged.load_state_dicts(states)
        return merged

    def shown(self) -> HardImages | None:
        """What monitors show; None before the first image was reconstructed."""
        histograms = {d: _histogram(each[self.seen[d] >= 0]) for d, each in self.errors.items()}
        if not any(histograms.values()):
            return None
        worst = {domain: tuple(self._worst(domain)) for domain in self.files}
        return HardImages({d: found for d, found in histograms.items() if found}, worst)

    def _worst(self, domain: str) -> Iterator[HardImage]:
        errors = np.where(self.seen[domain] >= 0, self.errors[domain], -1.0)
        for index in np.argsort(-errors, kind="stable")[:NUM_SHOWN]:
            file = self.files[domain][index]
            if errors[index] >= 0 and (thumbnail := self._thumbnail(file)) is not None:
                yield HardImage(str(file), float(errors[index]), thumbnail)

    def _thumbnail(self, file: ImageFile) -> Image.Image | None:
        """Reads each file once: the same images stay among the worst."""
        if file not in self._thumbnails:
            try:
                image = read_image(file)
                image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                self._thumbnails[file] = image
            except UnreadableImage:
                self._thumbnails[file] = None
        return self._thumbnails[file]


def _histogram(errors: np.ndarray) -> Histogram | None:
    if not len(errors):
        return None
    high = max(float(errors.max()), 1e-6)
    counts, _ = np.histogram(errors, bins=BINS, range=(0.0, high))
    return Histogram(tuple(map(int, counts)), 0.0, high)
