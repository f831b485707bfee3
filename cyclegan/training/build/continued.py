"""What a continued run may change, and the commands that continue a run or translate with it."""

import shlex

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import LOCAL_OPTIONS, TrainSettings

# The networks of a run cannot change, nor which folder is A.
FIXED_PARTS = ("generator", "generator_BA", "discriminator")
FIXED = ("ngf", "ndf", "scale", "direction", "init_type", "init_gain")

# Given anew each time, or without effect on the training.
_SILENT = {
    "name",
    "checkpoints_dir",
    "continue_train",
    "trust_imports",
    "config",
    "preset",
    *LOCAL_OPTIONS,
}


def changed_options(before: TrainSettings, now: TrainSettings) -> list[str]:
    """The options that have changed, as `lr 0.0002 -> 0.0001`. Raises UserError, which names the
    options, if the run cannot continue with them.
    """
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    changed = [name for name in new if name not in _SILENT and new[name] != old[name]]
    refused = [name for name in changed if name in FIXED or _is_another_part(name, before, now)]
    if refused:
        options = ", ".join(f"--{name} {new[name]}" for name in refused)
        begun = ", ".join(str(old[name]) for name in refused)
        raise UserError(
            f"{options}: the run {now.name} was begun with {begun}, which cannot change any more: "
            "leave it out, or begin a new run without --continue_train"
        )
    return [f"{name} {old[name]} -> {new[name]}" for name in changed]


def _is_another_part(name: str, before: TrainSettings, now: TrainSettings) -> bool:
    if name not in FIXED_PARTS:
        return False
    # The same part may be written in several ways.
    old, new = (getattr(each, name) or each.generator for each in (before, now))
    return bool(old != new)


def continue_command(settings: TrainSettings, *, processes: int) -> str:
    """The command that continues a run, quoted for the shell; all else is in its settings."""
    program = ["python", "train.py"]
    if processes > 1:
        program = ["torchrun", "--nproc-per-node", str(processes), "--", "train.py"]
    values = {name: getattr(settings, name) for name in LOCAL_OPTIONS}
    chosen = {n: v for n, v in values.items() if v != TrainSettings.model_fields[n].default}
    local = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    return shlex.join([*program, *_run_words(settings, "--continue_train"), *local])


def translate_command(settings: TrainSettings) -> str:
    """The command that translates a folder with a run."""
    return f"{shlex.join(['python', 'test.py', *_run_words(settings)])} --input FOLDER"


def _run_words(settings: TrainSettings, *flags: str) -> list[str]:
    """The options by which train.py and test.py find the run."""
    words = ["--name", str(settings.name), *flags]
    if settings.checkpoints_dir != TrainSettings.model_fields["checkpoints_dir"].default:
        words += ["--checkpoints_dir", str(settings.checkpoints_dir)]
    return [*words, *(["--trust_imports"] if settings.trust_imports else [])]
