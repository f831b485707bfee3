"""What a run says of itself: where it computes, and how it goes on."""

import shlex

import torch

from cyclegan.settings import TrainSettings

# From this side on, a step of the usual networks takes seconds on a CPU.
LARGE_CROP = 128


def command_to_continue(settings: TrainSettings) -> str:
    """Quoted for the shell; the run's own settings hold everything else."""
    words = ["python", "train.py", "--name", str(settings.name), "--continue_train"]
    if settings.checkpoints_dir != TrainSettings.model_fields["checkpoints_dir"].default:
        words += ["--checkpoints_dir", str(settings.checkpoints_dir)]
    if settings.trust_imports:
        words.append("--trust_imports")
    return shlex.join(words)


def device_line(device: torch.device, settings: TrainSettings) -> str:
    """What the run computes on and, on a CPU, what to expect of it."""
    if device.type == "cuda":
        return f"on {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"on {device.type}"
    large = settings.crop_size >= LARGE_CROP or "crop" not in settings.preprocess
    expect = (
        "several seconds a step at 256 px, so days a run; --preset quick takes minutes"
        if large
        else "minutes to hours: the crops are small"
    )
    threads = torch.get_num_threads()
    return f"on the CPU ({threads} threads), as no CUDA device is used: expect {expect}"
