"""YAML as plain data: the one module that imports the reader, which --help does without."""

from pathlib import Path
from typing import Any

import yaml

from cyclegan.config.errors import UserError, short

# All options there are take a tenth of that.
MOST_BYTES = 100_000


class _OnceLoader(yaml.SafeLoader):
    """Plain data only, and no key twice: of two values the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number = super().construct_yaml_int(node)
        # Python does not even print a number of 5,000 digits.
        if number.bit_length() > 64:
            raise yaml.constructor.ConstructorError(None, None, "a number in it is too large")
        return number

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Merged into each other, a few lines make billions of keys.
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "<< is not read here")


_OnceLoader.add_constructor("tag:yaml.org,2002:int", _OnceLoader.construct_yaml_int)


def read(path: Path) -> dict[Any, Any]:
    """The lines of a file, none where it is empty; raises UserError where it is not such a file."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UserError(f"{path} is no file of options: it has more than {MOST_BYTES} bytes")
        values = yaml.load(text.decode(), Loader=_OnceLoader)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is not text in UTF-8") from None
    # A tag on a value that is not of its kind makes the reader raise anything: KeyError,
    # IndexError, AttributeError, ValueError ...
    except Exception as error:
        reason = short(" ".join(str(error).split()), most=300) or type(error).__name__
        raise UserError(f"{path} is not plain YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines like `batch_size: 4`")
    return values


def written(values: dict[str, Any]) -> str:
    """The text that `read` gives back, in the order of `values`."""
    return yaml.safe_dump(values, sort_keys=False)
