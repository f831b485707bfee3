"""A checkpoint as a callable: images in, images of the same size (times its scale) out."""

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
from cyclegan.networks.build import build_generator
from cyclegan.networks.infer import generator_expression
from cyclegan.presets import SETTINGS_FILE
from cyclegan.settings import Direction, resolve_device

# Reflected borders inside the networks need a few pixels at their narrowest layer.
_SMALLEST_SIDE = 16


class Translator:
    """Translates 8-bit RGB images of any size with one generator.

    A side that the network cannot take is padded by reflection, and the result is cropped back:
    the output has the size of the input, times the generator's scale (a reducing one rounds up).

        Translator.load("checkpoints/lr2hr")(Image.open("photo.jpg")).save("better.png")
    """

    def __init__(self, generator: nn.Module, *, device: torch.device, made: float = 0.0) -> None:
        self.generator = generator.to(device)
        self.device = device
        # When the weights were written, in seconds of the epoch; 0 where they come from no file.
        self.made = made
        self.multiple = int(getattr(generator, "multiple", 1))
        self.scale = int(getattr(generator, "scale", 1))
        self.shrink = int(getattr(generator, "shrink", 1))
        self.smallest = max(_SMALLEST_SIDE, int(getattr(generator, "min_size", 4 * self.multiple)))

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
        generator = build_generator(run_settings(path), name, trusted=trusted)
        return cls._with(generator, weights, device=device)

    @classmethod
    def _load_file(cls, path: Path, *, device: str, trusted: bool) -> "Translator":
        beside = path.parent / SETTINGS_FILE
        names = {f"net_{classic}.pth": name for name, classic in checkpoint.CLASSIC_NAMES.items()}
        name = names.get(path.name.partition("_")[2], "")
        if beside.is_file() and name.startswith("G"):
            generator = build_generator(run_settings(path.parent), name, trusted=trusted)
        else:
            text = generator_expression(checkpoint.load_weights(path), source=path)
            generator = spec.build(
                spec.parse_one(text, slot="generator"), GENERATORS, slot="generator"
            )
        return cls._with(generator, path, device=device)

    @classmethod
    def _with(cls, generator: nn.Module, weights: Path, *, device: str) -> "Translator":
        checkpoint.fit_weights(generator, checkpoint.load_weights(weights), source=weights)
        return cls(generator, device=resolve_device(device), made=weights.stat().st_mtime)

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
        """N x 3 x H x W in [-1, 1], on any device, to the same shape times `scale` on the CPU."""
        height, width = (-(-side * self.scale // self.shrink) for side in images.shape[-2:])
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
        return -(-max(side, self.smallest) // self.multiple) * self.multiple
