"""python -m cyclegan doctor: inspects a data folder before a long run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath


class DoctorSettings(BaseModel):
    """Inspect every image before a long run: unreadable files, duplicates, flat and tiny images,
    colours. Exit status: 0, no errors or warnings; 1, errors or warnings (notes do not count: the
    program copes with those); 2, no such folder, or a mistyped option.
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
        Path("doctor.png"), description="file for the contact sheet; none: not written"
    )
    json_only: bool = Field(
        False,
        description="print one JSON object with all findings, and nothing else",
        json_schema_extra={"spelled": "json"},
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.dataroot is None and None in (self.dir_A, self.dir_B):
            raise ValueError("give the data folder: doctor DATAROOT, or both --dir_A and --dir_B")
        if self.sheet_path is not None and self.sheet.suffix.lower() != ".png":
            raise ValueError(f"--sheet {self.sheet}: give a name that ends in .png, or none")
        if self.sheet.is_dir():
            raise ValueError(f"--sheet {self.sheet} is a folder: name a file in it")
        return self

    @property
    def sheet_path(self) -> Path | None:
        return None if self.sheet == Path("none") else self.sheet


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 if there is an error or a warning."""
    settings = check(DoctorSettings, parse(DoctorSettings, arguments))
    # Importing torch takes seconds; --help and a mistyped option are answered before.
    from rich.console import Console

    from cyclegan.data.files.images import save_image
    from cyclegan.data.files.sources import DataSources
    from cyclegan.tools.doctor.contact_sheet import ContactSheet
    from cyclegan.tools.doctor.data_inspection import find_folders, inspect_data
    from cyclegan.tools.doctor.findings_report import print_report, to_json

    dataroot, sheet = settings.dataroot, settings.sheet_path
    folders = find_folders(DataSources(dataroot, settings.dir_A, settings.dir_B))
    for folder in folders.values():
        # Training would read the sheet as one of the images.
        if sheet is not None and folder.resolve() in sheet.resolve().parents:
            raise UserError(
                f"--sheet {sheet} would lie among the images of {folder}: choose another place"
            )
    inspection = inspect_data(dataroot, folders)
    if settings.json_only:
        sys.stdout.write(json.dumps(to_json(inspection), indent=2) + "\n")
    else:
        print_report(inspection, Console(highlight=False, soft_wrap=True))
    if sheet is not None:
        save_image(ContactSheet(inspection).image, sheet)
        if not settings.json_only:
            sys.stdout.write(f"contact sheet: {sheet}\n")
    return 0 if inspection.ok else 1
