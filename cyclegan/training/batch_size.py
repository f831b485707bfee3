"""--batch_size auto: the largest that fits into a GPU's memory, found by trying."""

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from cyclegan.errors import UserError
from cyclegan.settings import TrainSettings
from cyclegan.training.model import build_model
from cyclegan.training.speed import plan
from cyclegan.training.step import Stepper

# Of the memory, a step may take so much: the rest is for previews, measurements, larger kernels. A
# recorded step keeps its memory to itself, and an epoch's last batch runs beside it.
SHARE_OF_MEMORY = 0.9
SHARE_WHERE_RECORDED = 0.45


def with_batch_size(
    settings: TrainSettings, device: torch.device, *, most: int, trusted: bool = True
) -> TrainSettings:
    """The settings with a number for their batch size, at most `most`. Raises UserError where auto
    has nothing to go by, or where not even a batch of one fits.
    """
    if settings.batch_size != "auto":
        return settings
    if device.type != "cuda":
        raise UserError(
            f"--batch_size auto goes by a GPU's memory, which {device} has not: give a number"
        )

    def fits(batch_size: int) -> bool:
        return _fits(settings.model_copy(update={"batch_size": batch_size}), device, trusted)

    # Whether steps are recorded may depend on how many there are, and so on what is looked for.
    recorded = plan(settings, device, total_steps=10**9).graph
    share = SHARE_WHERE_RECORDED if recorded else SHARE_OF_MEMORY
    torch.cuda.set_per_process_memory_fraction(share, device)
    try:
        found = largest(fits, most=most)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    if not found:
        raise UserError(
            "not even a batch of one image fits into the GPU's memory: lower --crop_size, or give "
            "--checkpoint_activations"
        )
    return settings.model_copy(update={"batch_size": found})


def largest(fits: Callable[[int], bool], *, most: int) -> int:
    """The largest number from 1 to `most` that fits, 0 if none does: by doubling, then halving
    what is in doubt.
    """
    good, bad = 0, 1
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _fits(settings: TrainSettings, device: torch.device, trusted: bool) -> bool:
    """Two steps on random images: with the second, optimizers have all their memory."""
    speed = replace(plan(settings, device, total_steps=1), compile="off", graph=False)
    with torch.random.fork_rng([device]):
        try:
            stepper = Stepper(
                build_model(settings, trusted=trusted).to(device),
                settings,
                speed=speed,
                trusted=trusted,
            )
            for _ in range(2):
                stepper.step(_random(settings, "A", device), _random(settings, "B", device))
            torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            return False
        finally:
            stepper = None  # type: ignore[assignment]
            gc.collect()
            torch.cuda.empty_cache()
    return True


def _random(settings: TrainSettings, domain: str, device: torch.device) -> torch.Tensor:
    cropped = "crop" in settings.preprocess
    side = (settings.crop_size if cropped else settings.load_size) // settings.smaller(domain)
    return torch.rand(settings.images_per_step, 3, side, side, device=device) * 2 - 1
