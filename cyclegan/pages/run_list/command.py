"""python -m cyclegan runs: the runs there are, how each stands, and how good it is."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath


class RunsSettings(BaseModel):
    """List the runs, the newest first: name, data, steps, how each stands (running, paused,
    finished, stopped, failed, crashed), its health, and the best that was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    json_only: bool = Field(
        False,
        description="print one JSON list with more about each, and nothing else",
        json_schema_extra={"spelled": "json"},
    )


def main(arguments: Sequence[str]) -> int:
    """The exit status, 0; raises UserError where there is no such folder."""
    settings = check(RunsSettings, parse(RunsSettings, arguments))
    folder = settings.checkpoints_dir
    if not folder.is_dir() and folder != RunsSettings.model_fields["checkpoints_dir"].default:
        raise UserError(f"--checkpoints_dir {folder} is not a folder: check the path")
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from rich.console import Console

    from cyclegan.pages.run_list.table import as_dict, summary, table
    from cyclegan.runs.record import find_runs

    runs = [summary(path) for path in (find_runs(folder) if folder.is_dir() else ())]
    if settings.json_only:
        sys.stdout.write(json.dumps([as_dict(run) for run in runs], indent=2) + "\n")
    elif not runs:
        sys.stdout.write(f"there is no run in {folder} yet: python train.py begins one\n")
    else:
        console = Console(highlight=False)
        # In a file a line has room for everything.
        width = None if console.is_terminal else 1000
        Console(highlight=False, width=width).print(table(runs))
    return 0
