"""Settings as YAML: presets, files of the user's own, and what a run was trained with."""

from pathlib import Path
from typing import Any

from cyclegan.config.errors import UserError
from cyclegan.config.expressions import nearest
from cyclegan.config.options import Settings
from cyclegan.config.pytorch_cyclegan import spelling
from cyclegan.config.train_options import TrainSettings

PRESETS_DIR = Path(__file__).parent / "presets"
SETTINGS_FILE = "settings.yaml"


def load_yaml(path: Path, model: type[Settings] = TrainSettings) -> dict[str, Any]:
    """The options in a YAML file, plain data only, their names checked."""
    # No file is read for --help or a mistyped option: they are not to wait for its reader.
    from cyclegan.config import plain_yaml

    values = plain_yaml.read(path)
    for option, value in values.items():
        if option not in model.model_fields:
            if remedy := spelling(str(option)):
                raise UserError(f"{path}: {option} {remedy}")
            hint = nearest(str(option), model.model_fields)
            raise UserError(f"{path} names an unknown option {option}{hint}")
        _check_value(path, option, value, is_flag=model.model_fields[option].annotation is bool)
    return values


def to_yaml(settings: Settings) -> str:
    """The resolved settings, as load_yaml reads them back."""
    from cyclegan.config import plain_yaml

    return plain_yaml.written(settings.model_dump(mode="json"))


def load_preset(name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"--preset {name} is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    return load_yaml(PRESETS_DIR / f"{name}.yaml")


def _check_value(path: Path, option: str, value: object, *, is_flag: bool) -> None:
    if isinstance(value, list | tuple | dict | set):
        raise UserError(f"{path}: {option} takes one value, not a list of them")
    # To YAML `yes` is true, and to Python true is 1.
    if isinstance(value, bool) and not is_flag:
        raise UserError(f"{path}: {option} takes no yes or no: put the value in quotes")
    # Half a character, written as an escape; other such halves stand for bytes of a file's name.
    if isinstance(value, str) and not _can_be_encoded(value):
        raise UserError(f"{path}: {option} holds something that is no character")


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
