"""run.json: the command, the data and the machine of a run, and how it ended."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import (
    AfterValidator,
    Field,
    InstanceOf,
    OnErrorOmit,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from cyclegan.runs.atomic_files import write_atomically

RECORD_FILE = "run.json"
EVALUATION_FILE = "evaluation.json"

Outcome = Literal["finished", "stopped", "failed"]


def or_default(default: object) -> WrapValidator:
    """Replaces a value of the wrong kind, in a file that somebody else has made, by the default."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(validate)


# pydantic's own str refuses the surrogates that stand for the bytes of a file's name.
Text = Annotated[InstanceOf[str], AfterValidator(lambda text: text[:10_000])]
_Word = Annotated[Text, or_default("")]
_Lines = Annotated[
    tuple[OnErrorOmit[Text], ...], AfterValidator(lambda lines: lines[:200]), or_default(())
]
_Versions = Annotated[dict[OnErrorOmit[Text], OnErrorOmit[Text]], or_default({})]
_Count = Annotated[int, Field(strict=True, ge=0, lt=10**15), or_default(0)]


@dataclass(frozen=True)
class RunRecord:
    """A run, as it describes itself at its start and at its end; times are ISO 8601, local."""

    command: _Lines = ()
    started: _Word = ""
    ended: Annotated[Text | None, or_default(None)] = None
    state: Literal["running", Outcome] = "running"
    why: _Word = ""
    step: _Count = 0
    total_steps: _Count = 0
    data: _Lines = ()
    device: _Word = ""
    versions: _Versions = field(default_factory=dict)

    def at_end(self, state: Outcome, *, step: int, why: str = "") -> RunRecord:
        """The same run, ended now."""
        return replace(self, ended=now(), state=state, step=step, why=why)


_RECORD = TypeAdapter(RunRecord)


def now() -> str:
    """The local time as 2026-03-01T14:05:09+01:00."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a run's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("cyclegan", "torch", "torchvision", "numpy", "pillow"):
        # This package may run from its folder, without being installed.
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Raises OSError if the write fails."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_atomically(run_dir / RECORD_FILE, text.encode())


def read_record(run_dir: Path) -> RunRecord | None:
    """None without a run.json of ours; a value of the wrong kind in it becomes the default."""
    found = read_json(run_dir / RECORD_FILE)
    if not isinstance(found, dict) or "state" not in found:
        return None
    try:
        return _RECORD.validate_python(found)
    except ValidationError:
        return None


def read_json(path: Path, *, max_bytes: int = 1_000_000) -> Any:
    """The content of a small file; None if it is missing, broken or larger than that."""
    try:
        # A named pipe would block until somebody writes to it.
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        return json.loads(text) if len(text) <= max_bytes else None
    # A number of 5,000 digits is a ValueError, brackets 5,000 deep are a RecursionError.
    except (OSError, ValueError, RecursionError):
        return None


def is_number(value: object) -> TypeGuard[int | float]:
    """True for a finite number below 1e15, which prints in a few digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**15
