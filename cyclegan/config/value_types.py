"""The types of options whose values need more than pydantic's checks."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainSerializer, PlainValidator, ValidationInfo

from cyclegan.config import expressions
from cyclegan.config.expressions import Term

_DURATION = re.compile(r"(\d{1,4}d)?(\d{1,5}h)?(\d{1,6}m)?(\d{1,8}s)?")
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}

# "files" writes the run's folder alone; NO_MONITOR not even previews.
NO_MONITOR = "none"
MONITORS = ("visdom", "tensorboard", "wandb", "files", NO_MONITOR)


def seconds(duration: str) -> int:
    """The seconds in 11h30m, 2d, 90m or 45s; raises ValueError for anything else."""
    found = _DURATION.fullmatch(duration.strip().lower())
    parts = filter(None, found.groups()) if found else ()
    total = sum(int(part[:-1]) * _SECONDS[part[-1]] for part in parts)
    if not total:
        raise ValueError("must be a time as 11h30m, 90m or 45s")
    return total


def _duration(text: str) -> str:
    seconds(text)
    return text


def _device_name(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,2})?", name):
        raise ValueError("must be auto, cuda, cuda:1, mps or cpu")
    return name


def _folder_name(name: str) -> str:
    if name != Path(name).name or name in ("", ".", "..") or "\\" in name:
        raise ValueError("must be a plain name, without folders in it")
    if name != name.strip() or not name.isprintable():
        raise ValueError("must be a plain name, without spaces around it or unprintable characters")
    return name


def _user_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("must be a path, without unprintable characters")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("there is no such home folder: write the path out") from None


def _batch_size(size: int | str) -> int | str:
    if isinstance(size, int) and not 1 <= size <= 65536:
        raise ValueError("must be from 1 to 65536, or auto")
    return size


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("input should be a valid string")
    return value


def _expression(value: Any, info: ValidationInfo) -> expressions.Expression:
    return expressions.parse(_text(value), option=str(info.field_name))


def _part(value: Any, info: ValidationInfo) -> Term:
    return expressions.parse_one(_text(value), option=str(info.field_name))


def _monitors(value: Any, info: ValidationInfo) -> expressions.Expression:
    """The terms of "visdom,my_monitors.Mine(lines=3)"; commas in brackets separate nothing."""
    option = str(info.field_name)
    names = [part.strip() for part in re.split(r",(?![^()]*\))", _text(value))]
    for name in names:
        if name not in MONITORS and not re.fullmatch(r"\w+(\.\w+)+(\(.*\))?", name):
            known = ", ".join(MONITORS)
            raise ValueError(f"{name or 'nothing'} is no monitor: {known}, or package.Class")
    if len(names) > 1 and NO_MONITOR in names:
        raise ValueError("none stands alone")
    if len(set(names)) < len(names):
        raise ValueError("one of them is named twice")
    if names == [NO_MONITOR]:
        terms = [Term(NO_MONITOR)]
    else:
        terms = [expressions.parse_one(name, option=option) for name in names]
    return expressions.Expression(terms, option=option, text=",".join(names))


_AS_TEXT = PlainSerializer(lambda value: getattr(value, "text", value))

# A weighted sum of parts, as "10*l1 + 1*ssim"; a single part, as "resnet(blocks=9)".
Expression = Annotated[expressions.Expression, PlainValidator(_expression), _AS_TEXT]
Part = Annotated[Term, PlainValidator(_part), _AS_TEXT]
MonitorNames = Annotated[expressions.Expression, PlainValidator(_monitors), _AS_TEXT]
DeviceName = Annotated[str, AfterValidator(_device_name)]
Duration = Annotated[str, AfterValidator(_duration)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
UserPath = Annotated[Path, AfterValidator(_user_path)]
BatchSize = Annotated[int | Literal["auto"], AfterValidator(_batch_size)]
