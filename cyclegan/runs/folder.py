"""The folder of a run: claimed by the process that trains there, and inspected by any other."""

import errno
import fcntl
import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cyclegan.config.errors import UserError
from cyclegan.config.yaml_files import SETTINGS_FILE, load_yaml
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.control_files import FILES, Request
from cyclegan.runs.metrics_log import METRICS_FILE
from cyclegan.runs.record import (
    EVALUATION_FILE,
    RECORD_FILE,
    Outcome,
    RunRecord,
    is_number,
    now,
    read_json,
    read_record,
    versions,
    write_record,
)

LOCK_FILE = ".lock"

RunStatus = Literal["running", "paused", "finished", "stopped", "failed", "crashed"]


class RunFolder:
    """checkpoints/<name>, locked for this process until `release`.

    An earlier run of that name is renamed to <name>-1, <name>-2 ... unless this one continues it.
    Raises UserError if another process trains there.
    """

    def __init__(self, path: Path, *, settings_yaml: str, continues: bool) -> None:
        self.path = path
        self.moved_to: Path | None = None
        self.record: RunRecord | None = None
        try:
            self._prepare(settings_yaml, continues=continues)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}): free space or change its "
                "permissions, or give another --checkpoints_dir; nothing saved there is lost"
            ) from None

    def begin(self, *, step: int, total_steps: int, data: Sequence[str], device: str) -> None:
        """Writes run.json with the command, the data and the machine."""
        self.record = RunRecord(
            command=("python", *sys.argv),
            started=now(),
            step=step,
            total_steps=total_steps,
            data=tuple(data),
            device=device,
            versions=versions(),
        )
        write_record(self.path, self.record)

    def end(self, state: Outcome, *, step: int, why: str = "") -> None:
        """Adds to run.json how the run ended, unless the disk is full."""
        if self.record is not None:
            with suppress(OSError):
                write_record(self.path, self.record.at_end(state, step=step, why=why))

    def undo(self, why: str) -> None:
        """Undoes the claim of a run that cannot start: an earlier run gets its name back."""
        self.release()
        if self.moved_to is None:
            self.end("failed", step=0, why=why)
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.moved_to.rename(self.path)

    def release(self) -> None:
        self._lock.release()

    def _prepare(self, settings_yaml: str, *, continues: bool) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._claim()
        if not continues and (self.path / SETTINGS_FILE).exists():
            self.moved_to = self._move_aside()
            self.path.mkdir()
            self._lock = self._claim()
        (self.path / "previews").mkdir(exist_ok=True)
        for partial in self.path.glob("*.partial"):
            partial.unlink()
        write_atomically(self.path / SETTINGS_FILE, settings_yaml.encode())

    def _claim(self) -> FileLock:
        lock = FileLock(self.path / LOCK_FILE)
        try:
            # A command that lists the runs holds a shared lock for a moment.
            lock.acquire(timeout=0.2)
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process: wait until it ends, or give "
                "this run another --name"
            ) from None
        return lock

    def _move_aside(self) -> Path:
        number = 1
        while (target := self.path.with_name(f"{self.path.name}-{number}")).exists():
            number += 1
        self._lock.release()
        (self.path / LOCK_FILE).unlink(missing_ok=True)
        return self.path.rename(target)


def find_states(run_dir: Path) -> list[Path]:
    """The files of saved states, the newest first."""
    states = (path for path in run_dir.glob("state_*.pt") if step_of(path) >= 0)
    return sorted(states, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step of a state's file; -1 for other files."""
    match = re.fullmatch(r"state_(\d+)\.pt", path.name)
    return int(match[1]) if match else -1


def run_status(run_dir: Path) -> RunStatus:
    """From run.json; without one, a run has finished if it was measured, or reached its --steps."""
    if is_locked(run_dir):
        return "paused" if (run_dir / FILES[Request.PAUSE]).exists() else "running"
    if record := read_record(run_dir):
        return "crashed" if record.state == "running" else record.state
    newest = max(map(step_of, find_states(run_dir)), default=0)
    evaluation = read_json(run_dir / EVALUATION_FILE)
    measured = evaluation.get("step") if isinstance(evaluation, dict) else None
    if is_number(measured) and measured >= max(1, newest):
        return "finished"
    return "finished" if newest and newest == read_settings(run_dir).get("steps") else "stopped"


def find_runs(folder: Path) -> list[Path]:
    """The runs in a folder, the last written to first; raises OSError if it cannot be read."""
    written = {path: last_written(path) for path in folder.iterdir()}
    runs = [path for path, moment in written.items() if moment]
    return sorted(runs, key=lambda path: (-written[path], path.name))


def last_written(folder: Path) -> float:
    """When a file that only runs have was last written there; 0 without any."""
    try:
        names = (RECORD_FILE, SETTINGS_FILE, METRICS_FILE)
        files = [*(folder / name for name in names), *find_states(folder)]
        return max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)
    except OSError:
        return 0.0


def total_steps(run_dir: Path, points: Sequence[tuple[int, object]]) -> int:
    """The length of the run; without a record of it, --steps or the last step in the metrics."""
    record = read_record(run_dir)
    if record and record.total_steps:
        return record.total_steps
    steps = read_settings(run_dir).get("steps")
    return max(points[-1][0] if points else 0, int(steps) if is_number(steps) else 0)


def read_settings(run_dir: Path) -> dict[str, Any]:
    """The options in a run's settings.yaml; none if it is missing or damaged."""
    path = run_dir / SETTINGS_FILE
    try:
        return load_yaml(path) if path.is_file() else {}
    except (UserError, OSError):
        return {}


def is_locked(run_dir: Path) -> bool:
    """True while a process trains there. Writes nothing, and needs no right to write."""
    # filelock uses flock on Unix; a shared lock can be taken through a read-only descriptor.
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
