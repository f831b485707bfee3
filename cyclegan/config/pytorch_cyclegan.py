"""Command lines of the classic implementation (pytorch-CycleGAN-and-pix2pix) in our own words.

What each of its options means here stands in classic_table.py, and for users, with the differences,
in docs/from-pytorch-cyclegan.md.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cyclegan.config.errors import UserError
from cyclegan.config.pytorch_cyclegan_table import NUMBER, TEST_GROUPS, TRAIN_GROUPS

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
# How many images to translate: no business of training, whose images it would cut.
TRAIN_OLDER = OLDER | dict.fromkeys(("how_many", "ntest"), "num_test")
TEST_OLDER = OLDER | dict.fromkeys(("num_test", "how_many", "ntest"), "max_dataset_size")
_SWITCHES = {"no_dropout", "no_lsgan", "no_html", "no_flip", "serial_batches"}
_FLAGS = _SWITCHES | {"save_by_iter", "use_wandb", "verbose", "eval", "isTrain"}
# Whole numbers under another name, from what on: checked here, to be named as they were typed.
_LEAST = {
    **dict.fromkeys(("load_size", "crop_size", "batch_size", "save_epoch_every"), 1),
    **dict.fromkeys(("num_threads", "n_epochs", "n_epochs_decay"), 0),
    "max_dataset_size": 1,
}
_NEEDS_NO_QUOTES = re.compile(r"[\w.,:/=+-]+")


class Rule(NamedTuple):
    """An option that is not needed here if it has one of the values (None: any)."""

    why: str
    values: tuple[str, ...] | None = None
    remedy: str = ""


_GRAY = "images are RGB, and gray files are read as such: leave it out"
_LATEST = "--continue_train goes on from the latest state: leave it out"
_OWN_LAYOUT = Rule("the live page lays itself out")
_REPORT = Rule("index.html keeps itself up to date")

_BOTH = {
    "input_nc": Rule("images are RGB", ("3",), _GRAY),
    "output_nc": Rule("images are RGB", ("3",), _GRAY),
    "verbose": Rule("there is no more to print"),
    "isTrain": Rule("the command tells it"),
    "max_dataset_size=inf": Rule("all images are used"),
    "display_winsize": _OWN_LAYOUT,
    "wandb_project_name": Rule("only --use_wandb reads it"),
    "use_wandb": Rule("", (), "the curves are in index.html and metrics.jsonl; leave it out"),
}
TRAIN_RULES = _BOTH | {
    "num_test": Rule("test.py alone reads it"),
    "no_dropout": Rule("there is no dropout unless --generator asks for it"),
    "phase": Rule("it is the default", ("train",), "name the folders, by --dir_A and --dir_B"),
    "epoch_count": Rule("--continue_train knows the epoch", ("1",), _LATEST),
    "epoch": Rule("it is the default", ("latest",), _LATEST),
    "load_iter": Rule("it is the default", ("0",), _LATEST),
    "save_by_iter": Rule("", (), "weights are kept by epochs; write --save_epoch_every 1"),
    "display_ncols": _OWN_LAYOUT,
    "display_env": Rule("the live page's environment has the run's name"),
    "update_html_freq": _REPORT,
    "no_html": _REPORT,
}
TEST_RULES = _BOTH | {
    "serial_batches": Rule("images are always taken in order"),
    "eval": Rule("networks are always in evaluation mode"),
    "aspect_ratio": Rule("results keep their shape", ("1", "1.0"), "resize the results instead"),
    "phase": Rule("it is the default", ("test",), "name the folder, by --input FOLDER"),
}


def translate(arguments: Sequence[str], *, train: bool) -> tuple[list[str], list[str]]:
    """The words of a command line in our spelling, and a line for each thing that was translated.

    Our own options pass untouched. Raises UserError, with the remedy, for a classic option that
    cannot be honoured, or that says the same as one of ours beside it.
    """
    groups, rules = (TRAIN_GROUPS, TRAIN_RULES) if train else (TEST_GROUPS, TEST_RULES)
    classic = {name for group in groups for name in group.names} | rules.keys()
    older = TRAIN_OLDER if train else TEST_OLDER
    options = [_read(words, classic, older) for words in _by_option(arguments)]
    _refuse_contradictions(options)
    given = {option.name: option.value for option in options}
    lines = [_line([o], {o.name: o.value}) for o in options if o.renamed and o.name not in classic]
    found: dict[str, str] = {}
    gone = set(rules)
    for group in groups:
        if not given.keys() & group.names:
            continue
        ours = group.convert(given | found)
        new = {name: value for name, value in ours.items() if value is not None}
        # None, and an option that the group says it replaces: the translation is made from it.
        old = {*group.names, *(ours.keys() - new.keys()), *(new.keys() & group.replaces)}
        replaced = [option for option in options if option.name in old]
        _refuse_doubles(new, given.keys() - old, replaced)
        lines.append(_line(replaced, new, group.note))
        found |= new
        gone |= old
    lines += _unneeded([option for option in options if option.name in rules], rules)
    kept = [word for option in options if option.name not in gone for word in option.ours]
    return kept + [word for name, value in found.items() for word in (f"--{name}", value)], lines


def spelling(option: str) -> str | None:
    """What to do about a name of the classic implementation where it is not translated, as in a
    YAML file: the end of a sentence that begins with it. None for a name it does not have.
    """
    groups = (*TRAIN_GROUPS, *TEST_GROUPS)
    names = {name for group in groups for name in group.names}
    names |= {*TRAIN_RULES, *TEST_RULES, *TEST_OLDER}
    if option.replace("-", "_") not in names:
        return None
    return (
        "is an option of pytorch-CycleGAN-and-pix2pix: give it on the command line, where it is "
        "translated, or see docs/from-pytorch-cyclegan.md"
    )


@dataclass(frozen=True)
class _Option:
    """One option as typed; `name` is what the tables call it, "" for a stray word."""

    words: tuple[str, ...]
    name: str = ""
    value: str = ""
    renamed: bool = False

    @property
    def spelled(self) -> str:
        return self.words[0].partition("=")[0].replace("-", "_")

    @property
    def ours(self) -> tuple[str, ...]:
        return (f"--{self.name}", self.value) if self.renamed else self.words


def _by_option(arguments: Sequence[str]) -> list[list[str]]:
    """Each option with the words up to the next one."""
    found: list[list[str]] = []
    for word in arguments:
        if word.startswith("--") or word == "-h" or not found:
            found.append([word])
        else:
            found[-1].append(word)
    return found


def _read(words: Sequence[str], classic: Collection[str], older: Mapping[str, str]) -> _Option:
    typed, equals, first = words[0].partition("=")
    if not typed.startswith("--"):
        return _Option(tuple(words))
    values = [first, *words[1:]] if equals else list(words[1:])
    value = values[-1] if values else ""
    plain = typed[2:].replace("-", "_")
    newer = older.get(plain, plain)
    name = _meaning(newer, value)
    expected = 0 if name in _FLAGS else 1
    # What is ours is left to the parser, whatever it looks like.
    if (name in classic or newer != plain) and len(values) != expected:
        rule = "takes one value" if expected else "takes no value"
        raise UserError(f"{_quoted(words)}: {typed} {rule}")
    least = _LEAST.get(name) if newer != plain else None
    if least is not None and not (re.fullmatch(r"[0-9]{1,9}", value) and int(value) >= least):
        raise UserError(f"{_quoted(words)}: must be a whole number from {least} up")
    return _Option(tuple(words), name, value, renamed=newer != plain)


def _meaning(name: str, value: str) -> str:
    """The tables' name for an option of ours whose value tells that the classic one is meant."""
    if name == "identity" and NUMBER.fullmatch(value):
        return "lambda_identity"
    if name == "max_dataset_size" and value == "inf":
        return "max_dataset_size=inf"
    off = name == "display_id" and re.fullmatch(r"-[0-9]+", value)
    return "display_id=-1" if off else name


def _refuse_contradictions(options: Sequence[_Option]) -> None:
    """Two spellings of one option; of one spelling the last counts, as in either parser."""
    seen: dict[str, _Option] = {}
    for option in options:
        first = seen.setdefault(option.name, option)
        if option.name and first.spelled != option.spelled and first.value != option.value:
            raise UserError(
                f"{_shown([first, option])} are two values of one option: leave one of them out"
            )


def _refuse_doubles(
    new: Mapping[str, str], others: Collection[str], replaced: Sequence[_Option]
) -> None:
    """A slot in general and one of its directions say the same twice, too."""
    for name, value in new.items():
        for other in others:
            if other in (name, _slot(name)) or _slot(other) == name:
                meant = _quoted([f"--{name}", value])
                raise UserError(
                    f"{_shown(replaced)} means {meant}, but --{other} is given too: "
                    "leave one of them out"
                )


def _slot(name: str) -> str:
    return re.sub(r"_[AB]$", "", name)


def _unneeded(options: Sequence[_Option], rules: Mapping[str, Rule]) -> list[str]:
    by_reason: dict[str, list[_Option]] = {}
    for option in options:
        rule = rules[option.name]
        if rule.values is not None and option.value not in rule.values:
            raise UserError(f"{_shown([option])} cannot be honoured: {rule.remedy}")
        by_reason.setdefault(rule.why, []).append(option)
    return [_line(same, {}, why) for why, same in by_reason.items()]


def _line(old: Sequence[_Option], new: Mapping[str, str], note: str = "") -> str:
    taken = _quoted([word for name, value in new.items() for word in (f"--{name}", value)])
    verdict = f"taken for {taken}" if new else "not needed here"
    return f"{_shown(old)}: {verdict}{f' ({note})' if note else ''}"


def _shown(options: Sequence[_Option]) -> str:
    return _quoted([word for option in options for word in option.words])


def _quoted(words: Sequence[str]) -> str:
    return " ".join(word if _NEEDS_NO_QUOTES.fullmatch(word) else f'"{word}"' for word in words)
