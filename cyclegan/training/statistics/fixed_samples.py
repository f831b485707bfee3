"""A run's fixed images: how they are translated, as a picture and in numbers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, groupby

import numpy as np
import torch
from PIL import Image
from torch import nn

from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import domain_files, domain_place
from cyclegan.data.files.images import UnreadableImage, read_image, to_tensor
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.loading.transforms import Preparation
from cyclegan.losses.adversarial import judge
from cyclegan.runs.artifacts import Preview
from cyclegan.training.state import random_states, restore_random
from cyclegan.training.statistics.preview_grid import (
    Row,
    cycle_error,
    equally_large,
    levels,
    middle,
    sheet,
)
from cyclegan.translate.translator import Translator

# Larger images are cut to their middle: a preview must not cost more than the steps round it.
LARGEST = 512

# A step of one image holds more for its gradients than these do without.
_TOGETHER = 4

# Images of any sizes are told apart at this side, which leaves no doubt about a collapse.
_THUMBNAIL = 64
# ITU-R BT.601, as Pillow's gray.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# A deviation, or a distance, of less than this many levels of 255 is rounding, and nothing is to be
# divided by it.
_FLAT = 0.5


class Probe:
    """A few images of either domain, of the test folders where those exist, else of training's.

    They are resized as in training, and translated by the code that test.py uses.
    """

    def __init__(
        self,
        settings: TrainSettings,
        files_A: Sequence[ImageFile],
        files_B: Sequence[ImageFile],
        prepare: tuple[Preparation, Preparation],
    ) -> None:
        self.names_A, self.images_A = _fixed(settings, "A", files_A, prepare[0])
        self.names_B, self.images_B = _fixed(settings, "B", files_B, prepare[1])
        # What the discriminators see in training.
        self.crops = {
            domain: way.crop_size if "crop" in way.preprocess else LARGEST
            for domain, way in zip("AB", prepare, strict=True)
        }

    def look(
        self,
        G_AB: Translator,
        G_BA: Translator,
        judges: Mapping[str, nn.Module] | None = None,
    ) -> tuple[Preview, dict[str, float]]:
        """What the generators make of the images, as one picture, and what `measure` and
        `measure_judge` say of it. `judges` are the discriminators D_A and D_B, where there are any.

        The run goes on as if nobody had looked: nothing is learned, and random states, training
        flags and buffers are afterwards what they were before.
        """
        judges = judges or {}
        with untouched([G_AB.generator, G_BA.generator, *judges.values()], G_AB.device):
            rows_A = _rows(self.names_A, self.images_A, G_AB, G_BA)
            rows_B = _rows(self.names_B, self.images_B, G_BA, G_AB)
            values = {
                **self._measured("A", rows_B, self.images_A, judges, device=G_BA.device),
                **self._measured("B", rows_A, self.images_B, judges, device=G_AB.device),
            }
        for domain, rows in (("A", rows_A), ("B", rows_B)):
            if rows:
                values[f"error_{domain}"] = float(
                    np.mean([cycle_error(row).mean() for row in rows])
                )
        return Preview(lambda: sheet(rows_A, rows_B)), values

    def _measured(
        self,
        domain: str,
        rows: Sequence[Row],
        reals: Sequence[Image.Image],
        judges: Mapping[str, nn.Module],
        *,
        device: torch.device,
    ) -> dict[str, float]:
        values = measure(rows, reals)
        if (D := judges.get(f"D_{domain}")) is not None:
            shown = {True: reals, False: [row.fake for row in rows]}
            values |= measure_judge(D, shown, side=self.crops[domain], device=device)
        return {f"{name}_{domain}": value for name, value in values.items()}


def measure(rows: Sequence[Row], reals: Sequence[Image.Image]) -> dict[str, float]:
    """Of translations into a domain, beside their inputs and real images of the domain:

    contrast: the mean deviation of their luminance over that of real images.
    colour: how far their mean colour is from that of real images, in levels of 255 (L2 of RGB).
    diversity: the mean distance between two of them over that between their inputs.
    correlation: of their luminance with the input's (Pearson), in the mean.
    change: the mean of |fake - input|, in levels of 255.

    What the images cannot tell is left out: a diversity of one image, a correlation of flat ones,
    a change of the size.
    """
    if not rows:
        return {}
    pairs = [equally_large(row.fake, row.real) for row in rows]
    values: dict[str, float] = {}
    # What was enlarged is to be its input once it is reduced again: there a copy is no fault.
    if all(row.fake.size == row.real.size for row in rows):
        values["change"] = float(np.mean([np.abs(fake - real).mean() for fake, real in pairs]))
    known = [c for fake, real in pairs if (c := _correlation(fake, real)) is not None]
    if known:
        values["correlation"] = float(np.mean(known))
    if len(rows) > 1 and (between := _distance([row.real for row in rows])) > _FLAT:
        values["diversity"] = _distance([row.fake for row in rows]) / between
    if reals:
        made, wanted = [levels(row.fake) for row in rows], [levels(image) for image in reals]
        values["colour"] = float(np.linalg.norm(_colour(made) - _colour(wanted)))
        if (contrast := _contrast(wanted)) > _FLAT:
            values["contrast"] = _contrast(made) / contrast
    return values


def measure_judge(
    D: nn.Module,
    shown: Mapping[bool, Sequence[Image.Image]],
    *,
    side: int,
    device: torch.device,
) -> dict[str, float]:
    """What a discriminator gives `crops`, of at most `side` pixels, of images that are shown to it
    as real (True) and as fake: score_real and score_fake, its mean outputs, and pairs, the share
    of pairs of a real and a fake output that it puts in the right order. Of several maps, the mean.

    Empty where it can judge none of either kind, as images that are too small for it.
    """
    maps = {real: list(_judged(D, images, real, side, device)) for real, images in shown.items()}
    if not maps[True] or not maps[False]:
        return {}
    # By map, the outputs of all images together.
    reals, fakes = ([np.concatenate(m) for m in zip(*maps[r], strict=True)] for r in (True, False))
    return {
        "pairs": float(np.mean([in_order(r, f) for r, f in zip(reals, fakes, strict=True)])),
        "score_real": float(np.mean([each.mean() for each in reals])),
        "score_fake": float(np.mean([each.mean() for each in fakes])),
    }


def crops(image: Image.Image, side: int) -> Iterator[Image.Image]:
    """The middle; of each half, or quarter, where the image has room for so many."""
    across, down = (2 if length >= 2 * side else 1 for length in image.size)
    width, height = image.width // across, image.height // down
    for left in range(0, across * width, width):
        for top in range(0, down * height, height):
            yield middle(image.crop((left, top, left + width, top + height)), side)


def in_order(reals: np.ndarray, fakes: np.ndarray) -> float:
    """The share of pairs in which the real value is the larger; equal ones count half (Mann and
    Whitney, 1947). By sorting, not pair by pair.
    """
    fakes = np.sort(fakes)
    below, not_above = (np.searchsorted(fakes, reals, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(fakes)))


@contextmanager
def untouched(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Afterwards the networks and all random states are as before; noise is the same every time."""
    random = random_states(device)
    modules = [module for network in networks for module in network.modules()]
    flags = [(module, module.training) for module in modules]
    buffers = [
        (m, n, b, b.clone()) for m in modules for n, b in m._buffers.items() if b is not None
    ]
    searches = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = searches
        restore_random(random, device)
        for module, training in flags:
            module.training = training
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer.copy_(value)


def _judged(
    D: nn.Module, images: Sequence[Image.Image], real: bool, side: int, device: torch.device
) -> Iterator[list[np.ndarray]]:
    """One crop at a time: sizes may differ, and a GPU may have no memory for more. As in training:
    a spectral norm in evaluation never comes to know fresh weights.
    """
    for crop in (crop for image in images for crop in crops(image, side)):
        batch = to_tensor(crop)[None].to(device)
        try:
            with torch.no_grad():
                maps = [each.flatten().cpu().numpy() for each in judge(D, batch, real=real)]
        except (RuntimeError, ValueError):
            # Smaller than what it looks at.
            continue
        if all(np.isfinite(each).all() for each in maps):
            yield maps


def _rows(
    names: Sequence[str], images: Sequence[Image.Image], there: Translator, back: Translator
) -> list[Row]:
    fakes = _translated(images, there)
    made = zip(names, images, fakes, _translated(fakes, back), strict=True)
    return [Row(name, real, fake, rec) for name, real, fake, rec in made]


def _translated(images: Sequence[Image.Image], translator: Translator) -> list[Image.Image]:
    """Those of one size that follow each other go together, but no more than a training step may
    have had room for.
    """
    made: list[Image.Image] = []
    for _, group in groupby(images, key=lambda image: image.size):
        same = list(group)
        for start in range(0, len(same), _TOGETHER):
            made += translator.batch(same[start : start + _TOGETHER])
    return made


def _fixed(
    settings: TrainSettings, domain: str, training: Sequence[ImageFile], prepare: Preparation
) -> tuple[list[str], list[Image.Image]]:
    """Names and images, in the order of the folder."""
    place = domain_place(settings, "test", domain)
    files = (domain_files(settings, place).files if place else []) or list(training)
    largest = LARGEST // settings.smaller(domain)
    images: list[tuple[str, Image.Image]] = []
    # Spread over the folder: neighbours by name are often of one scene.
    count = min(settings.num_previews, len(files))
    for index in np.linspace(0, len(files) - 1, count).round().astype(int):
        try:
            image = prepare.resize(read_image(files[index]))
        except UnreadableImage:
            continue
        images.append((files[index].name, middle(image, largest)))
    return [name for name, _ in images], [image for _, image in images]


def _correlation(image: np.ndarray, other: np.ndarray) -> float | None:
    """Of the luminances; None where one of them is flat."""
    gray, its = image @ _LUMINANCE, other @ _LUMINANCE
    if min(gray.std(), its.std()) < _FLAT:
        return None
    return float(np.corrcoef(gray.ravel(), its.ravel())[0, 1])


def _contrast(images: Sequence[np.ndarray]) -> float:
    return float(np.mean([(image @ _LUMINANCE).std() for image in images]))


def _colour(images: Sequence[np.ndarray]) -> np.ndarray:
    colours: np.ndarray = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    return colours


def _distance(images: Sequence[Image.Image]) -> float:
    """The mean root mean square between two of them, in levels of 255."""
    size = (_THUMBNAIL, _THUMBNAIL)
    small = [levels(image.resize(size, Image.Resampling.BICUBIC)) for image in images]
    return float(np.mean([np.sqrt(np.square(a - b).mean()) for a, b in combinations(small, 2)]))
