"""How a folder is translated fastest: in which numbers, how many images at once, what compiled."""

from collections.abc import Mapping
from dataclasses import replace

from cyclegan.config.options import TranslateSettings
from cyclegan.hardware import allocator, devices
from cyclegan.networks.execution import HALVES, Speed
from cyclegan.translate.compiled import Say, Size
from cyclegan.translate.translator import Translator

# Pixels of a batch: 16 images of 256x256 on CUDA, estimated to need a gigabyte, and 4 on MPS,
# neither of them measured; a CPU gains by company where images are small (64x64).
PIXELS_AT_ONCE = {"cuda": 2**20, "mps": 2**18, "cpu": 2**15}
MOST_AT_ONCE = 64

# Pixels of one size from which on compiling for it is taken to be worth its 40 s on a CPU, or 60 s
# on CUDA: about 1000 images of 256x256, and 30 000. Both rest on an estimate, not a measurement, of
# what is saved: 0.6 s a megapixel on a CPU in half precision, 0.03 s on CUDA.
WORTH_COMPILING = {"cpu": 66_000_000, "cuda": 2_000_000_000}
# torch.compile gives up on code after eight shapes, and both directions share theirs.
MOST_COMPILED = 4


class Plan:
    """What the options of test.py mean on the machine at hand: the same ones, the same plan.

    Raises UserError for what the machine does not have.
    """

    def __init__(self, settings: TranslateSettings, *, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.device = devices.resolve_device(settings.device)
        precision = devices.resolve_precision(settings.precision, self.device)
        self.half = precision in HALVES
        # Tensor cores read channels last, as do a CPU's float32 convolutions on their way forward;
        # in half precision on a CPU, only compiled code makes up for the change.
        last = self.half == (self.device.type == "cuda") and self.device.type != "mps"
        self.speed = Speed(precision=precision, channels_last=last)
        self.able = devices.has_compiler(self.device)
        devices.check_compiler(settings.compile, self.device)

    def prepare_torch(self) -> None:
        """Sets what torch keeps for the whole process."""
        allocator.keep_freed_memory()
        devices.allow_tf32(self.speed.precision != "fp32")

    def batch_sizes(self, translator: Translator, counts: Mapping[Size, int]) -> dict[Size, int]:
        """How many images of each size (width, height) go at once, of so many that there are; has
        the translator compiled for the sizes that are worth it.
        """
        at_once = {size: self._at_once(size, translator.scale) for size in counts}
        worth = [size for size in counts if self._is_worth_compiling(size, counts[size])]
        worth = sorted(worth, key=lambda size: (-counts[size], size))[:MOST_COMPILED]
        if worth:
            speed = replace(
                self.speed,
                compile="max" if self.settings.compile == "max" else "default",
                channels_last=self.half,
            )
            sizes = {size: min(at_once[size], counts[size]) for size in worth}
            devices.keep_what_is_compiled()
            translator.compile(sizes, speed, say=self.say)
        return at_once

    def _at_once(self, size: Size, scale: int) -> int:
        if self.settings.batch_size != "auto":
            return self.settings.batch_size
        pixels = size[0] * size[1] * scale**2
        return min(max(1, PIXELS_AT_ONCE[self.device.type] // pixels), MOST_AT_ONCE)

    def _is_worth_compiling(self, size: Size, count: int) -> bool:
        if self.settings.compile != "auto":
            return self.settings.compile != "off"
        # In float32 a CPU gains nothing by it: its convolutions are hand-written either way.
        gains = self.device.type == "cuda" or (self.device.type == "cpu" and self.half)
        pixels = size[0] * size[1] * count
        return self.able and gains and pixels >= WORTH_COMPILING[self.device.type]
