"""Settings in YAML files: presets, files of --config, and the settings that a run saves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cyclegan.config.errors import UserError, shorten
from cyclegan.config.expressions import nearest
from cyclegan.config.options import Settings, check, default_name
from cyclegan.config.pytorch_cyclegan.conversion import classic_remedy
from cyclegan.config.train_options import LOCAL_OPTIONS, TrainSettings

PRESETS_DIR = Path(__file__).parent / "presets"
SETTINGS_FILE = "settings.yaml"
# A file with every option has a tenth of this size.
MAX_BYTES = 100_000


def load_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file. Raises UserError for a tag, an unknown name or a nested value."""
    values, fields = _read(path), TrainSettings.model_fields
    for option, value in values.items():
        if option not in fields:
            if remedy := classic_remedy(str(option)):
                raise UserError(f"{path}: {option} {remedy}")
            hint = nearest(str(option), fields)
            raise UserError(f"{path} names an unknown option {option}{hint}")
        _check_value(path, option, value, is_flag=fields[option].annotation is bool)
    return values


def to_yaml(settings: Settings) -> str:
    """The text that `load_yaml` reads back as the same settings."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def load_preset(name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"--preset {name} is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    return load_yaml(PRESETS_DIR / f"{name}.yaml")


def preset_values(name: str) -> dict[str, Any]:
    """Every option's value with a preset, as plain data; the defaults if there is no such one."""
    defaults = TrainSettings.model_construct().model_dump(mode="json")
    try:
        return defaults | load_preset(name)
    except UserError:
        return defaults


def load_config(path: Path) -> dict[str, Any]:
    """The options in a file of --config."""
    values = load_yaml(path)
    # Only the command line may say which run to continue, and whom to trust.
    for option in ("continue_train", "trust_imports", "config"):
        if values.get(option):
            raise UserError(f"{path}: {option} belongs on the command line, as --{option}")
    return values


def load_saved(given: Mapping[str, Any]) -> dict[str, Any]:
    """What --continue_train takes from the saved settings of the run that `given` options name."""
    shared = {name: value for name, value in given.items() if name in Settings.model_fields}
    run = check(Settings, shared)
    dir_B = given.get("dir_B")
    name = run.name or default_name(run.dataroot, Path(str(dir_B)) if dir_B else None)
    if name is None:
        raise UserError("--continue_train needs --name (or --dataroot) to know which run")
    saved = load_yaml(_settings_file(run.checkpoints_dir / name))
    fields = TrainSettings.model_fields
    begun_with = saved.get("preset", fields["preset"].default)
    if given.get("preset", begun_with) != begun_with:
        raise UserError(
            f"--preset {given['preset']}: the run {name} was begun with {begun_with}; "
            "leave --preset out, or begin a new run without --continue_train"
        )
    # The file may come from another machine, or from somebody else.
    own = {option: fields[option].default for option in (*LOCAL_OPTIONS, "trust_imports")}
    return {**saved, **own, "name": name, "checkpoints_dir": run.checkpoints_dir}


def run_settings(run_dir: Path) -> TrainSettings:
    """The settings that a run was trained with; raises UserError if the folder holds no run."""
    path = _settings_file(run_dir)
    values = load_yaml(path)
    if not values:
        raise UserError(f"{path} is empty: without it nobody knows which networks the run has")
    return check(TrainSettings, values)


def json_settings(text: str) -> TrainSettings:
    """A run's settings in JSON, as a .safetensors file carries them; raises ValueError."""
    return check(TrainSettings, dict(json.loads(text)))


class _PlainLoader(yaml.SafeLoader):
    """Reads plain data only, and refuses a repeated key, whose first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number = super().construct_yaml_int(node)
        # Python refuses to print a number of 5,000 digits.
        if number.bit_length() > 64:
            raise yaml.constructor.ConstructorError(None, None, "a number in it is too large")
        return number

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # A few lines of nested merges would make billions of keys.
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "<< is not supported here")


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def _settings_file(run_dir: Path) -> Path:
    """The settings file of a run; raises UserError, naming what the folder does hold, without."""
    path = run_dir / SETTINGS_FILE
    if path.is_file():
        return path
    if any(run_dir.glob("state_*.pt")):
        raise UserError(
            f"{run_dir} holds saved states but no {SETTINGS_FILE}: put it back, or copy the one of "
            "a run with the same options"
        )
    if classic := sorted(run_dir.glob("*_net_G*.pth")):
        raise UserError(
            f"{run_dir} holds weights but no {SETTINGS_FILE}, so another program trained them: "
            f"translate with --weights {classic[0]} --input FOLDER"
        )
    runs = sorted(file.parent.name for file in run_dir.parent.glob(f"*/{SETTINGS_FILE}"))
    known = f"runs there: {', '.join(runs)}" if runs else "there is no run there yet"
    raise UserError(f"{run_dir} holds no run (no {SETTINGS_FILE}): check --name; {known}")


def _read(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UserError(f"{path} is no file of options: it has more than {MAX_BYTES} bytes")
        values = yaml.load(text.decode(), Loader=_PlainLoader)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is not text in UTF-8") from None
    # A tag on a value of another kind makes PyYAML raise KeyError, IndexError, ValueError ...
    except Exception as error:
        reason = shorten(" ".join(str(error).split()), 300) or type(error).__name__
        raise UserError(f"{path} is not plain YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines like `batch_size: 4`")
    return values


def _check_value(path: Path, option: str, value: object, *, is_flag: bool) -> None:
    if isinstance(value, list | tuple | dict | set):
        raise UserError(f"{path}: {option} takes one value, not a list of them")
    # YAML reads `yes` as true, and pydantic would take true for the number 1.
    if isinstance(value, bool) and not is_flag:
        raise UserError(f"{path}: {option} takes no yes or no: put the value in quotes")
    # An escape can write a lone surrogate. Those of "surrogateescape" are bytes of a file's name.
    try:
        str(value).encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise UserError(f"{path}: {option} holds an invalid character") from None
