"""A checkpoint as a callable: images in, images of the same size (times its scale) out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import Term
from cyclegan.config.options import Direction
from cyclegan.config.yaml_files import SETTINGS_FILE, json_settings, run_settings
from cyclegan.data.files.images import from_uint8, read_image, to_rgb, to_uint8
from cyclegan.hardware.devices import resolve_device
from cyclegan.networks import GENERATORS
from cyclegan.networks.execution import (
    EAGER_FP32,
    ExecutionPlan,
    FixedBatchExecutor,
    Size,
    configure,
)
from cyclegan.networks.factory import GENERATOR_NAMES, build_generator
from cyclegan.networks.from_weights import detect_architecture
from cyclegan.runs import checkpoints

# The reflection padding inside the networks needs a few pixels at their narrowest layer.
_MIN_SIDE = 16


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
        weights_time: float = 0.0,
        plan: ExecutionPlan = EAGER_FP32,
    ) -> None:
        """weights_time: when the weights were written, in seconds since the epoch; 0 if unknown.

        A `plan` other than EAGER_FP32 may change the memory format of the generator's weights.
        """
        self.generator = generator.to(device)
        # `configure` would reset what training has set in a generator.
        self.executor = generator if plan == EAGER_FP32 else configure(generator, plan)
        self.compiled: FixedBatchExecutor | None = None
        self.device = device
        self.weights_time = weights_time
        self.size_multiple = int(getattr(generator, "size_multiple", 1))
        self.scale = int(getattr(generator, "scale", 1))
        self.shrink = int(getattr(generator, "shrink", 1))
        min_size = getattr(generator, "min_size", 4 * self.size_multiple)
        self.min_side = max(_MIN_SIDE, int(min_size))

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        direction: Direction = "AtoB",
        epoch: str | int = "latest",
        device: str = "auto",
        trust_imports: bool = False,
        plan: ExecutionPlan = EAGER_FP32,
    ) -> "Translator":
        """Loads a generator from a run's folder, or from a .pth or .safetensors file.

        Raises UserError if there is no such checkpoint, if the file holds something else, or if a
        run's settings name a network by import path without `trust_imports`.
        """
        weights = path = Path(source).expanduser()
        if path.is_dir():
            name = "G_AB" if direction == "AtoB" else "G_BA"
            weights = checkpoints.weights_path(path, epoch, name)
            generator = _build(trust_imports, **run_settings(path).generator_options(name))
        else:
            generator = _build_from_file(path, trust_imports)
        checkpoints.fit_weights(generator, checkpoints.load_weights(weights), source=weights)
        time = weights.stat().st_mtime
        return cls(generator, device=resolve_device(device), weights_time=time, plan=plan)

    def __call__(self, image: Image.Image | str | Path) -> Image.Image:
        """Translates an image, or the image at a path."""
        if not isinstance(image, Image.Image):
            image = read_image(Path(image))
        return self.batch([to_rgb(image)])[0]

    def compile(self, batch_sizes: Mapping[Size, int], plan: ExecutionPlan) -> None:
        """Compiles the network for images of these sizes (width, height) in such batches."""
        self.compiled = FixedBatchExecutor(configure(self.generator, plan), batch_sizes)

    @torch.inference_mode()
    def batch(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Translates RGB images of one size together."""
        size = images[0].size
        pixels = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
        padded = torch.from_numpy(self._pad(pixels))
        if self.device.type == "cuda":
            padded = padded.pin_memory()
        # uint8 travels to the device and back, as it has the fewest bytes.
        inputs = from_uint8(padded.to(self.device, non_blocking=True)).contiguous()
        width, height = (-(-side * self.scale // self.shrink) for side in size)
        outputs = to_uint8(self._forward(inputs, size)[..., :height, :width])
        return [Image.fromarray(image) for image in outputs.contiguous().cpu().numpy()]

    def _forward(self, inputs: torch.Tensor, size: Size) -> torch.Tensor:
        was_training, benchmark = self.generator.training, torch.backends.cudnn.benchmark
        self.generator.eval()
        # To search for the fastest convolution for each of many sizes would take too long.
        torch.backends.cudnn.benchmark = False
        try:
            if self.compiled is not None and size in self.compiled.batch_sizes:
                return self.compiled(inputs, size, eager=self.executor)
            outputs: torch.Tensor = self.executor(inputs)
            return outputs
        finally:
            self.generator.train(was_training)
            torch.backends.cudnn.benchmark = benchmark

    def _pad(self, pixels: np.ndarray) -> np.ndarray:
        """Pads N x H x W x 3 at the bottom and right to a size that the network can take."""
        multiple = self.size_multiple
        bottom, right = (
            -(-max(side, self.min_side) // multiple) * multiple - side for side in pixels.shape[1:3]
        )
        if not bottom and not right:
            return pixels
        # NumPy reflects repeatedly, where torch refuses to pad by more than the image.
        return np.pad(pixels, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="reflect")


def _build_from_file(path: Path, trust_imports: bool) -> nn.Module:
    """The generator of a weight file, as told by its metadata, by the settings beside it, or else
    by its keys and shapes.
    """
    if path.suffix == ".safetensors" and path.is_file():
        metadata = checkpoints.read_metadata(path)
        if {"settings", "network"} <= metadata.keys():
            return _build(trust_imports, **_options_in(metadata, source=path))
    names = {f"net_{classic}.pth": name for name, classic in checkpoints.CLASSIC_NAMES.items()}
    name = names.get(path.name.partition("_")[2])
    if name in GENERATOR_NAMES and (path.parent / SETTINGS_FILE).is_file():
        return _build(trust_imports, **run_settings(path.parent).generator_options(name))
    text = detect_architecture(checkpoints.load_weights(path), source=path)
    generator: nn.Module = parts.build(expressions.parse_one(text, option="generator"), GENERATORS)
    return generator


def _build(trust_imports: bool, *, term: Term, **options: Any) -> nn.Module:
    if not trust_imports:
        parts.refuse_import_paths([term])
    return build_generator(term, **options)


def _options_in(metadata: Mapping[str, str], *, source: Path) -> dict[str, Any]:
    """The generator options in the metadata of a .safetensors file."""
    try:
        settings = json_settings(metadata["settings"])
        if metadata["network"] not in GENERATOR_NAMES:
            raise ValueError("no generator")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{source} does not say which generator it is of ({error}): use the .pth file"
        ) from None
    return settings.generator_options(metadata["network"])
