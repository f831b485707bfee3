"""YAML as plain data: the one module that imports the reader, which --help does without."""

from pathlib import Path
from typing import Any

import yaml

from cyclegan.errors import UserError


class _OnceLoader(yaml.SafeLoader):
    """Plain data only, and no key twice: of two values the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice")
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[Any, Any]:
    """The lines of a file, none where it is empty; raises UserError where it is not such a file."""
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


def written(values: dict[str, Any]) -> str:
    """The text that `read` gives back, in the order of `values`."""
    return yaml.safe_dump(values, sort_keys=False)
