"""From the words on the command line to checked settings.

Defaults, then the preset (or, with --continue_train, the run's own settings), then --config, then
the options on the command line: each overrides those before it.
"""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from cyclegan.config import options as options
from cyclegan.config import pytorch_cyclegan, yaml_files
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest
from cyclegan.config.options import AnySettings, Settings, TranslateSettings
from cyclegan.config.parts import refuse_import_paths
from cyclegan.config.train_options import TrainSettings

# What a saved run does not say for the one who goes on with it.
ELSEWHERE = ("display_server", "cache_dir")

_METAVARS = {Path: "PATH", int: "N", float: "X"}


def train_settings(arguments: Sequence[str]) -> TrainSettings:
    """Settings of train.py; raises UserError for a mistake, SystemExit(0) after --help."""
    chosen = parse(TrainSettings, _in_our_words(arguments, train=True))
    config = options.check(TrainSettings, {"config": chosen.get("config")}).config
    asked = _over(_config_file(config), chosen)
    going_on = "continue_train" in chosen
    if going_on:
        values = _saved_settings(asked)
    else:
        preset = str(asked.get("preset", TrainSettings.model_fields["preset"].default))
        values = {**yaml_files.load_preset(preset), "preset": preset}
    settings = _with_name(options.check(TrainSettings, _over(values, asked)))
    # Saved settings may be somebody else's; a preset and what is typed are the user's own.
    if going_on and not settings.trust_imports:
        refuse_import_paths(settings.terms())
    return settings


def translate_settings(arguments: Sequence[str]) -> TranslateSettings:
    """Settings of test.py."""
    arguments = _in_our_words(arguments, train=False)
    return options.check(TranslateSettings, parse(TranslateSettings, arguments))


def run_settings(run_dir: Path) -> TrainSettings:
    """What a run was trained with; raises UserError where the folder holds no run."""
    path = run_dir / yaml_files.SETTINGS_FILE
    if not path.is_file():
        raise UserError(_no_run(run_dir))
    values = yaml_files.load_yaml(path)
    if not values:
        raise UserError(f"{path} is empty: without it nobody knows which networks the run has")
    return options.check(TrainSettings, values)


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Both, `upper` winning: also where it names in general what `lower` has for one direction."""
    hidden = {f"{name}_{which}" for name in upper for which in ("A", "B", "BA", "D")}
    return {**{name: value for name, value in lower.items() if name not in hidden}, **upper}


def _config_file(path: Path | None) -> dict[str, Any]:
    values = yaml_files.load_yaml(path) if path else {}
    # What a file may not say for the one who asks: which run to go on with, and whom to trust.
    for option in ("continue_train", "trust_imports", "config"):
        if values.get(option):
            raise UserError(f"{path}: {option} belongs on the command line, as --{option}")
    return values


def _saved_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """What the run was trained with, for the run that the options asked for mean."""
    shared = {name: value for name, value in asked.items() if name in Settings.model_fields}
    where = options.check(Settings, shared)
    dir_B = asked.get("dir_B")
    name = where.name or _default_name(where.dataroot, Path(str(dir_B)) if dir_B else None)
    if name is None:
        raise UserError("--continue_train needs --name (or --dataroot) to know which run")
    path = where.checkpoints_dir / name / yaml_files.SETTINGS_FILE
    if not path.is_file():
        raise UserError(_no_run(path.parent))
    saved = yaml_files.load_yaml(path)
    begun_with = saved.get("preset", TrainSettings.model_fields["preset"].default)
    if asked.get("preset", begun_with) != begun_with:
        raise UserError(
            f"--preset {asked['preset']}: the run {name} was begun with {begun_with}; "
            "leave --preset out, or begin a new run without --continue_train"
        )
    # Where the run lies and whom to trust is said by the one who asks, never by a file.
    here = {"name": name, "checkpoints_dir": where.checkpoints_dir, "trust_imports": False}
    # Nor where previews, logins and caches go.
    here |= {option: TrainSettings.model_fields[option].default for option in ELSEWHERE}
    return {**saved, **here}


def _no_run(run_dir: Path) -> str:
    runs = sorted(path.parent.name for path in run_dir.parent.glob(f"*/{yaml_files.SETTINGS_FILE}"))
    known = f"runs there: {', '.join(runs)}" if runs else "there is no run there yet"
    if any(run_dir.glob("state_*.pt")):
        return (
            f"{run_dir} holds saved states but no {yaml_files.SETTINGS_FILE}: put it back, or one "
            "of a run with the same options"
        )
    classic = sorted(path.name for path in run_dir.glob("*_net_G*.pth"))
    if classic:
        return (
            f"{run_dir} holds weights but no {yaml_files.SETTINGS_FILE}, so they are not of a run "
            f"of ours: translate with --weights {run_dir / classic[0]} --input FOLDER"
        )
    return f"{run_dir} holds no run (no {yaml_files.SETTINGS_FILE}): check --name; {known}"


def _with_name(settings: TrainSettings) -> TrainSettings:
    if settings.dataroot is None and settings.dir_A is None:
        raise UserError("give --dataroot FOLDER (with trainA and trainB), or --dir_A and --dir_B")
    if settings.name is not None:
        return settings
    name = _default_name(settings.dataroot, settings.dir_B)
    if name is None:
        raise UserError(f"--dataroot {settings.dataroot}: no run can have that name: give --name")
    return settings.model_copy(update={"name": name})


def _default_name(dataroot: Path | None, dir_B: Path | None) -> str | None:
    folder = dataroot or dir_B
    if folder is None:
        return None
    # Path.resolve raises where a link leads to itself.
    name = Path(os.path.realpath(folder)).name
    try:
        # A folder may have a name that no run can have.
        options.check(Settings, {"name": name})
    except UserError:
        return None
    return name


def _in_our_words(arguments: Sequence[str], *, train: bool) -> list[str]:
    """The words with the classic implementation's options said in ours, telling what was taken for
    what.
    """
    words, lines = pytorch_cyclegan.translate(arguments, train=train)
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return words


def parse(model: type[AnySettings], arguments: Sequence[str]) -> dict[str, Any]:
    """The options that are given, as text that `options.check` converts. Raises UserError for an
    unknown option, SystemExit(0) after --help.
    """
    words = [_underscored(word) for word in arguments]
    parser = _parser(model)
    _refuse_unknown(parser, words)
    values = vars(parser.parse_args(words))
    return {name: _value(model.model_fields[name], value) for name, value in values.items()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see --help")


def _parser(model: type[AnySettings]) -> _Parser:
    """A parser with an argument for each field of the model, in the groups that it names."""
    words = [_positional(field) for field in model.model_fields.values()]
    examples = "".join(f"  {line}\n" for line in getattr(model, "EXAMPLES", ()))
    parser = _Parser(
        usage=" ".join(["%(prog)s", *filter(None, words), "[options]"]),
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


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # The description is a paragraph, the examples are lines.
        return text if "\n" in text else textwrap.fill(text, width)


def _add_argument(group: argparse._ActionsContainer, name: str, field: FieldInfo) -> None:
    note = (field.description or "").replace("%", "%%")
    if metavar := _positional(field):
        many = metavar.endswith("...")
        group.add_argument(name, nargs="*" if many else "?", metavar=metavar, help=note)
        return
    names = dict.fromkeys((f"--{_extra(field).get('spelled', name)}", f"--{name}"))
    if field.annotation is bool:
        group.add_argument(*names, dest=name, action="store_true", help=note)
        return
    default = "" if field.default is None else f" (default: {field.default})".replace("%", "%%")
    group.add_argument(*names, dest=name, metavar=_metavar(field.annotation), help=note + default)


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _positional(field: FieldInfo) -> str:
    """The name in --help of a value without an option; it ends in ... if there may be several."""
    return str(_extra(field).get("positional", ""))


def _metavar(annotation: Any) -> str:
    """What an option takes, in one word: a|b for a choice, PATH, N, X or TEXT."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _metavar(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return "|".join(map(_metavar, kinds)) or _METAVARS.get(annotation, "TEXT")


def _value(field: FieldInfo, word: Any) -> Any:
    """None for "None" where an option may be nothing, a number where one is among the choices."""
    kinds = (field.annotation, *get_args(field.annotation))
    if word == "None" and type(None) in kinds:
        return None
    choices = [each for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    return next((choice for choice in choices if str(choice) == word), word)


def _underscored(word: str) -> str:
    """--load-size=9 as --load_size=9: an option may be spelled either way."""
    option, equals, value = word.partition("=")
    return option[:2] + option[2:].replace("-", "_") + equals + value if word[:2] == "--" else word


def _refuse_unknown(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    known = [option.lstrip("-") for option in parser._option_string_actions]
    for before, word in zip(["", *words], words, strict=False):
        # An empty path would mean the working folder; most often a shell variable is not set.
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UserError(f"{word.rstrip('=') or before} has an empty value: give one")
        option = word.partition("=")[0].lstrip("-")
        is_option = re.match(r"--|-[A-Za-z]", word)
        if is_option and word[1] != "-" and word != "-h" and option in known:
            raise UserError(f"unknown option {word}: write --{option}; see --help")
        if is_option and word != "-h" and option not in known:
            spelled = word.partition("=")[0]
            raise UserError(f"unknown option {spelled}{nearest(option, known)}; see --help")
