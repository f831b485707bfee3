"""What may change when a run goes on, and what may not."""

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import LOCAL_OPTIONS, TrainSettings

# The networks are what they are, and so is which folder is A.
FIXED_PARTS = ("generator", "generator_BA", "discriminator")
FIXED = ("ngf", "ndf", "scale", "direction", "init_type", "init_gain")

# Said anew each time, or of no consequence for what is learned.
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
    """The options that a run goes on with another value of, as `lr 0.0002 -> 0.0001`. Raises
    UserError, with the options' names, where the run cannot go on with them.
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
