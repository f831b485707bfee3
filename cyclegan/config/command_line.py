"""From a command line to checked settings.

Four layers, each overriding those before it: the defaults, the preset (with --continue_train: the
settings that the run saved), the file of --config, the options on the command line.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from cyclegan.config import options as options
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest
from cyclegan.config.options import Model, TranslateSettings
from cyclegan.config.parts import refuse_import_paths
from cyclegan.config.pytorch_cyclegan import conversion
from cyclegan.config.train_options import TrainSettings

Options = dict[str, Any]

_METAVARS = {Path: "PATH", int: "N", float: "X"}


def train_settings(arguments: Sequence[str]) -> TrainSettings:
    """Settings of train.py; raises UserError for a mistake, SystemExit(0) after --help."""
    typed = _parse_with_classic(TrainSettings, arguments)
    # It loads PyYAML, which --help and a mistyped option do without.
    from cyclegan.config import yaml_files

    config = options.check(TrainSettings, {"config": typed.get("config")}).config
    given = merge_layers(yaml_files.load_config(config) if config else {}, typed)
    continues = "continue_train" in typed
    if continues:
        lower = yaml_files.load_saved(given)
    else:
        preset = str(given.get("preset", TrainSettings.model_fields["preset"].default))
        lower = {**yaml_files.load_preset(preset), "preset": preset}
    settings = _with_name(options.check(TrainSettings, merge_layers(lower, given)))
    # Somebody else may have written the saved settings; presets and typed options are trusted.
    if continues and not settings.trust_imports:
        refuse_import_paths(settings.terms())
    return settings


def translate_settings(arguments: Sequence[str]) -> TranslateSettings:
    """Settings of test.py; raises UserError for a mistake, SystemExit(0) after --help."""
    return options.check(TranslateSettings, _parse_with_classic(TranslateSettings, arguments))


def parse(
    model: type[Model], arguments: Sequence[str], *, hidden: Mapping[str, bool] = {}
) -> Options:
    """The options on a command line, as text that `options.check` converts, and True for a flag.

    `hidden` names further options that --help does not show, and tells which of them are flags.
    Raises UserError for an unknown option, SystemExit(0) after --help.
    """
    arguments = [_with_underscores(word) for word in arguments]
    parser = _parser(model)
    for name in hidden.keys() - model.model_fields:
        action = "store_true" if hidden[name] else "store"
        parser.add_argument(f"--{name}", action=action, help=argparse.SUPPRESS)
    _refuse_unknown(parser, arguments)
    values = vars(parser.parse_args(arguments))
    return {name: _value(model.model_fields.get(name), value) for name, value in values.items()}


def merge_layers(lower: Options, upper: Options) -> Options:
    """Both layers; `upper` overrides, and its `--cycle` also overrides `--cycle_A` of `lower`."""
    hidden = {f"{name}_{suffix}" for name in upper for suffix in ("A", "B", "BA", "D")}
    return {**{name: value for name, value in lower.items() if name not in hidden}, **upper}


def _with_name(settings: TrainSettings) -> TrainSettings:
    if settings.dataroot is None and settings.dir_A is None:
        raise UserError("give --dataroot FOLDER (with trainA and trainB), or --dir_A and --dir_B")
    if settings.name is not None:
        return settings
    name = options.default_name(settings.dataroot, settings.dir_B)
    if name is None:
        raise UserError(f"--dataroot {settings.dataroot}: no run can have that name: give --name")
    return settings.model_copy(update={"name": name})


def _parse_with_classic(model: type[Model], arguments: Sequence[str]) -> Options:
    """Converts options of pytorch-CycleGAN-and-pix2pix, and prints what each was taken for."""
    train = model is TrainSettings
    typed = parse(model, arguments, hidden=conversion.classic_options(train=train))
    converted, lines = conversion.convert(typed, train=train)
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return converted


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace(
            "expected one argument",
            "expected a value; one that begins with a minus follows an equals sign",
        )
        raise UserError(f"{message}; see --help")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # The description is a paragraph, the examples are lines.
        return text if "\n" in text else textwrap.fill(text, width)


def _parser(model: type[Model]) -> _Parser:
    """A parser with an argument for each field of the model, in the model's GROUPS."""
    positional = [_positional(field) for field in model.model_fields.values()]
    examples = "".join(f"  {line}\n" for line in getattr(model, "EXAMPLES", ()))
    parser = _Parser(
        usage=" ".join(["%(prog)s", *filter(None, positional), "[options]"]),
        description=" ".join((model.__doc__ or "").split()),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=_HelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    groups: Mapping[str, str] = getattr(model, "GROUPS", {})
    group: argparse._ActionsContainer = parser
    for name, field in model.model_fields.items():
        if name in groups:
            group = parser.add_argument_group(groups[name])
        _add_argument(group, name, field)
    return parser


def _add_argument(group: argparse._ActionsContainer, name: str, field: FieldInfo) -> None:
    text = field.description or ""
    if metavar := _positional(field):
        nargs = "*" if metavar.endswith("...") else "?"
        group.add_argument(name, nargs=nargs, metavar=metavar, help=text.replace("%", "%%"))
        return
    keywords: dict[str, Any] = {"metavar": _metavar(field.annotation)}
    if field.annotation is bool:
        keywords = {"action": "store_true"}
    elif field.default is not None:
        text += f" (default: {field.default})"
    names = dict.fromkeys((f"--{_extra(field).get('spelled', name)}", f"--{name}"))
    group.add_argument(*names, dest=name, help=text.replace("%", "%%"), **keywords)


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _positional(field: FieldInfo) -> str:
    """The metavar of a positional argument, ending in "..." if it is repeatable; "" for options."""
    return str(_extra(field).get("positional", ""))


def _metavar(annotation: Any) -> str:
    """a|b for a choice, PATH, N, X or TEXT."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _metavar(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return "|".join(map(_metavar, kinds)) or _METAVARS.get(annotation, "TEXT")


def _value(field: FieldInfo | None, word: Any) -> Any:
    """None for "None" if the option may be None; a number if it is one of the choices."""
    if field is None:
        return word
    kinds = (field.annotation, *get_args(field.annotation))
    if word == "None" and type(None) in kinds:
        return None
    choices = [each for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    return next((choice for choice in choices if str(choice) == word), word)


def _with_underscores(word: str) -> str:
    """--load-size=9 as --load_size=9: both spellings are accepted."""
    option, equals, value = word.partition("=")
    return option[:2] + option[2:].replace("-", "_") + equals + value if word[:2] == "--" else word


def _refuse_unknown(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    known = [option.lstrip("-") for option in parser._option_string_actions]
    for before, word in zip(["", *words], words, strict=False):
        # An empty path would mean the working folder; usually a shell variable is not set.
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UserError(f"{word.rstrip('=') or before} has an empty value: give one")
        if word == "-h" or not re.match(r"--|-[A-Za-z]", word):
            continue
        spelled = word.partition("=")[0]
        option = spelled.lstrip("-")
        if option not in known:
            raise UserError(f"unknown option {spelled}{nearest(option, known)}; see --help")
        if word[1] != "-":
            raise UserError(f"unknown option {word}: write --{option}; see --help")
