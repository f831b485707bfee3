"""A checkpoint as a callable: images in, images of the same size (times its scale) out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from cyclegan.config import expressions, parts
from cyclegan.config.command_line import run_settings
from cyclegan.config.errors import UserError
from cyclegan.config.options import Direction, check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import SETTINGS_FILE
from cyclegan.data.files.images import (
    from_levels,
    read_image,
    to_levels,
    to_rgb,
)
from cyclegan.hardware.devices import resolve_device
from cyclegan.networks import GENERATORS
from cyclegan.networks.execution import PLAIN, Running, Speed
from cyclegan.networks.factory import GENERATOR_NAMES, build_generator
from cyclegan.networks.from_weights import generator_expression
from cyclegan.runs import checkpoints
from cyclegan.translate.compiled import Compiled, Say, Size

# Reflected borders inside the networks need a few pixels at their narrowest layer.
_SMALLEST_SIDE = 16


class Translator:
    """Translates 8-bit RGB images of any size with one generator.

    A side that the network cannot take is padded by reflection, and the result is cropped back:
    the output has the size of the input, times the generator's scale (a reducing one rounds up).

        Translator.load("checkpoints/lr2hr")(Image.open("photo.jpg")).save("better.png")
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        device: torch.device,
        made: float = 0.0,
        speed: Speed = PLAIN,
    ) -> None:
        """With any `speed` but PLAIN the generator is the translator's own from here on: its
        weights may change their memory format.
        """
        self.generator = generator.to(device)
        # A network in training is called as it is: `Running` sets what training has set for itself.
        self.running = generator if speed == PLAIN else Running(generator, speed)
        self.compiled: Compiled | None = None
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
        trust_imports: bool = False,
        speed: Speed = PLAIN,
    ) -> "Translator":
        """From a run's folder, or from one generator's .pth file.

        Raises UserError where the folder holds no such checkpoint, or the file is of another
        kind, or if a run's settings name a network by import path without `trust_imports`.
        """
        path = Path(source).expanduser()
        if not path.is_dir():
            return cls._load_file(path, device=device, trust_imports=trust_imports, speed=speed)
        name = "G_AB" if direction == "AtoB" else "G_BA"
        weights = checkpoints.weights_path(path, epoch, name)
        generator = _generator(run_settings(path), name, trust_imports)
        return cls._with(generator, weights, device=device, speed=speed)

    @classmethod
    def _load_file(
        cls, path: Path, *, device: str, trust_imports: bool, speed: Speed
    ) -> "Translator":
        if path.suffix == ".safetensors" and path.is_file():
            about = checkpoints.about_shareable(path)
            if {"settings", "network"} <= about.keys():
                generator = _generator(*_told_by(about, source=path), trust_imports)
                return cls._with(generator, path, device=device, speed=speed)
        beside = path.parent / SETTINGS_FILE
        names = {f"net_{classic}.pth": name for name, classic in checkpoints.CLASSIC_NAMES.items()}
        name = names.get(path.name.partition("_")[2], "")
        if beside.is_file() and name.startswith("G"):
            generator = _generator(run_settings(path.parent), name, trust_imports)
        else:
            text = generator_expression(checkpoints.load_weights(path), source=path)
            term = expressions.parse_one(text, option="generator")
            generator = parts.build(term, GENERATORS)
        return cls._with(generator, path, device=device, speed=speed)

    @classmethod
    def _with(
        cls, generator: nn.Module, weights: Path, *, device: str, speed: Speed
    ) -> "Translator":
        checkpoints.fit_weights(generator, checkpoints.load_weights(weights), source=weights)
        made = weights.stat().st_mtime
        return cls(generator, device=resolve_device(device), made=made, speed=speed)

    def __call__(self, image: Image.Image | str | Path) -> Image.Image:
        """One image, or the path of one, to its translation of the same size."""
        if not isinstance(image, Image.Image):
            image = read_image(Path(image))
        return self.batch([to_rgb(image)])[0]

    def compile(self, sizes: Mapping[Size, int], speed: Speed, *, say: Say) -> None:
        """Images of these sizes (width, height) will pass in batches of so many, and go through
        the network as `speed` has it compiled. Where it cannot be, `say` gets one line of it.
        """
        self.compiled = Compiled(Running(self.generator, speed), sizes, say=say)

    def batch(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """RGB images of one size, translated together."""
        # Few bytes go to the device and come back: what an image is inside is made there.
        levels = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
        return [Image.fromarray(image) for image in self._levels(levels, images[0].size)]

    @torch.inference_mode()
    def _levels(self, levels: np.ndarray, size: Size) -> np.ndarray:
        """N x H x W x 3 of 8 bits, in and out."""
        width, height = (-(-side * self.scale // self.shrink) for side in size)
        padded = torch.from_numpy(self._pad(levels))
        if self.device.type == "cuda":
            padded = padded.pin_memory()
        inside = from_levels(padded.to(self.device, non_blocking=True)).contiguous()
        was_training, searches = self.generator.training, torch.backends.cudnn.benchmark
        self.generator.eval()
        # Images come in many sizes: to look for the fastest convolution for each would take longer.
        torch.backends.cudnn.benchmark = False
        try:
            if self.compiled is not None and size in self.compiled.sizes:
                translated = self.compiled(inside, size, otherwise=self.running)
            else:
                translated = self.running(inside)
        finally:
            self.generator.train(was_training)
            torch.backends.cudnn.benchmark = searches
        fakes: np.ndarray = to_levels(translated[..., :height, :width]).contiguous().cpu().numpy()
        return fakes

    def _pad(self, levels: np.ndarray) -> np.ndarray:
        height, width = levels.shape[1:3]
        down, right = (self._padded(side) - side for side in (height, width))
        if not down and not right:
            return levels
        # NumPy reflects as often as needed, where torch refuses to pad by more than the image.
        return np.pad(levels, ((0, 0), (0, down), (0, right), (0, 0)), mode="reflect")

    def _padded(self, side: int) -> int:
        return -(-max(side, self.smallest) // self.multiple) * self.multiple


def _generator(run: TrainSettings, name: str, trust_imports: bool) -> nn.Module:
    """G_AB or G_BA as a run's settings name it."""
    if not trust_imports:
        parts.refuse_import_paths([run.generator_of(name)])
    return build_generator(**run.generator_options(name))


def _told_by(about: Mapping[str, str], *, source: Path) -> tuple[TrainSettings, str]:
    """The settings and the generator's name that travel with shareable weights."""
    try:
        settings = check(TrainSettings, dict(json.loads(about["settings"])))
        if about["network"] not in GENERATOR_NAMES:
            raise ValueError("no generator")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{source} does not say which generator it is of ({error}): use the .pth file"
        ) from None
    return settings, about["network"]
