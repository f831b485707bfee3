"""What a run says about itself: its data, its options, its device."""

from collections.abc import Iterator

import torch

from cyclegan.data.files.domains import DomainImages, size_warning
from cyclegan.hardware.devices import has_bf16, peak_memory
from cyclegan.networks.execution import HALF_DTYPES, ExecutionPlan
from cyclegan.training.resources.execution_plan import describe

# With crops of this side or more, a step of the usual networks takes seconds on a CPU.
LARGE_CROP = 128

# A run that waits for its images for more than this fraction of the time could be faster.
DATA_BOUND = 0.1


def data_lines(domain_A: DomainImages, domain_B: DomainImages, *, scale: int) -> Iterator[str]:
    """The images that were found, and the files that were left out."""
    for name, domain in (("A", domain_A), ("B", domain_B)):
        yield domain.describe(name)
        for complaint in domain.complaints():
            yield f"  warning: {complaint}"
    if warning := size_warning(domain_A, domain_B, scale=scale):
        yield f"warning: {warning}"


def option_warnings(
    device: torch.device,
    *,
    images_per_step: int,
    epoch_length: int,
    precision: str,
    evaluate_every: int,
    can_compare: bool,
) -> Iterator[str]:
    """Options that do not do what they seem to."""
    if images_per_step > epoch_length:
        yield (
            f"warning: a step takes {epoch_length} images, as an epoch has no more, and not "
            f"{images_per_step} (--batch_size times --accumulate)"
        )
    if precision in HALF_DTYPES and device.type == "cpu" and not has_bf16(device):
        yield f"warning: --precision {precision} is slow here: this CPU only emulates it"
    if evaluate_every and not can_compare:
        yield "warning: without testA and testB nothing is measured, whatever --evaluate_every"


def device_line(
    device: torch.device, plan: ExecutionPlan, *, processes: int, large_images: bool
) -> str:
    """What the run computes on, and how; on a CPU, what to expect."""
    if processes > 1:
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"on {processes} processes, the first on {kind}, {describe(plan)}"
    if device.type == "cuda":
        return f"on {torch.cuda.get_device_name(device)}, {describe(plan)}"
    if device.type != "cpu":
        return f"on {device.type}, {describe(plan)}"
    expect = (
        "several seconds a step at 256 px, so days a run; --preset quick takes minutes"
        if large_images
        else "minutes to hours: the crops are small"
    )
    how = f"{torch.get_num_threads()} threads, {describe(plan)}"
    return f"on the CPU ({how}), as no CUDA device is used: expect {expect}"


def data_bound_warning(fraction: float, *, decoded: bool) -> str | None:
    """What to do if a run waits for its images for this fraction of the time."""
    if fraction < DATA_BOUND:
        return None
    waiting = f"{fraction:.0%} of the time is spent waiting for images"
    if decoded:
        return f"{waiting}, although they are decoded: other work may be holding up the processor"
    return f"{waiting}: try --cache disk, or more --num_threads"


def memory_line(device: torch.device) -> str:
    """The peak memory usage."""
    peak = peak_memory(device) / 1e9
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"at most {peak:.2f} GB of the {total / 1e9:.0f} GB of GPU memory were in use"
    return f"at most {peak:.2f} GB of memory were in use"
