"""Converts options of pytorch-CycleGAN-and-pix2pix, the classic implementation, to ours."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from cyclegan.config.errors import UserError
from cyclegan.config.pytorch_cyclegan.option_table import NUMBER, TEST_TABLE, TRAIN_TABLE, Entry

# Older spellings, and options that are ours under another name.
OLDER = {
    "which_model_netG": "netG",
    "which_model_netD": "netD",
    "which_direction": "direction",
    "which_epoch": "epoch",
    "resize_or_crop": "preprocess",
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "batchSize": "batch_size",
    "nThreads": "num_threads",
    "niter": "n_epochs",
    "niter_decay": "n_epochs_decay",
    "save_epoch_freq": "save_epoch_every",
    "display_single_pane_ncols": "display_ncols",
}
# They count images to translate, and must not limit the images of a training.
TRAIN_OLDER = OLDER | dict.fromkeys(("how_many", "ntest"), "num_test")
TEST_OLDER = OLDER | dict.fromkeys(("num_test", "how_many", "ntest"), "max_dataset_size")
_FLAGS = {
    *("no_dropout", "no_lsgan", "no_html", "no_flip", "serial_batches"),
    *("save_by_iter", "use_wandb", "verbose", "eval", "isTrain"),
}
# Options as typed: text, None, or True for a flag.
Typed = Mapping[str, Any]


def classic_options(*, train: bool) -> dict[str, bool]:
    """The classic options that a command takes, and whether each is a flag."""
    table, older = (TRAIN_TABLE, TRAIN_OLDER) if train else (TEST_TABLE, TEST_OLDER)
    names = {name for entry in table for name in entry.names} | older.keys()
    return {name: name in _FLAGS for name in sorted(names) if "=" not in name}


def convert(typed: Typed, *, train: bool) -> tuple[dict[str, Any], list[str]]:
    """The options with the classic ones converted to ours, and a line to print for each conversion.

    Raises UserError, with the remedy, for a classic option that is not supported or that
    contradicts another option.
    """
    table, older = (TRAIN_TABLE, TRAIN_OLDER) if train else (TEST_TABLE, TEST_OLDER)
    names = {spelled: _name(older.get(spelled, spelled), typed[spelled]) for spelled in typed}
    _refuse_contradictions(typed, names)
    given = {
        names[spelled]: "" if value is True else str(value)
        for spelled, value in typed.items()
        if value is not None
    }
    classic = {name for entry in table for name in entry.names}
    lines = [
        _line({spelled: typed[spelled]}, {name: typed[spelled]})
        for spelled, name in names.items()
        if spelled in older and name not in classic
    ]
    converted: dict[str, str] = {}
    removed: set[str] = set()
    for entry in table:
        if given.keys().isdisjoint(entry.names):
            continue
        result = entry.convert(given | converted)
        new = {name: value for name, value in result.items() if value is not None}
        old = {*entry.names, *(result.keys() - new.keys()), *(new.keys() & {*entry.replaces})}
        replaced = {spelled: typed[spelled] for spelled, name in names.items() if name in old}
        _refuse_unsupported(entry, replaced)
        _refuse_doubles(new, given.keys() - old, replaced)
        lines.append(_line(replaced, new, entry.note))
        converted |= new
        removed |= old
    kept = {name: typed[spelled] for spelled, name in names.items() if name not in removed}
    return {**kept, **converted}, lines


def classic_remedy(option: str) -> str | None:
    """What to do about a classic option in a YAML file, as the end of a sentence that begins with
    its name; None for any other name.
    """
    option = option.replace("-", "_")
    if option not in classic_options(train=True) | classic_options(train=False):
        return None
    return (
        "is an option of pytorch-CycleGAN-and-pix2pix: give it on the command line, where it is "
        "converted, or see docs/from-pytorch-cyclegan.md"
    )


def _name(name: str, value: Any) -> str:
    """The name in the tables, which have names of their own for some options with some values."""
    if name == "identity" and NUMBER.fullmatch(str(value)):
        return "lambda_identity"
    if name == "max_dataset_size" and value == "inf":
        return "max_dataset_size=inf"
    off = name == "display_id" and re.fullmatch(r"-[0-9]+", str(value))
    return "display_id=-1" if off else name


def _refuse_contradictions(typed: Typed, names: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for spelled, name in names.items():
        other = first.setdefault(name, spelled)
        if typed[other] != typed[spelled]:
            both = _words({other: typed[other], spelled: typed[spelled]})
            raise UserError(f"{both} are two values of one option: leave one of them out")


def _refuse_unsupported(entry: Entry, replaced: Typed) -> None:
    for spelled, value in replaced.items():
        if entry.only is not None and value not in entry.only:
            raise UserError(f"{_words({spelled: value})} is not supported: {entry.remedy}")


def _refuse_doubles(new: Mapping[str, str], others: Collection[str], replaced: Typed) -> None:
    """A slot and its own domain, as --cycle and --cycle_A, contradict each other too."""
    for name, value in new.items():
        for other in others:
            if other in (name, _slot(name)) or _slot(other) == name:
                raise UserError(
                    f"{_words(replaced)} means {_words({name: value})}, but --{other} is given "
                    "too: leave one of them out"
                )


def _slot(name: str) -> str:
    return re.sub(r"_[AB]$", "", name)


def _line(old: Typed, new: Typed, note: str = "") -> str:
    verdict = f"taken for {_words(new)}" if new else "not needed here"
    return f"{_words(old)}: {verdict}{f' ({note})' if note else ''}"


def _words(options: Typed) -> str:
    """The options as one would type them."""
    words = [
        word
        for name, value in options.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]
    return " ".join(w if re.fullmatch(r"[\w.,:/=+-]+", w) else f'"{w}"' for w in words)
