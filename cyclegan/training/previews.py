"""The run's fixed images, translated and brought back, as one picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cyclegan.data.augment import Preparation
from cyclegan.data.folders import domain_files, domain_place
from cyclegan.data.images import UnreadableImage, read_image
from cyclegan.data.reading import ImageFile
from cyclegan.settings import TrainSettings
from cyclegan.translate.translator import Translator

COUNT = 4
CELL = 224
# Larger images are cut to their middle: a preview must not cost more than the steps round it.
LARGEST = 512
_HEADER = 18

_COLUMNS = ("real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B")


class Previews:
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
        self.images_A = _fixed(settings, "A", files_A, prepare[0])
        self.images_B = _fixed(settings, "B", files_B, prepare[1])

    def draw(self, G_AB: Translator, G_BA: Translator) -> Image.Image:
        """Rows of real_A, fake_B, rec_A and real_B, fake_A, rec_B."""
        rows = max(len(self.images_A), len(self.images_B))
        sheet = Image.new("RGB", (len(_COLUMNS) * CELL, _HEADER + rows * CELL), "white")
        pen = ImageDraw.Draw(sheet)
        for column, name in enumerate(_COLUMNS):
            pen.text((column * CELL + 4, 3), name, fill="black")
        for images, there, back, first in (
            (self.images_A, G_AB, G_BA, 0),
            (self.images_B, G_BA, G_AB, 3),
        ):
            for row, image in enumerate(images):
                fake = there(image)
                for offset, cell in enumerate((image, fake, back(fake))):
                    corner = ((first + offset) * CELL, _HEADER + row * CELL)
                    sheet.paste(_fit(cell), corner)
        return sheet


def _fixed(
    settings: TrainSettings, domain: str, training: Sequence[ImageFile], prepare: Preparation
) -> list[Image.Image]:
    place = domain_place(settings, "test", domain)
    files = (domain_files(settings, place).files if place else []) or list(training)
    images: list[Image.Image] = []
    # Spread over the folder: neighbours by name are often of one scene.
    for index in np.linspace(0, len(files) - 1, min(COUNT, len(files))).round().astype(int):
        try:
            images.append(_middle(prepare.resize(read_image(files[index]))))
        except UnreadableImage:
            continue
    return images


def _middle(image: Image.Image) -> Image.Image:
    width, height = min(image.width, LARGEST), min(image.height, LARGEST)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _fit(image: Image.Image) -> Image.Image:
    scale = (CELL - 4) / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
