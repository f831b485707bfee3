"""Settings as YAML: presets, files of the user's own, and what a run was trained with."""

from pathlib import Path
from typing import Any

import yaml

from cyclegan.classic_options import spelling
from cyclegan.errors import UserError
from cyclegan.settings import Settings, TrainSettings
from cyclegan.spec import nearest

PRESETS_DIR = Path(__file__).parent
SETTINGS_FILE = "settings.yaml"


def load_yaml(path: Path, model: type[Settings] = TrainSettings) -> dict[str, Any]:
    """The options in a YAML file, plain data only, their names checked."""
    values = _read_yaml(path)
    for option, value in values.items():
        if option not in model.model_fields:
            if remedy := spelling(str(option)):
                raise UserError(f"{path}: {option} {remedy}")
            hint = nearest(str(option), model.model_fields)
            raise UserError(f"{path} names an unknown option {option}{hint}")
        if isinstance(value, list | dict | set):
            raise UserError(f"{path}: {option} takes one value, not a list of them")
        # To YAML `yes` is true, and to Python true is 1.
        if isinstance(value, bool) and model.model_fields[option].annotation is not bool:
            raise UserError(f"{path}: {option} takes no yes or no: put the value in quotes")
    return values


def to_yaml(settings: Settings) -> str:
    """The resolved settings, as load_yaml reads them back."""
    values = settings.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False)


def load_preset(name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"--preset {name} is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    return load_yaml(PRESETS_DIR / f"{name}.yaml")


class _OnceLoader(yaml.SafeLoader):
    """Plain data only, and no key twice: of two values the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is not text in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines like `batch_size: 4`")
    return values
