"""python -m cyclegan runs: a list of the runs, their state and their best values."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath


class RunsSettings(BaseModel):
    """List the runs, the newest first: name, data, steps, state (running, paused, finished,
    stopped, failed, crashed), health, and the best values measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    json_only: bool = Field(
        False,
        description="print one JSON list with more about each, and nothing else",
        json_schema_extra={"spelled": "json"},
    )


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status, 0; raises UserError if there is no such folder."""
    settings = check(RunsSettings, parse(RunsSettings, arguments))
    folder = settings.checkpoints_dir
    if not folder.is_dir() and folder != RunsSettings.model_fields["checkpoints_dir"].default:
        raise UserError(f"--checkpoints_dir {folder} is not a folder: check the path")
    # Importing torch takes seconds: --help and a mistyped option answer before that.
    from rich.console import Console

    from cyclegan.pages.run_list.run_table import run_table, summarize_run
    from cyclegan.runs.folder import find_runs

    runs = [summarize_run(path) for path in (find_runs(folder) if folder.is_dir() else ())]
    if settings.json_only:
        sys.stdout.write(json.dumps([asdict(run) for run in runs], indent=2) + "\n")
    elif not runs:
        sys.stdout.write(f"there is no run in {folder} yet: python train.py begins one\n")
    else:
        console = Console(highlight=False)
        # A file has room for long lines.
        console.width = console.width if console.is_terminal else 1000
        console.print(run_table(runs))
    return 0
