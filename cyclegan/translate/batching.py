"""How a folder is translated: the precision, the batch sizes, and the sizes to compile for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from cyclegan.hardware import allocator, devices
from cyclegan.networks.execution import HALF_DTYPES, ExecutionPlan, Size
from cyclegan.translate.translator import Translator

# Pixels in a batch: 16 images of 256x256 on CUDA, which need an estimated gigabyte, and 4 on MPS;
# neither was measured. A CPU gains by batches of small images (64x64) alone.
BATCH_PIXELS = {"cuda": 2**20, "mps": 2**18, "cpu": 2**15}
MAX_BATCH_SIZE = 64

# From this number of pixels of one size, compiling for it is assumed to be worth its 40 s on a CPU
# or 60 s on CUDA: about 1000 and 30,000 images of 256x256. The time saved is an estimate, not
# measured: 0.6 s a megapixel on a CPU in half precision, 0.03 s on CUDA.
MIN_COMPILE_PIXELS = {"cpu": 66_000_000, "cuda": 2_000_000_000}
# torch.compile gives up on a function after eight shapes, which both directions share.
MAX_COMPILED_SIZES = 4


class BatchPlanner:
    """Chooses the execution plan and the batch sizes for a device; the same options always give the
    same ones. Raises UserError if the device lacks what an option asks for.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        precision: str = "auto",
        compile: Literal["auto", "off", "default", "max"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
    ) -> None:
        self.device, self.compile, self.batch_size = device, compile, batch_size
        resolved = devices.resolve_precision(precision, device)
        self.is_half = resolved in HALF_DTYPES
        # Tensor cores want channels last, as do a CPU's float32 convolutions in a forward pass; in
        # half precision on a CPU it pays in compiled code alone.
        channels_last = self.is_half == (device.type == "cuda") and device.type != "mps"
        self.plan = ExecutionPlan(precision=resolved, channels_last=channels_last)
        self.has_compiler = devices.has_compiler(device)
        devices.check_compiler(compile, device)

    def prepare_torch(self) -> None:
        """Sets options of torch and of the allocator for the whole process."""
        allocator.keep_freed_memory()
        devices.allow_tf32(self.plan.precision != "fp32")

    def batch_sizes(self, translator: Translator, counts: Mapping[Size, int]) -> dict[Size, int]:
        """From the number of images of each size (width, height) to the batch size for each; also
        lets the translator compile for the sizes that are worth it.
        """
        batch_sizes = {size: self._batch_size(size, translator.scale) for size in counts}
        worth = [size for size in counts if self._is_worth_compiling(size, counts[size])]
        worth = sorted(worth, key=lambda size: (-counts[size], size))[:MAX_COMPILED_SIZES]
        if worth:
            mode: Literal["default", "max"] = "max" if self.compile == "max" else "default"
            plan = replace(self.plan, compile=mode, channels_last=self.is_half)
            devices.keep_compile_cache()
            translator.compile({size: min(batch_sizes[size], counts[size]) for size in worth}, plan)
        return batch_sizes

    def _batch_size(self, size: Size, scale: int) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        pixels = size[0] * size[1] * scale**2
        return min(max(1, BATCH_PIXELS[self.device.type] // pixels), MAX_BATCH_SIZE)

    def _is_worth_compiling(self, size: Size, count: int) -> bool:
        if self.compile != "auto":
            return self.compile != "off"
        # In float32 a CPU gains nothing: its convolutions are hand-written either way.
        gains = self.device.type == "cuda" or (self.device.type == "cpu" and self.is_half)
        pixels = size[0] * size[1] * count
        return self.has_compiler and gains and pixels >= MIN_COMPILE_PIXELS[self.device.type]
