"""Steps on random images before a run begins: how large a batch fits into a GPU's memory, and what
to change if not even one step fits.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from cyclegan.config.errors import UserError
from cyclegan.training.step import TrainingStep

# Fraction of GPU memory a step may use; the rest is kept for previews, metrics and cuDNN
# workspaces. CUDA graphs hold their memory, and an epoch's short last step runs beside them.
MEMORY_FRACTION = 0.9
MEMORY_FRACTION_WITH_GRAPHS = 0.45

# Width and height of the largest images of A and of B that the networks will see.
ImageSizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class StepSize:
    """How many images of each domain one process computes in a step, and how."""

    batch_size: int
    accumulate: int = 1
    activation_checkpointing: bool = False

    @property
    def images(self) -> int:
        return self.batch_size * self.accumulate


Fits = Callable[[StepSize, ImageSizes], bool]


class MemoryTrial:
    """Tells whether a step fits into the part of a GPU's memory that it may use."""

    def __init__(
        self, build: Callable[[StepSize], TrainingStep], device: torch.device, *, cuda_graphs: bool
    ) -> None:
        """build: makes a step, uncompiled and without CUDA graphs, with networks of its own."""
        self.build = build
        self.device = device
        self.fraction = MEMORY_FRACTION_WITH_GRAPHS if cuda_graphs else MEMORY_FRACTION

    def __call__(self, size: StepSize, images: ImageSizes) -> bool:
        torch.cuda.set_per_process_memory_fraction(self.fraction, self.device)
        try:
            return take_two_steps(self.build, size, images, self.device)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


def take_two_steps(
    build: Callable[[StepSize], TrainingStep],
    size: StepSize,
    images: ImageSizes,
    device: torch.device,
) -> bool:
    """Whether two steps on random images fit; the second one has the optimizers' whole state."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            step = build(size)
            for _ in range(2):
                real_A, real_B = (_random(size, images[domain], device) for domain in "AB")
                step(real_A, real_B)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            return False
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            operation = str(error).split(" does not have")[0]
            raise UserError(
                f"--deterministic: {operation} has no deterministic implementation on CUDA: leave "
                "it out, or use another part"
            ) from None
        finally:
            step = None  # type: ignore[assignment]
            gc.collect()
            torch.cuda.empty_cache()
    return True


def largest_batch_size(fits: Fits, size: StepSize, images: ImageSizes, *, most: int) -> int:
    """The largest batch size up to `most` that fits; raises UserError if not even 1 does."""
    found = largest(lambda n: fits(replace(size, batch_size=n), images), most=max(1, most))
    if not found:
        one = replace(size, batch_size=1)
        raise UserError(_too_large(one, images, fits, "not even a batch of one image fits"))
    return found


def check_memory(fits: Fits, size: StepSize, images: ImageSizes, *, crops: bool) -> None:
    """Raises UserError, with what would fit, if a step does not. crops: the images are crops."""
    if not fits(size, images):
        raise UserError(_too_large(size, images, fits, "a step does not fit", crops=crops))


def largest(fits: Callable[[int], bool], *, most: int) -> int:
    """The largest number from 1 to `most` that fits, 0 if none: by doubling, then bisection."""
    good, bad = 0, 1
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def advice(size: StepSize, images: ImageSizes, fits: Fits, *, crops: bool = True) -> Iterator[str]:
    """Options that make a step fit, found by trying; the same step with less memory comes first."""
    count = size.images
    saving = replace(size, activation_checkpointing=True)
    for frugal in (size, saving):
        words = " --checkpoint_activations" if frugal is saving else ""
        if words and not size.activation_checkpointing and _fits(frugal, images, fits):
            yield words.strip()
            return
        for batch_size in (n for n in range(count // 2, 0, -1) if count % n == 0):
            accumulate = count // batch_size
            smaller = replace(frugal, batch_size=batch_size, accumulate=accumulate)
            if _fits(smaller, images, fits):
                yield f"--batch_size {batch_size} --accumulate {accumulate}{words}"
                yield f"--batch_size {batch_size}{words}"
                return
    one = replace(saving, batch_size=1, accumulate=1)
    side = max(max(each) for each in images.values())
    for smaller_side in range(side // 2 // 64 * 64, 0, -64):
        reduced = {
            name: (max(8, width * smaller_side // side), max(8, height * smaller_side // side))
            for name, (width, height) in images.items()
        }
        if _fits(one, reduced, fits):
            option = "--crop_size" if crops else "--load_size"
            yield f"{option} {smaller_side} --batch_size 1 --checkpoint_activations"
            return


def _too_large(
    size: StepSize, images: ImageSizes, fits: Fits, what: str, *, crops: bool = True
) -> str:
    remedies = list(advice(size, images, fits, crops=crops))
    would = f"this would: {'; or '.join(remedies)}" if remedies else "use smaller networks: --ngf"
    return f"{what} into the GPU's memory; {would}"


def _fits(size: StepSize, images: ImageSizes, fits: Fits) -> bool:
    try:
        return fits(size, images)
    except UserError:
        # The networks have no blocks to recompute, or the images are too small for them.
        return False


def _random(size: StepSize, image: tuple[int, int], device: torch.device) -> torch.Tensor:
    width, height = image
    return torch.rand(size.images, 3, height, width, device=device) * 2 - 1
