"""The fixed images of a run: their translations as a picture and in numbers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby

import numpy as np
import torch
from PIL import Image
from torch import nn

from cyclegan.data.files.images import UnreadableImage, read_image, to_tensor
from cyclegan.data.files.reading import ImageFile
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.losses.adversarial import discriminator_logits
from cyclegan.runs.artifacts import Preview
from cyclegan.training.state import preserve_state
from cyclegan.training.statistics.preview_grid import (
    PreviewRow,
    center_crop,
    cycle_error,
    draw_grid,
    pixels,
    pixels_at_same_size,
)
from cyclegan.translate.translator import Translator

# Larger images are cropped to their center, so that a preview costs little beside a step.
MAX_SIDE = 512

# A training step of one image needs more memory than the translation of this many.
_BATCH_SIZE = 4

# Images of any sizes are compared at this side, which is enough to see a collapse.
_THUMBNAIL_SIDE = 64
# ITU-R BT.601, as in Pillow's gray.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# Standard deviations and distances below this many levels of 255 are rounding: no divisor.
_FLAT = 0.5


class FixedSamples:
    """A few images of each domain, resized as in training and translated as test.py does it."""

    def __init__(
        self,
        files_A: Sequence[ImageFile],
        files_B: Sequence[ImageFile],
        transforms: tuple[ImageTransform, ImageTransform],
        *,
        count: int,
        scale: int = 1,
    ) -> None:
        """scale: how many times larger the images of B are."""
        transform_A, transform_B = transforms
        self.names_A, self.images_A = _read(files_A, transform_A, count, MAX_SIDE // scale)
        self.names_B, self.images_B = _read(files_B, transform_B, count, MAX_SIDE)
        # The side of the images that the discriminators see in training.
        self.crops = {
            domain: each.crop_size if "crop" in each.preprocess else MAX_SIDE
            for domain, each in zip("AB", transforms, strict=True)
        }

    def evaluate(
        self,
        G_AB: Translator,
        G_BA: Translator,
        discriminators: Mapping[str, nn.Module] | None = None,
    ) -> tuple[Preview, dict[str, float]]:
        """A picture of the translations, and the values of `measure` and `measure_scores` with
        the suffix of their domain. The discriminators are D_A and D_B, as far as they exist.

        Changes nothing: random states, training flags and buffers are restored afterwards.
        """
        discriminators = discriminators or {}
        networks = [G_AB.generator, G_BA.generator, *discriminators.values()]
        with preserve_state(networks, G_AB.device):
            rows_A = _rows(self.names_A, self.images_A, G_AB, G_BA)
            rows_B = _rows(self.names_B, self.images_B, G_BA, G_AB)
            values = {
                **self._measure("A", rows_B, self.images_A, discriminators, G_BA.device),
                **self._measure("B", rows_A, self.images_B, discriminators, G_AB.device),
            }
        for domain, rows in (("A", rows_A), ("B", rows_B)):
            if rows:
                values[f"error_{domain}"] = float(
                    np.mean([cycle_error(row).mean() for row in rows])
                )
        return Preview(lambda: draw_grid(rows_A, rows_B)), values

    def _measure(
        self,
        domain: str,
        rows: Sequence[PreviewRow],
        reals: Sequence[Image.Image],
        discriminators: Mapping[str, nn.Module],
        device: torch.device,
    ) -> dict[str, float]:
        values = measure(rows, reals)
        if (D := discriminators.get(f"D_{domain}")) is not None:
            images = {True: reals, False: [row.fake for row in rows]}
            values |= measure_scores(D, images, side=self.crops[domain], device=device)
        return {f"{name}_{domain}": value for name, value in values.items()}


def measure(rows: Sequence[PreviewRow], reals: Sequence[Image.Image]) -> dict[str, float]:
    """Measures translations into a domain against their inputs and real images of the domain:

    contrast: mean standard deviation of their luminance over that of real images.
    colour: L2 distance of their mean RGB colour from that of real images, in levels of 255.
    diversity: mean distance between two of them over that between their inputs.
    correlation: mean Pearson correlation of their luminance with that of the input.
    change: mean of |fake - input|, in levels of 255.

    Leaves out what the images cannot tell: the diversity of one image, the correlation of flat
    images, the change of an image that was resized.
    """
    if not rows:
        return {}
    pairs = [pixels_at_same_size(row.fake, row.real) for row in rows]
    values: dict[str, float] = {}
    # An enlarged image should equal its input once it is reduced: such a copy is no fault.
    if all(row.fake.size == row.real.size for row in rows):
        values["change"] = float(np.mean([np.abs(fake - real).mean() for fake, real in pairs]))
    known = [c for fake, real in pairs if (c := _correlation(fake, real)) is not None]
    if known:
        values["correlation"] = float(np.mean(known))
    if len(rows) > 1 and (between := _distance([row.real for row in rows])) > _FLAT:
        values["diversity"] = _distance([row.fake for row in rows]) / between
    if reals:
        made, target = [pixels(row.fake) for row in rows], [pixels(image) for image in reals]
        values["colour"] = float(np.linalg.norm(_colour(made) - _colour(target)))
        if (contrast := _contrast(target)) > _FLAT:
            values["contrast"] = _contrast(made) / contrast
    return values


def measure_scores(
    D: nn.Module,
    images: Mapping[bool, Sequence[Image.Image]],
    *,
    side: int,
    device: torch.device,
) -> dict[str, float]:
    """The scores that a discriminator gives crops of at most `side` pixels of real (True) and fake
    images: score_real and score_fake, its mean outputs, and pairs, the fraction of pairs of a real
    and a fake output that it ranks in the right order; the mean over several output maps.

    Empty if one kind of image is too small for the discriminator.
    """
    maps = {real: list(_scores(D, each, real, side, device)) for real, each in images.items()}
    if not maps[True] or not maps[False]:
        return {}
    # For each output map, the values of all images.
    reals, fakes = ([np.concatenate(m) for m in zip(*maps[r], strict=True)] for r in (True, False))
    return {
        "pairs": float(np.mean([rank_auc(r, f) for r, f in zip(reals, fakes, strict=True)])),
        "score_real": float(np.mean([each.mean() for each in reals])),
        "score_fake": float(np.mean([each.mean() for each in fakes])),
    }


def crops(image: Image.Image, side: int) -> Iterator[Image.Image]:
    """The center of the image, or of each half or quarter if the image has room for them."""
    across, down = (2 if length >= 2 * side else 1 for length in image.size)
    width, height = image.width // across, image.height // down
    for left in range(0, across * width, width):
        for top in range(0, down * height, height):
            yield center_crop(image.crop((left, top, left + width, top + height)), side)


def rank_auc(reals: np.ndarray, fakes: np.ndarray) -> float:
    """The fraction of pairs in which the real value is larger; equal values count half (Mann and
    Whitney, 1947).
    """
    fakes = np.sort(fakes)
    below, not_above = (np.searchsorted(fakes, reals, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(fakes)))


def _scores(
    D: nn.Module, images: Sequence[Image.Image], real: bool, side: int, device: torch.device
) -> Iterator[list[np.ndarray]]:
    """The output maps for one crop at a time: sizes differ, and memory may be short. In training
    mode: in evaluation, spectral norm would not follow the latest weights.
    """
    for crop in (crop for image in images for crop in crops(image, side)):
        batch = to_tensor(crop)[None].to(device)
        try:
            with torch.no_grad():
                logits = discriminator_logits(D, batch, real=real)
                maps = [each.flatten().cpu().numpy() for each in logits]
        except (RuntimeError, ValueError):
            # The crop is smaller than the receptive field.
            continue
        if all(np.isfinite(each).all() for each in maps):
            yield maps


def _rows(
    names: Sequence[str], images: Sequence[Image.Image], forth: Translator, back: Translator
) -> list[PreviewRow]:
    fakes = _translate(images, forth)
    made = zip(names, images, fakes, _translate(fakes, back), strict=True)
    return [PreviewRow(name, real, fake, rec) for name, real, fake, rec in made]


def _translate(images: Sequence[Image.Image], translator: Translator) -> list[Image.Image]:
    """Translates neighbours of one size in small batches."""
    made: list[Image.Image] = []
    for _, group in groupby(images, key=lambda image: image.size):
        same = list(group)
        for start in range(0, len(same), _BATCH_SIZE):
            made += translator.batch(same[start : start + _BATCH_SIZE])
    return made


def _read(
    files: Sequence[ImageFile], transform: ImageTransform, count: int, max_side: int
) -> tuple[list[str], list[Image.Image]]:
    """Names and images, in the order of the files."""
    images: list[tuple[str, Image.Image]] = []
    # Evenly spaced: neighbours by name often show one scene.
    for index in np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int):
        try:
            image = transform.resize(read_image(files[index]))
        except UnreadableImage:
            continue
        images.append((files[index].name, center_crop(image, max_side)))
    return [name for name, _ in images], [image for _, image in images]


def _correlation(image: np.ndarray, other: np.ndarray) -> float | None:
    """Correlation of the luminances; None if one of the images is flat."""
    first, second = image @ _LUMINANCE, other @ _LUMINANCE
    if min(first.std(), second.std()) < _FLAT:
        return None
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _contrast(images: Sequence[np.ndarray]) -> float:
    return float(np.mean([(image @ _LUMINANCE).std() for image in images]))


def _colour(images: Sequence[np.ndarray]) -> np.ndarray:
    colours: np.ndarray = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    return colours


def _distance(images: Sequence[Image.Image]) -> float:
    """The mean root mean square difference between two of them, in levels of 255."""
    size = (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
    small = [pixels(image.resize(size, Image.Resampling.BICUBIC)) for image in images]
    return float(np.mean([np.sqrt(np.square(a - b).mean()) for a, b in combinations(small, 2)]))
