"""A GPU's memory: the largest batch that fits, and what to do where not even one step does."""

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import Domain
from cyclegan.data.loading.transforms import Preparation
from cyclegan.hardware.distributed import ALONE, World
from cyclegan.training.algorithm.model import build_model
from cyclegan.training.resources.execution_plan import plan
from cyclegan.training.step import Stepper

# Of the memory, a step may take so much: the rest is for previews, measurements, larger kernels. A
# recorded step keeps its memory to itself, and an epoch's last batch runs beside it.
SHARE_OF_MEMORY = 0.9
SHARE_WHERE_RECORDED = 0.45

# Width and height of the largest images of A and of B that the networks will see.
Sizes = Mapping[str, tuple[int, int]]
Fits = Callable[[TrainSettings, Sizes], bool]


def largest_images(
    settings: TrainSettings,
    domains: tuple[Domain, Domain],
    prepare: tuple[Preparation, Preparation],
) -> Sizes:
    sizes = {}
    for name, domain, way in zip("AB", domains, prepare, strict=True):
        if "crop" in settings.preprocess:
            sizes[name] = (way.crop_size, way.crop_size)
        else:
            resized = [way.resized(*size) for size in domain.sizes]
            sizes[name] = max(resized, key=lambda size: size[0] * size[1])
    return sizes


def with_batch_size(
    settings: TrainSettings,
    device: torch.device,
    sizes: Sizes,
    *,
    most: int,
    world: World = ALONE,
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
    fits = _on(device, recorded=_is_recorded(settings, device))
    found = largest(
        lambda size: fits(settings.model_copy(update={"batch_size": size}), sizes),
        most=max(1, most // world.size),
    )
    if not found:
        raise UserError(_too_little(settings, sizes, fits, "not even a batch of one image fits"))
    # All take as many as the one with the least memory can.
    found = world.size * min(world.spread(world.gather(found)))
    return settings.model_copy(update={"batch_size": found})


def check_memory(
    settings: TrainSettings,
    device: torch.device,
    sizes: Sizes,
    *,
    world: World = ALONE,
) -> None:
    """Tries a step on images of the largest size; raises UserError with what would fit."""
    if device.type != "cuda":
        return
    own = settings.model_copy(
        update={"batch_size": world.each(settings.images_per_step // settings.accumulate)}
    )
    fits = _on(device, recorded=_is_recorded(settings, device))
    if not fits(own, sizes):
        raise UserError(_too_little(own, sizes, fits, "a step does not fit"))


def _too_little(settings: TrainSettings, sizes: Sizes, fits: Fits, what: str) -> str:
    remedies = list(advice(settings, sizes, fits))
    would = f"this would: {'; or '.join(remedies)}" if remedies else "use smaller networks: --ngf"
    return f"{what} into the GPU's memory; {would}"


def advice(settings: TrainSettings, sizes: Sizes, fits: Fits) -> Iterator[str]:
    """What would make a step fit, tried: the same step in less memory first."""
    count = settings.images_per_step
    saving = settings.model_copy(update={"checkpoint_activations": True})
    for frugal in (settings, saving):
        words = " --checkpoint_activations" if frugal is saving else ""
        if words and not settings.checkpoint_activations and _fit(frugal, sizes, fits):
            yield words.strip()
            return
        for size in (n for n in range(count // 2, 0, -1) if count % n == 0):
            parts = frugal.model_copy(update={"batch_size": size, "accumulate": count // size})
            if _fit(parts, sizes, fits):
                yield f"--batch_size {size} --accumulate {count // size}{words}"
                yield f"--batch_size {size}{words}"
                return
    one = saving.model_copy(update={"batch_size": 1, "accumulate": 1})
    side = max(max(size) for size in sizes.values())
    for smaller in range(side // 2 // 64 * 64, 0, -64):
        reduced = {
            name: (max(8, w * smaller // side), max(8, h * smaller // side))
            for name, (w, h) in sizes.items()
        }
        if _fit(one, reduced, fits):
            cropped = "--crop_size" if "crop" in settings.preprocess else "--load_size"
            yield f"{cropped} {smaller} --batch_size 1 --checkpoint_activations"
            return


def _fit(settings: TrainSettings, sizes: Sizes, fits: Fits) -> bool:
    try:
        return fits(settings, sizes)
    except UserError:
        # Of networks without blocks to recompute, or images too small for them.
        return False


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


def _is_recorded(settings: TrainSettings, device: torch.device) -> bool:
    # Whether steps are recorded may depend on how many there are, and so on what is looked for.
    return plan(settings, device, total_steps=10**9).graph


def _on(device: torch.device, *, recorded: bool) -> Fits:
    """Whether steps fit into the part of the memory that they may have."""
    share = SHARE_WHERE_RECORDED if recorded else SHARE_OF_MEMORY

    def fits(settings: TrainSettings, sizes: Sizes) -> bool:
        torch.cuda.set_per_process_memory_fraction(share, device)
        try:
            return _two_steps(settings, sizes, device)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)

    return fits


def _two_steps(settings: TrainSettings, sizes: Sizes, device: torch.device) -> bool:
    """On random images: with the second, optimizers have all their memory."""
    speed = replace(plan(settings, device, total_steps=1), compile="off", graph=False)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            stepper = Stepper(
                build_model(settings).to(device),
                settings,
                speed=speed,
            )
            for _ in range(2):
                real_A, real_B = (_random(settings, sizes[domain], device) for domain in "AB")
                stepper.step(real_A, real_B)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            return False
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            what = str(error).split(" does not have")[0]
            raise UserError(
                f"--deterministic: {what} has no deterministic way on CUDA: leave it out, or use "
                "another part"
            ) from None
        finally:
            stepper = None  # type: ignore[assignment]
            gc.collect()
            torch.cuda.empty_cache()
    return True


def _random(settings: TrainSettings, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    width, height = size
    return torch.rand(settings.images_per_step, 3, height, width, device=device) * 2 - 1
