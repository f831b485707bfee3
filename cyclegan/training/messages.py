"""What a run says of itself: where it computes, and how it goes on."""

import shlex
from collections.abc import Iterator

import torch

from cyclegan.config.command_line import ELSEWHERE
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import size_warning
from cyclegan.evaluation.compare import can_compare
from cyclegan.hardware.devices import has_bf16, peak_memory
from cyclegan.networks.execution import HALVES
from cyclegan.training.build import Run
from cyclegan.training.resources.execution_plan import describe

# From this side on, a step of the usual networks takes seconds on a CPU.
LARGE_CROP = 128

# Waiting for images for more than this share of the time, a run could be faster.
BOUND_BY_DATA = 0.1


def introduction(run: Run) -> Iterator[str]:
    """The images that were found, what is odd about them or the options, and the device."""
    settings, (domain_A, domain_B), device = run.settings, run.domains, run.device
    for name, domain in (("A", domain_A), ("B", domain_B)):
        yield domain.describe(name)
        for complaint in domain.complaints():
            yield f"  warning: {complaint}"
    if warning := size_warning(domain_A, domain_B, scale=settings.scale):
        yield f"warning: {warning}"
    most = max(len(domain_A.files), len(domain_B.files))
    if settings.images_per_step > most:
        yield (
            f"warning: a step takes {most} images, as an epoch has no more, and not "
            f"{settings.images_per_step} (--batch_size times --accumulate)"
        )
    half = settings.precision in HALVES
    if half and device.type == "cpu" and not has_bf16(device):
        yield f"warning: --precision {settings.precision} is slow here: this CPU only imitates it"
    if run.state.schedule.evaluate_every and not can_compare(settings):
        yield "warning: without testA and testB nothing is measured, whatever --evaluate_every"
    yield device_line(run)


def dry_run(run: Run) -> Iterator[str]:
    """The introduction of a run that --dry_run has checked, and what it would train."""
    yield from introduction(run)
    networks = run.state.stepper.model.networks()
    counts = {n: sum(p.numel() for p in network.parameters()) for n, network in networks.items()}
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    yield f"parameters: {sizes}"
    steps = f"{run.state.schedule.total_steps} steps of {run.settings.images_per_step} images"
    yield f"would train {steps} into {run.settings.run_dir}; nothing was written"


def command_to_continue(settings: TrainSettings, *, processes: int = 1) -> str:
    """Quoted for the shell; the run's own settings hold everything else."""
    program = ["python", "train.py"]
    if processes > 1:
        program = ["torchrun", "--nproc-per-node", str(processes), "--", "train.py"]
    options = [*_run(settings, "--continue_train"), *_elsewhere(settings)]
    return shlex.join([*program, *options])


def command_to_translate(settings: TrainSettings) -> str:
    """The same for a folder that is still to be named."""
    return f"{shlex.join(['python', 'test.py', *_run(settings)])} --input FOLDER"


def device_line(run: Run) -> str:
    """What the run computes on, and how; on a CPU, what to expect of it."""
    device, settings, speed, size = run.device, run.settings, run.speed, run.world.size
    if size > 1:
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"on {size} processes, the first on {kind}, {describe(speed)}"
    if device.type == "cuda":
        return f"on {torch.cuda.get_device_name(device)}, {describe(speed)}"
    if device.type != "cpu":
        return f"on {device.type}, {describe(speed)}"
    large = settings.crop_size >= LARGE_CROP or "crop" not in settings.preprocess
    expect = (
        "several seconds a step at 256 px, so days a run; --preset quick takes minutes"
        if large
        else "minutes to hours: the crops are small"
    )
    threads = torch.get_num_threads()
    how = f"{threads} threads, {describe(speed)}"
    return f"on the CPU ({how}), as no CUDA device is used: expect {expect}"


def data_bound_line(share: float, *, decoded: bool) -> str | None:
    """What to do where a run waits for its images."""
    if share < BOUND_BY_DATA:
        return None
    waiting = f"warning: {share:.0%} of the time is spent waiting for images"
    if decoded:
        return f"{waiting}, although they are decoded: other work may be holding up the processor"
    return f"{waiting}: try --cache disk, or more --num_threads"


def memory_line(device: torch.device) -> str:
    """The most memory that was in use at once."""
    peak = peak_memory(device) / 1e9
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"at most {peak:.2f} GB of the {total / 1e9:.0f} GB of GPU memory were in use"
    return f"at most {peak:.2f} GB of memory were in use"


def _run(settings: TrainSettings, *flags: str) -> list[str]:
    """The options by which either command finds the run."""
    words = ["--name", str(settings.name), *flags]
    if settings.checkpoints_dir != TrainSettings.model_fields["checkpoints_dir"].default:
        words += ["--checkpoints_dir", str(settings.checkpoints_dir)]
    return [*words, *(["--trust_imports"] if settings.trust_imports else [])]


def _elsewhere(settings: TrainSettings) -> list[str]:
    """Options that nobody takes from a saved run: they are said each time."""
    values = {name: getattr(settings, name) for name in ELSEWHERE}
    chosen = {n: v for n, v in values.items() if v != TrainSettings.model_fields[n].default}
    return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
