"""A checkpoint as a callable: images in, images of the same size out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan import checkpoint, spec
from cyclegan.command_line import run_settings
from cyclegan.data.images import read_image, to_image, to_rgb, to_tensor
from cyclegan.networks import GENERATORS
from cyclegan.networks.infer import generator_expression
from cyclegan.settings import SETTINGS_FILE, Direction, resolve_device

# Reflected borders inside the networks need a few pixels at their narrowest layer.
_SMALLEST_SIDE = 16


class Translator:
    """Translates 8-bit RGB images of any size with one generator.

    A side that the network cannot take is padded by reflection, and the result is cropped back:
    the output has the size of the input.

        Translator.load("checkpoints/lr2hr")(Image.open("photo.jpg")).save("better.png")
    """

    def __init__(self, generator: nn.Module, *, device: torch.device) -> None:
        self.generator = generator.to(device)
        self.device = device
        self.multiple = int(getattr(generator, "multiple", 1))

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        direction: Direction = "AtoB",
        epoch: str | int = "latest",
        device: str = "auto",
        trusted: bool = False,
    ) -> "Translator":
        """From a run's folder, or from one generator's .pth file.

        Raises UserError where the folder holds no such checkpoint, or the file is of another
        kind. trusted=True allows a run's settings to name networks by import path.
        """
        path = Path(source).expanduser()
        if not path.is_dir():
            return cls._load_file(path, device=device, trusted=trusted)
        name = "G_AB" if direction == "AtoB" else "G_BA"
        weights = checkpoint.weights_path(path, epoch, name)
        settings = run_settings(path)
        expression = settings.generator_of(name), settings.ngf
        return cls._assemble(weights, expression, device=device, trusted=trusted)

    @classmethod
    def _load_file(cls, path: Path, *, device: str, trusted: bool) -> "Translator":
        beside = path.parent / SETTINGS_FILE
        expression = None
        names = {f"net_{classic}.pth": name for name, classic in checkpoint.CLASSIC_NAMES.items()}
        name = names.get(path.name.partition("_")[2], "")
        if beside.is_file() and name.startswith("G"):
            settings = run_settings(path.parent)
            expression = settings.generator_of(name), settings.ngf
        return cls._assemble(path, expression, device=device, trusted=trusted)

    @classmethod
    def _assemble(
        cls, path: Path, expression: tuple[str, int] | None, *, device: str, trusted: bool
    ) -> "Translator":
        weights = checkpoint.load_weights(path)
        text, channels = expression or (generator_expression(weights, source=path), 64)
        term = spec.parse_one(text, slot="generator")
        generator = spec.build(
            term, GENERATORS, slot="generator", trusted=trusted, channels=channels
        )
        checkpoint.fit_weights(generator, weights, source=path)
        return cls(generator, device=resolve_device(device))

    def __call__(self, image: Image.Image | str | Path) -> Image.Image:
        """One image, or the path of one, to its translation of the same size."""
        if not isinstance(image, Image.Image):
            image = read_image(Path(image))
        return self.batch([to_rgb(image)])[0]

    def batch(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """RGB images of one size, translated together."""
        stacked = torch.stack([to_tensor(image) for image in images])
        return [to_image(image) for image in self.tensor(stacked)]

    @torch.inference_mode()
    def tensor(self, images: Tensor) -> Tensor:
        """N x 3 x H x W in [-1, 1], on any device, to the same shape on the CPU."""
        height, width = images.shape[-2:]
        was_training = self.generator.training
        self.generator.eval()
        try:
            padded = self._pad(images).to(self.device)
            translated: Tensor = self.generator(padded)
        finally:
            self.generator.train(was_training)
        return translated[..., :height, :width].float().cpu()

    def _pad(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        down, right = (self._padded(side) - side for side in (height, width))
        if not down and not right:
            return images
        # NumPy reflects as often as needed, where torch refuses to pad by more than the image.
        borders = ((0, 0), (0, 0), (0, down), (0, right))
        return torch.from_numpy(np.pad(images.cpu().numpy(), borders, mode="reflect"))

    def _padded(self, side: int) -> int:
        return -(-max(side, _SMALLEST_SIDE, 4 * self.multiple) // self.multiple) * self.multiple
