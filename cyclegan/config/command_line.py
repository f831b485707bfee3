"""From the words on the command line to checked settings.

Defaults, then the preset (or, with --continue_train, the run's own settings), then --config, then
the options on the command line: each overrides those before it.
"""

import contextlib
import inspect
import io
import os
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from cyclegan.config import options as options
from cyclegan.config import pytorch_cyclegan, yaml_files
from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest
from cyclegan.config.options import (
    AnySettings,
    Settings,
    TrainSettings,
    TranslateSettings,
)

# What a saved run does not say for the one who goes on with it.
ELSEWHERE = ("display_server", "cache_dir")

# The frame tyro draws round its messages.
_FRAME = re.compile(r"^[╭╰│─\s]+|[╮╯│─\s]+$")


def train_settings(arguments: Sequence[str]) -> TrainSettings:
    """Settings of train.py; raises UserError for a mistake, SystemExit(0) after --help."""
    arguments = _in_our_words(arguments, train=True)
    first = parse(TrainSettings, arguments)
    chosen = {name: first[name] for name in _given(TrainSettings, arguments)}
    asked = _over(_config_file(first["config"]), chosen)
    if first["continue_train"]:
        values = _saved_settings(asked)
    else:
        preset = str(asked.get("preset", first["preset"]))
        values = {**yaml_files.load_preset(preset), "preset": preset}
    return _with_name(options.check(TrainSettings, _over(values, asked)))


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


def _given(model: type[AnySettings], arguments: Sequence[str]) -> list[str]:
    words = {word[2:].partition("=")[0].replace("-", "_") for word in arguments if word[:2] == "--"}
    return [name for name in model.model_fields if name in words]


def parse(model: type[AnySettings], arguments: Sequence[str]) -> dict[str, Any]:
    """Typed but unchecked values of every option: tyro reads and helps, pydantic checks later."""
    _refuse_unknown(model, arguments)
    # A third of the time to an answer: a mistyped option is told without it.
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            values: dict[str, Any] = tyro.cli(
                _collector(model),
                args=list(arguments),
                description=(model.__doc__ or "").strip(),
                config=(tyro.conf.FlagCreatePairsOff,),
                use_underscores=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_unframed(said.getvalue()).rstrip('.')}; see --help") from None
    return values


def _collector(model: type[AnySettings]) -> Any:
    """A function with one keyword for each option, giving them back as a dict."""
    import tyro

    def collect(**values: Any) -> dict[str, Any]:
        return values

    parameters = []
    for name, field in model.model_fields.items():
        kind = _as_union(field.annotation)
        note = Annotated[kind, tyro.conf.arg(help=field.description)]  # type: ignore[valid-type]
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=note
            )
        )
    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collect.__annotations__ = {p.name: p.annotation for p in parameters}
    collect.__doc__ = model.__doc__
    return collect


def _as_union(annotation: Any) -> Any:
    """`int | None` as typing's Union, which tyro checks a default against by itself: for the other
    spelling, the same to Python, it loads a type checker, which takes longer than all options do.
    """
    if get_origin(annotation) is types.UnionType:
        return Union[get_args(annotation)]  # noqa: UP007
    return annotation


def _refuse_unknown(model: type[AnySettings], arguments: Sequence[str]) -> None:
    for before, word in zip(["", *arguments], arguments, strict=False):
        # An empty path would mean the working folder: most often an unset variable of the shell.
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UserError(f"{word.rstrip('=') or before} has an empty value: give one")
        option = word.partition("=")[0].lstrip("-").replace("-", "_")
        is_option = re.match(r"--|-[A-Za-z]", word)
        if not is_option or option in model.model_fields or word in ("--help", "-h"):
            if is_option and word[1] != "-" and word != "-h":
                raise UserError(f"unknown option {word}: write --{option}; see --help")
            continue
        hint = nearest(option, model.model_fields)
        raise UserError(f"unknown option {word.partition('=')[0]}{hint}; see --help")


def _unframed(text: str) -> str:
    """The first paragraph of a framed message, on one line."""
    lines = [_FRAME.sub("", line) for line in text.splitlines()[1:]]
    paragraph: list[str] = []
    for line in lines:
        if not line and paragraph:
            break
        if line:
            paragraph.append(line)
    return " ".join(paragraph) or "the command line cannot be read"
