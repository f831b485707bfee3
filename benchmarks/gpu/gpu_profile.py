"""Where the GPU's time of one step goes: by kind of kernel, and the most expensive kernels."""

import collections

import torch
from common import synchronize  # type: ignore[import-not-found]
from gpu_variants import Figures, Options, Step
from torch.profiler import ProfilerActivity

STEPS = 5
MOST_KERNELS = 40
LONGEST_NAME = 110
# The first line with a word of the kernel's name decides. The compiler names a kernel after all
# operators in it, and cuDNN names conversions between layouts after itself: these come first.
KINDS = (
    ("conv", ("triton_tem",)),
    ("triton", ("triton",)),
    ("layout", ("nchwtonhwc", "nhwctonchw", "transpose", "padding")),
    ("conv", ("conv", "cudnn", "xmma", "cutlass", "gemm", "wgrad", "dgrad", "implicit")),
    ("adam", ("adam",)),
    ("norm", ("norm", "moments", "welford")),
    ("pad", ("reflection", "pad2d")),
    ("reduce", ("reduce",)),
    ("copy", ("memcpy", "memset", "copy", "cat")),
    ("elementwise", ("elementwise",)),
)


def profile(step: Step, options: Options) -> Figures:
    """Milliseconds and number of kernels a step; the step is at its full speed by now."""
    synchronize(options.device)
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(STEPS):
            step()
        synchronize(options.device)
    kernels = [
        (event.name, event.time_range.elapsed_us())
        for event in seen.events()
        if event.device_type.name == "CUDA"
    ]
    by_kind = _sums([(kind(name), microseconds) for name, microseconds in kernels])
    by_name = _sums([(name[:LONGEST_NAME], microseconds) for name, microseconds in kernels])
    dearest = sorted(by_name.items(), key=lambda item: item[1][0], reverse=True)
    return {
        "kinds_ms_and_count": by_kind,
        "kernels": [[name, *sums] for name, sums in dearest[:MOST_KERNELS]],
    }


def kind(name: str) -> str:
    """What a kernel does, by its name."""
    lower = name.lower()
    for label, words in KINDS:
        if any(word in lower for word in words):
            return label
    return "other"


def _sums(events: list[tuple[str, float]]) -> dict[str, list[float]]:
    """Milliseconds and number of events a step, by key; events come with their microseconds."""
    milliseconds: dict[str, float] = collections.defaultdict(float)
    for key, microseconds in events:
        milliseconds[key] += microseconds / 1e3 / STEPS
    counts = collections.Counter(key for key, _ in events)
    return {key: [round(ms, 3), counts[key] / STEPS] for key, ms in milliseconds.items()}
