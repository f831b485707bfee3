"""python -m cyclegan monitor: the live page again, for runs that are over, copied or going on."""

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
    all in one, until Ctrl-C. Runs that are still going on are followed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    runs: tuple[str, ...] = Field(
        (),
        description="names of runs, or their folders; none: all runs",
        json_schema_extra={"positional": "RUN"},
    )
    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    port: int = Field(8097, ge=1, le=65535, description="port of the page; a free one if taken")
    host: str = Field(
        "127.0.0.1", description="address that the server listens on; others need a login"
    )


def main(arguments: Sequence[str]) -> int:
    """Until it is interrupted; raises UserError where there is no such run, or no server."""
    settings = check(MonitorSettings, parse(MonitorSettings, arguments))
    from cyclegan.pages.visdom.server.login import check_host

    check_host(settings.host, option="--host")
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.pages.follow.follow import watch

    folders = _folders(settings)
    # Ended like this too, the server and its folder are not left behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    watch(folders, port=settings.port, host=settings.host, say=_say)
    return 0


def _folders(settings: MonitorSettings) -> list[Path]:
    from cyclegan.runs.record import find_runs, is_run

    place = settings.checkpoints_dir
    known = find_runs(place) if place.is_dir() else []
    if not settings.runs:
        if not known:
            raise UserError(f"there is no run in {place}: give the folder of one, or train first")
        return known
    folders = []
    for run in settings.runs:
        choices = [path for path in (place / run, Path(run).expanduser()) if is_run(path)]
        if not choices:
            names = ", ".join(sorted(path.name for path in known)) or "none"
            raise UserError(f"{run} is no run, nor a run's folder; runs in {place}: {names}")
        folders.append(choices[0])
    return folders


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
