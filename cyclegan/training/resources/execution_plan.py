"""How fast a run may be computed: what its settings ask, on the machine at hand."""

import time
from collections.abc import Callable, Iterable
from typing import Literal

import torch

from cyclegan.config.errors import UserError, short
from cyclegan.config.train_options import TrainSettings
from cyclegan.hardware import allocator, devices
from cyclegan.hardware.deterministic import compute_deterministically
from cyclegan.networks.execution import HALVES, Running, Speed
from cyclegan.networks.factory import GENERATOR_NAMES
from cyclegan.training.algorithm.loss_slots import TABLES
from cyclegan.training.algorithm.objective import Losses
from cyclegan.training.algorithm.optimizers import can_be_recorded

# Compiling costs about a minute. It saves some milliseconds a step on a GPU, and a sixth of a
# step's second or so on a CPU with bf16: a run of fewer steps than these does not earn it back.
WORTH_COMPILING = {"cuda": 10_000, "cpu": 1_000}


def plan(
    settings: TrainSettings, device: torch.device, *, total_steps: int, alone: bool = True
) -> Speed:
    """Raises UserError for what the machine does not have. The same settings on the same machine
    give the same plan, whether a run begins or goes on. `alone`: by one process.
    """
    if settings.deterministic and settings.compile in ("default", "max"):
        raise UserError(
            f"--deterministic and --compile {settings.compile} exclude each other: use one"
        )
    precision = devices.resolve_precision(settings.precision, device)
    compile = _compile(settings, device, half=precision in HALVES, total_steps=total_steps)
    on_cuda = device.type == "cuda"
    return Speed(
        precision=precision,
        # Tensor cores read channels last. On a CPU only compiled code makes up for the change.
        channels_last=precision in HALVES and (on_cuda or compile != "off"),
        compile=compile,
        fused=device.type in ("cuda", "cpu"),
        # Other processes' gradients cannot be waited for within a recording.
        graph=on_cuda
        and compile != "off"
        and precision != "fp16"
        and alone
        and _is_always_alike(settings),
        checkpointed=settings.checkpoint_activations,
    )


def prepare_torch(settings: TrainSettings, speed: Speed) -> None:
    """Sets what torch keeps for the whole process."""
    allocator.keep_freed_memory()
    if settings.deterministic:
        compute_deterministically()
    devices.allow_tf32(speed.precision != "fp32")
    # Where shapes are few, the fastest convolution for each is worth looking for.
    torch.backends.cudnn.benchmark = _has_one_size(settings) and not settings.deterministic
    if speed.compile != "off":
        devices.keep_what_is_compiled()


def describe(speed: Speed) -> str:
    """In a few words, for the console."""
    words: list[str] = [speed.precision]
    if speed.compile != "off":
        words.append("compiled" if speed.compile == "default" else "compiled to the utmost")
    if speed.graph:
        words.append("recorded as CUDA graphs")
    if speed.checkpointed:
        words.append("blocks recomputed")
    return ", ".join(words)


def compiled_step(
    step: Callable[[], Losses],
    *,
    undo: Callable[[], object],
    networks: Iterable[Running],
    say: Callable[[str], object],
) -> Losses:
    """A run's first step, on whose way the networks are compiled. Where that fails, `undo` takes
    back what was done by then, and the run goes on uncompiled.
    """
    say("compiling the networks; what was compiled before is found again")
    began = time.monotonic()
    try:
        losses = step()
        # The device may still be at it.
        torch.stack(list(losses.values())).cpu()
    except (UserError, torch.OutOfMemoryError):
        raise
    # A compiler, and what it builds on, may fail in any way.
    except Exception as error:
        # What follows the first line is advice for those who mend compilers.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        say(f"warning: this cannot be compiled, and goes on uncompiled: {short(reason, most=200)}")
        for network in networks:
            network.uncompile()
        undo()
        return step()
    say(f"the first step took {time.monotonic() - began:.0f} s, compilation included")
    return losses


def _compile(
    settings: TrainSettings, device: torch.device, *, half: bool, total_steps: int
) -> Literal["off", "default", "max"]:
    devices.check_compiler(settings.compile, device)
    if settings.deterministic:
        # A compiler takes what is fastest at the time.
        return "off"
    if settings.compile != "auto":
        return settings.compile
    # In float32 a CPU gains nothing by it: its convolutions are hand-written either way.
    gains = device.type == "cuda" or (device.type == "cpu" and half)
    worth = total_steps >= WORTH_COMPILING.get(device.type, 0)
    able = devices.has_compiler(device) and _has_one_size(settings)
    return "default" if able and gains and worth else "off"


def _has_one_size(settings: TrainSettings) -> bool:
    return "crop" in settings.preprocess or settings.preprocess == "resize"


def _is_always_alike(settings: TrainSettings) -> bool:
    """Whether all that a step goes by, but for its images, is known before a run begins.

    Parts of the user's own may go by anything; a queue of features grows as it fills; a decaying
    weight is another number every time.
    """
    terms = [term for kind in TABLES for domain in "AB" for term in settings.slot(kind, domain)]
    terms += [settings.generator_of(name) for name in GENERATOR_NAMES]
    terms += [settings.discriminator, *settings.diffaugment]
    changes = any("." in t.name or t.name == "batch_head" or "decay_to" in t.options for t in terms)
    return not changes and _has_one_size(settings) and can_be_recorded(settings)
