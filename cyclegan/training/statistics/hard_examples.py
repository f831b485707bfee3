"""How well each training image was learned: its cycle errors, and the images that are worst."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from cyclegan.data.files.images import UnreadableImage, read_image
from cyclegan.data.files.reading import ImageFile
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram

# How many of each domain are named, and the side of their pictures in pixels.
WORST = 8
SIDE = 320
BINS = 40

Errors = Mapping[str, Sequence[tuple[int, float]]]


class Lessons:
    """Of each training image the cycle error, a mean over its crops of which the newest counts
    half, in levels of 255; and the step at which it was last seen, -1 before.
    """

    def __init__(self, files: tuple[Sequence[ImageFile], Sequence[ImageFile]]) -> None:
        self.files = dict(zip("AB", files, strict=True))
        self.errors = {d: np.zeros(len(f), np.float32) for d, f in self.files.items()}
        self.seen = {d: np.full(len(f), -1, np.int64) for d, f in self.files.items()}
        self._pictures: dict[ImageFile, Image.Image | None] = {}

    def update(self, step: int, errors: Errors) -> None:
        """Of each domain, places of images and their errors; what is no number is passed over."""
        for domain, pairs in errors.items():
            means = self.errors[domain]
            for place, error in pairs:
                if np.isfinite(error):
                    first = self.seen[domain][place] < 0
                    means[place] = error if first else (means[place] + error) / 2
                    self.seen[domain][place] = step

    def state_dict(self) -> dict[str, Any]:
        return {
            domain: {
                "errors": torch.from_numpy(self.errors[domain].copy()),
                "seen": torch.from_numpy(self.seen[domain].copy()),
            }
            for domain in self.files
        }

    def load(self, states: Iterable[Mapping[str, Any]]) -> None:
        """What one or several processes have seen: of each image what came last. A folder that
        holds other images than then is begun anew.
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

    def of_all(self, states: Sequence[Mapping[str, Any]]) -> "Lessons":
        """What all processes have seen."""
        if len(states) == 1:
            return self
        together = copy.copy(self)
        together.errors = {domain: errors.copy() for domain, errors in self.errors.items()}
        together.seen = {domain: seen.copy() for domain, seen in self.seen.items()}
        together.load(states)
        return together

    def hard_images(self) -> HardImages | None:
        """None before any image was brought back."""
        spread = {d: _spread(errors[self.seen[d] >= 0]) for d, errors in self.errors.items()}
        if not any(spread.values()):
            return None
        worst = {domain: tuple(self._worst(domain)) for domain in self.files}
        return HardImages({d: found for d, found in spread.items() if found}, worst)

    def _worst(self, domain: str) -> Iterable[HardImage]:
        errors = np.where(self.seen[domain] >= 0, self.errors[domain], -1.0)
        for place in np.argsort(-errors, kind="stable")[:WORST]:
            file = self.files[domain][place]
            if errors[place] >= 0 and (picture := self._picture(file)) is not None:
                yield HardImage(str(file), float(errors[place]), picture)

    def _picture(self, file: ImageFile) -> Image.Image | None:
        """Each is read once: the same ones are among the worst again and again."""
        if file not in self._pictures:
            try:
                picture = read_image(file)
                picture.thumbnail((SIDE, SIDE))
                self._pictures[file] = picture
            except UnreadableImage:
                self._pictures[file] = None
        return self._pictures[file]


def _spread(errors: np.ndarray) -> Histogram | None:
    if not len(errors):
        return None
    high = max(float(errors.max()), 1e-6)
    counts, _ = np.histogram(errors, bins=BINS, range=(0.0, high))
    return Histogram(tuple(map(int, counts)), 0.0, high)
