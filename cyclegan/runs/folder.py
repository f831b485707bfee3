"""A run's folder: claimed by one process, and never written over by another run."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cyclegan.config import yaml_files
from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.record import (
    LOCK_FILE,
    Ending,
    Record,
    now,
    versions,
    write_record,
)


class RunFolder:
    """checkpoints/<name>, held for this process until `release`.

    An earlier run of the name is moved aside to <name>-1, <name>-2 ... unless this one continues
    it. Raises UserError where another process trains there.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.path = settings.run_dir
        self.moved_to: Path | None = None
        self.record: Record | None = None
        try:
            self._prepare(settings)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror or error}): free space or change "
                "its permissions, or give another --checkpoints_dir; nothing saved there is lost"
            ) from None

    def begin(self, *, step: int, total_steps: int, data: Sequence[str], device: str) -> None:
        """Writes down what was typed, and on what it runs."""
        self.record = Record(
            command=("python", *sys.argv),
            started=now(),
            step=step,
            total_steps=total_steps,
            data=tuple(data),
            device=device,
            versions=versions(),
        )
        write_record(self.path, self.record)

    def end(self, state: Ending, *, step: int, why: str = "") -> None:
        """Writes down how it ended, where the disk still takes that."""
        if self.record is not None:
            with suppress(OSError):
                write_record(self.path, self.record.at_end(state, step=step, why=why))

    def undo(self, why: str) -> None:
        """Of a run that cannot begin: the earlier one of its name gets that back."""
        self.release()
        if self.moved_to is None:
            self.end("failed", step=0, why=why)
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.moved_to.rename(self.path)

    def release(self) -> None:
        self._lock.release()

    def _prepare(self, settings: TrainSettings) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._claim()
        if not settings.continue_train and (self.path / yaml_files.SETTINGS_FILE).exists():
            self.moved_to = self._move_aside()
            self.path.mkdir()
            self._lock = self._claim()
        (self.path / "previews").mkdir(exist_ok=True)
        for half_written in self.path.glob("*.partial"):
            half_written.unlink()
        self._write_settings(settings)

    def _claim(self) -> FileLock:
        lock = FileLock(self.path / LOCK_FILE)
        try:
            # Whoever lists the runs looks at the lock for a moment.
            lock.acquire(timeout=0.2)
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process: give this run another --name"
            ) from None
        return lock

    def _move_aside(self) -> Path:
        number = 1
        while (target := self.path.with_name(f"{self.path.name}-{number}")).exists():
            number += 1
        self._lock.release()
        (self.path / LOCK_FILE).unlink(missing_ok=True)
        return self.path.rename(target)

    def _write_settings(self, settings: TrainSettings) -> None:
        # Whether to go on, and whom to trust, is said anew each time.
        kept = settings.model_copy(update={"continue_train": False, "trust_imports": False})
        text = yaml_files.to_yaml(kept).encode()
        write_atomically(self.path / yaml_files.SETTINGS_FILE, lambda file: file.write(text))
