"""python -m cyclegan monitor: the live page of runs that are finished, copied or in training."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath


class MonitorSettings(BaseModel):
    """Show runs on a live page from their files alone, each on a page of its own and, of several,
    all in one, until Ctrl-C. Runs that are still in training are followed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    runs: tuple[str, ...] = Field(
        (),
        description="names of runs, or their folders; none: all runs",
        json_schema_extra={"positional": "[RUN]..."},
    )
    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    port: int = Field(8097, ge=1, le=65535, description="port of the page; a free one if taken")
    host: str = Field(
        "127.0.0.1", description="address that the server listens on; others need a login"
    )


def main(arguments: Sequence[str]) -> int:
    """Runs until it is interrupted; raises UserError if there is no such run, or no server."""
    settings = check(MonitorSettings, parse(MonitorSettings, arguments))
    from cyclegan.pages.visdom.server.login import check_host

    check_host(settings.host, option="--host")
    # Importing torch takes seconds: --help and a mistyped option answer before that.
    from cyclegan.pages.follow.follow_runs import follow_runs

    run_dirs = _find(settings.runs, settings.checkpoints_dir)
    # SIGTERM too must not leave the server and its folder behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    follow_runs(run_dirs, port=settings.port, host=settings.host)
    return 0


def _find(runs: Sequence[str], checkpoints_dir: Path) -> list[Path]:
    from cyclegan.runs.folder import find_runs, last_written

    known = find_runs(checkpoints_dir) if checkpoints_dir.is_dir() else []
    if not runs and not known:
        raise UserError(
            f"there is no run in {checkpoints_dir}: give the folder of one, or train first"
        )
    run_dirs = []
    for run in runs:
        places = (checkpoints_dir / run, Path(run).expanduser())
        choices = [path for path in places if last_written(path)]
        if not choices:
            names = ", ".join(sorted(path.name for path in known)) or "none"
            raise UserError(
                f"{run} is neither a run nor a run's folder; runs in {checkpoints_dir}: {names}"
            )
        run_dirs.append(choices[0])
    return run_dirs or known
