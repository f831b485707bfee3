"""python -m cyclegan doctor: a data folder looked over before a long run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.value_types import UserPath


class DoctorSettings(BaseModel):
    """Look at every image before a long run: files that cannot be read, pictures that are there
    twice, flat and tiny ones, colours. Exit status: 0, nothing to mend; 1, errors or warnings were
    found (notes never count: the program copes with those); 2, no such folder, or a mistyped
    option.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataroot: UserPath | None = Field(
        None,
        description="data folder: trainA trainB testA testB, or A B, searched recursively",
        json_schema_extra={"positional": "DATAROOT"},
    )
    dir_A: UserPath | None = Field(None, description="training images of A, in place of DATAROOT")
    dir_B: UserPath | None = Field(None, description="training images of B, in place of DATAROOT")
    sheet: UserPath = Field(
        Path("doctor.png"), description="where the contact sheet is written; none: nowhere"
    )
    json_only: bool = Field(
        False,
        description="print one JSON object with all findings, and nothing else",
        json_schema_extra={"spelled": "json"},
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.dataroot is None and self.dir_A is None and self.dir_B is None:
            raise ValueError("give the data folder: doctor DATAROOT, or --dir_A and --dir_B")
        if self.dataroot is None and (self.dir_A is None or self.dir_B is None):
            raise ValueError("--dir_A and --dir_B go together: give both, or DATAROOT")
        if self.sheet_path is not None and self.sheet.suffix.lower() != ".png":
            raise ValueError(f"--sheet {self.sheet}: give a name that ends in .png, or none")
        if self.sheet.is_dir():
            raise ValueError(f"--sheet {self.sheet} is a folder: name a file in it")
        return self

    @property
    def sheet_path(self) -> Path | None:
        return None if self.sheet == Path("none") else self.sheet


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 where an error or a warning was found."""
    settings = check(DoctorSettings, parse(DoctorSettings, arguments))
    folders_of = {name: getattr(settings, name) for name in ("dataroot", "dir_A", "dir_B")}
    run = check(TrainSettings, folders_of)
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from rich.console import Console
    from rich.progress import track

    from cyclegan.data.files.images import save_image
    from cyclegan.tools.doctor.contact_sheet import draw
    from cyclegan.tools.doctor.inspection import (
        diagnose,
        find_parts,
        list_files,
        look_at,
        part_of,
    )
    from cyclegan.tools.doctor.printout import as_dict, show

    folders = find_parts(run)
    _refuse_among_images(settings.sheet_path, list(folders.values()))
    listed = {name: list_files(folder) for name, folder in folders.items()}
    files = [file for found in listed.values() for file in found.files]
    # On stderr, where it cannot come between the lines of a JSON object.
    console = Console(stderr=True)
    shown = track(
        look_at(files),
        "looking",
        len(files),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    looks = iter(list(shown))
    parts = [
        part_of(name, folders[name], found, [next(looks) for _ in found.files])
        for name, found in listed.items()
    ]
    found = diagnose(settings.dataroot, parts)
    if settings.json_only:
        sys.stdout.write(json.dumps(as_dict(found), indent=2) + "\n")
    else:
        show(found, Console(highlight=False, soft_wrap=True))
    if settings.sheet_path is not None:
        save_image(draw(found), settings.sheet_path)
        if not settings.json_only:
            sys.stdout.write(f"contact sheet: {settings.sheet_path}\n")
    return 0 if found.ok else 1


def _refuse_among_images(sheet: Path | None, folders: Sequence[Path]) -> None:
    """Raises UserError where the sheet would be trained on."""
    for folder in folders:
        if sheet is not None and folder.resolve() in sheet.resolve().parents:
            raise UserError(
                f"--sheet {sheet} would lie among the images of {folder}: choose another place"
            )
