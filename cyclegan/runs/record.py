"""A run's run.json: what was typed, on what it ran, how it ended; and how a run's folder stands."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

from cyclegan.config import yaml_files
from cyclegan.config.errors import UserError
from cyclegan.runs.atomic_files import find_states, write_atomically
from cyclegan.runs.control_files import FILES, Wish
from cyclegan.runs.metrics_log import METRICS_FILE

RECORD_FILE = "run.json"
EVALUATION_FILE = "evaluation.json"
LOCK_FILE = ".lock"

Ending = Literal["finished", "stopped", "failed"]
Told = Literal["running", "finished", "stopped", "failed"]
State = Literal["running", "paused", "finished", "stopped", "failed", "crashed"]

# A file of one's own has a few thousand bytes; of what somebody else put there, no more is read.
_MOST_BYTES = 1_000_000
_MOST_LINES = 200

# Each of these makes a folder a run's.
_SIGNS = (RECORD_FILE, yaml_files.SETTINGS_FILE, METRICS_FILE)

_PACKAGES = ("torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True)
class Record:
    """What a run says of itself, when it starts and when it ends; times are ISO 8601, local."""

    command: tuple[str, ...]
    started: str
    ended: str | None = None
    state: Told = "running"
    why: str = ""
    step: int = 0
    total_steps: int = 0
    data: tuple[str, ...] = ()
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def at_end(self, state: Ending, *, step: int, why: str = "") -> Record:
        """The same run, ended now."""
        return replace(self, ended=now(), state=state, step=step, why=why)


def now() -> str:
    """As 2026-03-01T14:05:09+01:00."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python and of what the numbers of a run depend on."""
    found = {"python": platform.python_version()}
    for name in ("cyclegan", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # Run from its folder, without being installed.
            continue
    return found


def write_record(run_dir: Path, record: Record) -> None:
    """Raises OSError where the disk takes it not."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_atomically(run_dir / RECORD_FILE, lambda file: file.write(text.encode(errors="replace")))


def read_record(run_dir: Path) -> Record | None:
    """None where there is no such file, or not a file of ours; what is odd in one is left out."""
    found = read_json(run_dir / RECORD_FILE)
    if not isinstance(found, dict) or found.get("state") not in get_args(Told):
        return None
    ended = _text(found.get("ended"))
    return Record(
        command=_texts(found.get("command")),
        started=_text(found.get("started")),
        ended=ended or None,
        state=found["state"],
        why=_text(found.get("why")),
        step=_count(found.get("step")),
        total_steps=_count(found.get("total_steps")),
        data=_texts(found.get("data")),
        device=_text(found.get("device")),
        versions=_pairs(found.get("versions")),
    )


def state_of(run_dir: Path) -> State:
    """How the run stands now, by its files and by whether a process trains there."""
    if is_held(run_dir):
        return "paused" if (run_dir / FILES[Wish.PAUSE]).exists() else "running"
    record = read_record(run_dir)
    if record is None:
        return "finished" if _seems_finished(run_dir) else "stopped"
    return "crashed" if record.state == "running" else record.state


def find_runs(folder: Path) -> list[Path]:
    """The runs in a folder, those that showed a sign of life last first. Raises OSError where it
    cannot be read.
    """
    alive = {path: _last_sign(path) for path in folder.iterdir()}
    runs = [path for path, moment in alive.items() if moment]
    return sorted(runs, key=lambda path: (-alive[path], path.name))


def is_run(folder: Path) -> bool:
    """Whether there is anything in the folder that only runs have."""
    return _last_sign(folder) > 0


def total_steps(run_dir: Path, points: Sequence[tuple[int, object]]) -> int:
    """The length of the run; where nobody has written it down, as far as it came."""
    record = read_record(run_dir)
    if record and record.total_steps:
        return record.total_steps
    told = points[-1][0] if points else 0
    return max(told, _count(read_settings(run_dir).get("steps")))


def is_resumable(run_dir: Path) -> bool:
    """Whether there is a state to go on from."""
    try:
        return bool(find_states(run_dir))
    except OSError:
        return False


def is_held(run_dir: Path) -> bool:
    """Whether a process trains there, found without writing anything, in whoever's folder."""
    # As filelock does it on Unix; to share the lock takes no right to write the file.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(run_dir / LOCK_FILE, flags)
    except OSError:
        return False
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)


def read_json(path: Path, *, most_bytes: int = _MOST_BYTES) -> Any:
    """A small file's content; None where it is missing, broken or larger than that."""
    try:
        # A pipe of that name would wait for its other end.
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(most_bytes + 1)
        return json.loads(text) if len(text) <= most_bytes else None
    # A number of 5,000 digits is a ValueError, brackets 5,000 deep are a RecursionError.
    except (OSError, ValueError, RecursionError):
        return None


def read_settings(run_dir: Path) -> dict[str, Any]:
    """The options in a run's settings.yaml; none where it is missing or broken."""
    path = run_dir / yaml_files.SETTINGS_FILE
    try:
        return yaml_files.load_yaml(path) if path.is_file() else {}
    except (UserError, OSError):
        return {}


def _last_sign(run_dir: Path) -> float:
    """When a file of a run was last written there; 0 where there is none."""
    try:
        signs = [*(run_dir / name for name in _SIGNS), *find_states(run_dir)]
        return max((path.stat().st_mtime for path in signs if path.is_file()), default=0.0)
    except OSError:
        return 0.0


def _seems_finished(run_dir: Path) -> bool:
    """Of a run without a record: whether it was measured at its end, or reached its --steps."""
    states = find_states(run_dir)
    newest = int(states[0].stem.removeprefix("state_")) if states else 0
    evaluation = read_json(run_dir / EVALUATION_FILE)
    if isinstance(evaluation, dict) and _count(evaluation.get("step")) >= max(1, newest):
        return True
    return newest > 0 and newest == _count(read_settings(run_dir).get("steps"))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite number, of a size that fits a fraction of Python's."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**15


def _text(value: object) -> str:
    return value[:10_000] if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(_text(line) for line in value[:_MOST_LINES] if isinstance(line, str))


def _pairs(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {_text(k): _text(v) for k, v in list(value.items())[:_MOST_LINES] if isinstance(v, str)}


def _count(value: Any) -> int:
    return max(0, int(value)) if is_number(value) else 0
