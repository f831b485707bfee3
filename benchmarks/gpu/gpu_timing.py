"""The figures of one way of computing a step: milliseconds, memory, launches."""

import collections
import statistics
import time

import torch
from common import synchronize  # type: ignore[import-not-found]
from gpu_variants import Figures, Options, Step
from torch.profiler import ProfilerActivity

# Calls of the host by which work reaches the GPU, or by which the host waits for it.
CALLS = (
    "cudaLaunch",
    "cuLaunch",
    "cudaGraphLaunch",
    "cudaMemcpy",
    "cudaStreamSync",
    "cudaEventSync",
)


def measure(step: Step, options: Options) -> Figures:
    """The step has run often enough before to be at its full speed."""
    figures = milliseconds(step, options)
    figures["host_ms"] = host_milliseconds(step, options)
    if options.on_cuda:
        figures |= peak_memory(step, options)
    figures["launches"] = launches(step, options)
    return figures


def milliseconds(step: Step, options: Options) -> Figures:
    """Milliseconds a step: the median over the rounds, the least, and each round's. A round takes
    `count` steps between two waits: as in training, nobody waits for a single one.
    """
    rounds = []
    for _ in range(options.rounds):
        synchronize(options.device)
        began = time.perf_counter()
        for _ in range(options.count):
            step()
        synchronize(options.device)
        rounds.append(round(1e3 * (time.perf_counter() - began) / options.count, 3))
    return {"ms": round(statistics.median(rounds), 3), "least": min(rounds), "rounds": rounds}


def host_milliseconds(step: Step, options: Options) -> float:
    """Milliseconds that the program itself takes to ask for a step: where they exceed the step's
    own, the GPU waits for the program.
    """
    synchronize(options.device)
    began = time.perf_counter()
    step()
    asked = time.perf_counter()
    synchronize(options.device)
    return round(1e3 * (asked - began), 3)


def peak_memory(step: Step, options: Options) -> Figures:
    """Gigabytes of GPU memory during one step: in use by tensors, and held by torch."""
    torch.cuda.reset_peak_memory_stats(options.device)
    step()
    synchronize(options.device)
    return {
        "allocated_gb": round(torch.cuda.max_memory_allocated(options.device) / 1e9, 2),
        "reserved_gb": round(torch.cuda.max_memory_reserved(options.device) / 1e9, 2),
    }


def launches(step: Step, options: Options) -> dict[str, int] | None:
    """How often one step makes each of CALLS; on a CPU there is nothing to count."""
    if not options.on_cuda:
        return None
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        synchronize(options.device)
    names = collections.Counter(event.name for event in seen.events())
    return {name: count for name, count in names.items() if name.startswith(CALLS)}
