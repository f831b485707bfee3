"""python -m cyclegan degrade: makes a low-resolution domain of a folder of photographs."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config import expressions, parts
from cyclegan.config.command_line import parse
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath

# The limits of each range.
LIMITS = {"blur": (0.0, 20.0), "noise": (0.0, 255.0), "jpeg": (1.0, 100.0)}


class DegradeSettings(BaseModel):
    """Make trainA (small) and trainB (as they are) of photographs, for super-resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    hr_folder: UserPath | None = Field(
        None,
        description="photographs, searched recursively",
        json_schema_extra={"positional": "HR_FOLDER"},
    )
    output: UserPath | None = Field(None, description="data folder to write trainA and trainB in")
    scale: Literal[2, 3, 4] = Field(2, description="how many times smaller the images of A are")
    part: Literal["train", "test"] = Field("train", description="test: write testA and testB")
    unpaired: bool = Field(
        False, description="make A of one half of the photographs and B of the other"
    )
    kind: Literal["bicubic", "classical", "real"] = Field(
        "bicubic",
        description="bicubic: reduced alone; classical: blur, reduce, noise, JPEG; "
        "real: the second-order degradation of Real-ESRGAN",
    )
    blur: str | None = Field(
        None, description="deviation in pixels, as 0.2:3 (drawn for each image), 1.5, or none"
    )
    noise: str | None = Field(None, description="deviation in 8-bit values, as 1:30, 5, or none")
    jpeg: str | None = Field(None, description="quality, as 30:95, 80, or none")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of every random draw")
    overwrite: bool = Field(False, description="write into folders that are not empty")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.hr_folder is None:
            raise ValueError("give the folder of photographs: degrade HR_FOLDER --output DATAROOT")
        if self.output is None:
            raise ValueError("give --output DATAROOT, the folder to write trainA and trainB in")
        # Raises ValueError for a malformed range.
        if (given := self.ranges()) and self.kind == "bicubic":
            option = next(iter(given))
            raise ValueError(
                f"--{option} has no effect with --kind bicubic: use --kind classical or real"
            )
        return self

    def ranges(self) -> dict[str, tuple[float, float] | None]:
        """The ranges that were given; the kind's defaults apply to the others."""
        given = {option: getattr(self, option) for option in LIMITS}
        return {
            option: parse_range(option, text) for option, text in given.items() if text is not None
        }


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 if a photograph could not be used."""
    settings = check(DegradeSettings, parse(DegradeSettings, arguments))
    assert settings.hr_folder is not None
    assert settings.output is not None
    # Importing torch takes seconds; --help and a mistyped option are answered before.
    from rich.console import Console
    from rich.progress import track

    from cyclegan.data.files.sources import find_images
    from cyclegan.tools.degrade.classical import KINDS
    from cyclegan.tools.degrade.photographs import degrade_files, find_jobs, refuse_filled

    folders = [settings.output / f"{settings.part}{domain}" for domain in "AB"]
    jobs = find_jobs(settings.hr_folder, *folders, unpaired=settings.unpaired, seed=settings.seed)
    if not settings.overwrite:
        refuse_filled(folders)
    term = expressions.Term(settings.kind, options=settings.ranges(), option="kind")
    results = degrade_files(
        jobs,
        parts.build(term, KINDS, scale=settings.scale),
        scale=settings.scale,
        seed=settings.seed,
        num_threads=min(4, os.cpu_count() or 1),
    )
    console = Console(highlight=False, soft_wrap=True)
    bar: dict[str, Any] = {"transient": True, "disable": not console.is_terminal}
    problems = list(track(results, "degrading", len(jobs), console=console, **bar))
    failed = {job.source: why for job, why in zip(jobs, problems, strict=True) if why}
    used = [job for job in jobs if job.source not in failed]
    written = {target for job in used for target in (job.small, job.large) if target}
    for folder in folders:
        count = sum(folder in path.parents for path in written)
        # Images of an earlier call have no partner among these, or one that they must not have.
        others = len(set(find_images(folder)) - written) if folder.is_dir() else 0
        held = f", which holds {others} others from before" if others else ""
        console.print(f"{count} images written to {folder}{held}", markup=False)
    for path, why in failed.items():
        sys.stderr.write(f"not used: {path} ({why})\n")
    return 1 if failed else 0


def parse_range(option: str, text: str) -> tuple[float, float] | None:
    """Reads "0.2:3", "1.5" (as both ends) or "none" (as None); raises ValueError."""
    if text == "none":
        return None
    lowest, highest = LIMITS[option]
    first, _, last = text.partition(":")
    try:
        ends = float(first), float(last or first)
    except ValueError:
        ends = (highest, lowest)
    if not lowest <= ends[0] <= ends[1] <= highest:
        raise ValueError(
            f"--{option} {text}: must be one number from {lowest:g} to {highest:g}, two of them "
            "with a colon between and the smaller first, or none"
        )
    return ends
