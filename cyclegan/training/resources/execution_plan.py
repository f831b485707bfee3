"""Chooses precision, compiler and CUDA graphs by the options and the device."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

import torch

from cyclegan.config.errors import UserError, shorten
from cyclegan.config.expressions import Term
from cyclegan.hardware import allocator, devices
from cyclegan.networks.execution import HALF_DTYPES, ExecutionPlan, Executor
from cyclegan.training.algorithm.objective import Losses
from cyclegan.training.algorithm.optimizers import CAPTURABLE

Compile = Literal["auto", "off", "default", "max"]

# Compilation takes about a minute. It saves some milliseconds of a step on a GPU, and about a sixth
# of a step of a second on a CPU with bf16: a run of fewer steps does not earn the minute back.
MIN_STEPS_TO_COMPILE = {"cuda": 10_000, "cpu": 1_000}

logger = logging.getLogger(__name__)


def plan_execution(
    device: torch.device,
    *,
    precision: str,
    compile: Compile,
    deterministic: bool,
    activation_checkpointing: bool,
    total_steps: int,
    fixed_size: bool,
    static: bool,
) -> ExecutionPlan:
    """The same options on the same device always give the same plan. Raises UserError for what the
    device does not have.

    fixed_size: all images have one size. static: the step computes the same graph every time, in
    one process, so that it can be captured as CUDA graphs.
    """
    if deterministic and compile in ("default", "max"):
        raise UserError(f"--deterministic and --compile {compile} exclude each other: use one")
    resolved = devices.resolve_precision(precision, device)
    half = resolved in HALF_DTYPES
    devices.check_compiler(compile, device)
    mode: Literal["off", "default", "max"] = "off"
    # A compiler takes whatever kernel is fastest at the time.
    if not deterministic:
        mode = _choose_mode(device, half, total_steps, fixed_size) if compile == "auto" else compile
    on_cuda = device.type == "cuda"
    return ExecutionPlan(
        precision=resolved,
        # Tensor cores read channels last. On a CPU only compiled code makes up for the conversion.
        channels_last=half and (on_cuda or mode != "off"),
        compile=mode,
        fused_optimizer=device.type in ("cuda", "cpu"),
        cuda_graphs=on_cuda and mode != "off" and resolved != "fp16" and fixed_size and static,
        activation_checkpointing=activation_checkpointing,
    )


def is_static(parts: Iterable[Term], optimizers: Iterable[Term]) -> bool:
    """Whether a step of these parts computes the same graph every time.

    A part of the user's own may do anything, the queue of a batch head grows as it fills, and a
    decaying weight is another number at every step.
    """
    if any(term.name not in CAPTURABLE for term in optimizers):
        return False
    return not any(
        "." in term.name or term.name == "batch_head" or "decay_to" in term.options
        for term in parts
    )


def configure_torch(plan: ExecutionPlan, *, deterministic: bool, fixed_size: bool) -> None:
    """Sets torch's process-wide options."""
    allocator.keep_freed_memory()
    if deterministic:
        devices.use_deterministic_algorithms()
    devices.allow_tf32(plan.precision != "fp32")
    # With few shapes, cuDNN's search for the fastest convolution pays off.
    torch.backends.cudnn.benchmark = fixed_size and not deterministic
    if plan.compile != "off":
        devices.keep_compile_cache()


def describe(plan: ExecutionPlan) -> str:
    """The plan in a few words, for the console."""
    words: list[str] = [plan.precision]
    if plan.compile != "off":
        words.append("compiled" if plan.compile == "default" else "compiled with autotuning")
    if plan.cuda_graphs:
        words.append("recorded as CUDA graphs")
    if plan.activation_checkpointing:
        words.append("blocks recomputed")
    return ", ".join(words)


def compile_first_step(
    step: Callable[[], Losses], *, undo: Callable[[], object], executors: Iterable[Executor]
) -> Losses:
    """Takes a run's first step, which compiles the networks. If that fails, `undo` restores the
    state from before, and the run continues uncompiled.
    """
    logger.info("compiling the networks; what was compiled before is found again")
    began = time.monotonic()
    try:
        losses = step()
        # The device may still be computing.
        torch.stack(list(losses.values())).cpu()
    except (UserError, torch.OutOfMemoryError):
        raise
    # A compiler, and the compilers below it, may raise anything.
    except Exception as error:
        # The lines after the first are advice for those who debug compilers.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        logger.warning(
            "the networks cannot be compiled, and run uncompiled: %s", shorten(reason, 200)
        )
        for executor in executors:
            executor.uncompile()
        undo()
        return step()
    seconds = time.monotonic() - began
    logger.info("the first step took %.0f s, compilation included", seconds)
    return losses


def _choose_mode(
    device: torch.device, half: bool, total_steps: int, fixed_size: bool
) -> Literal["off", "default"]:
    # In float32 a CPU gains nothing: its convolutions are hand-written either way.
    gains = device.type == "cuda" or (device.type == "cpu" and half)
    long_enough = total_steps >= MIN_STEPS_TO_COMPILE.get(device.type, 0)
    possible = devices.has_compiler(device) and fixed_size
    return "default" if possible and gains and long_enough else "off"
