"""Command lines of the classic implementation (pytorch-CycleGAN-and-pix2pix) in our own words.

What each of its options means here stands in classic_table.py, and for users, with the differences,
in docs/from-pytorch-cyclegan.md.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cyclegan.classic_table import (
    FLAGS,
    OLDER,
    TEST_GROUPS,
    TEST_RULES,
    TRAIN_GROUPS,
    TRAIN_RULES,
    Rule,
)
from cyclegan.errors import UserError

_NUMBER = re.compile(r"\d+\.?\d*(e-?\d+)?|\.\d+")
_NEEDS_NO_QUOTES = re.compile(r"[\w.,:/=+-]+")


def translate(arguments: Sequence[str], *, train: bool) -> tuple[list[str], list[str]]:
    """The words of a command line in our spelling, and a line for each thing that was translated.

    Our own options pass untouched. Raises UserError, with the remedy, for a classic option that
    cannot be honoured, or that says the same as one of ours beside it.
    """
    groups, rules = (TRAIN_GROUPS, TRAIN_RULES) if train else (TEST_GROUPS, TEST_RULES)
    classic = {name for group in groups for name in group.names} | rules.keys()
    options = [_read(words, classic) for words in _by_option(arguments)]
    given = {option.name: option.value for option in options}
    lines = [_line([o], {o.name: o.value}) for o in options if o.renamed and o.name not in classic]
    found: dict[str, str] = {}
    gone = set(rules)
    for group in groups:
        if not given.keys() & group.names:
            continue
        ours = group.convert(given)
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


@dataclass(frozen=True)
class _Option:
    """One option as typed; `name` is what the tables call it, "" for a stray word."""

    words: tuple[str, ...]
    name: str = ""
    value: str = ""
    renamed: bool = False

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


def _read(words: Sequence[str], classic: Collection[str]) -> _Option:
    typed, equals, first = words[0].partition("=")
    if not typed.startswith("--"):
        return _Option(tuple(words))
    values = [first, *words[1:]] if equals else list(words[1:])
    value = values[-1] if values else ""
    plain = typed[2:].replace("-", "_")
    newer = OLDER.get(plain, plain)
    name = _meaning(newer, value)
    expected = 0 if name in FLAGS else 1
    # What is ours is left to the parser, whatever it looks like.
    if (name in classic or newer != plain) and len(values) != expected:
        rule = "takes one value" if expected else "takes no value"
        raise UserError(f"{_quoted(words)}: {typed} {rule}")
    return _Option(tuple(words), name, value, renamed=newer != plain)


def _meaning(name: str, value: str) -> str:
    """The tables' name for an option of ours whose value tells that the classic one is meant."""
    if name == "identity" and _NUMBER.fullmatch(value):
        return "lambda_identity"
    if name == "max_dataset_size" and value == "inf":
        return "unlimited"
    return "no_display" if name == "display_id" and value.startswith("-") else name


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
