"""python -m cyclegan degrade: a low-resolution domain from a folder of photographs."""

import os
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config import expressions, parts
from cyclegan.config.command_line import parse
from cyclegan.config.options import check
from cyclegan.config.value_types import UserPath

Range = tuple[float, float]

# What each of a degradation's ranges may hold.
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
        "real: the second-order mix of Real-ESRGAN",
    )
    blur: str | None = Field(
        None, description="deviation in pixels, as 0.2:3 (drawn for each image), 1.5, or none"
    )
    noise: str | None = Field(None, description="deviation in levels of 255, as 1:30, 5, or none")
    jpeg: str | None = Field(None, description="quality, as 30:95, 80, or none")
    seed: int = Field(0, ge=0, lt=2**31, description="one seed fixes every random draw")
    overwrite: bool = Field(False, description="write into folders that hold something already")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.hr_folder is None:
            raise ValueError("give the folder of photographs: degrade HR_FOLDER --output DATAROOT")
        if self.output is None:
            raise ValueError("give --output DATAROOT, the folder to write trainA and trainB in")
        for option in self._given():
            if self.kind == "bicubic":
                raise ValueError(
                    f"--{option} has no part in --kind bicubic: use --kind classical or real"
                )
            read_range(option, getattr(self, option))
        return self

    def ranges(self) -> dict[str, Range | None]:
        """Those that were given; the kind's own stand for the others."""
        return {option: read_range(option, getattr(self, option)) for option in self._given()}

    def _given(self) -> list[str]:
        return [option for option in LIMITS if getattr(self, option) is not None]


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 where a photograph could not be used."""
    settings = check(DegradeSettings, parse(DegradeSettings, arguments))
    assert settings.hr_folder is not None
    assert settings.output is not None
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.tools.degrade.classical import KINDS
    from cyclegan.tools.degrade.folders import (
        degrade_files,
        find_jobs,
        refuse_filled,
        show,
    )

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
    return show(results, len(jobs), folders)


def read_range(option: str, text: str) -> Range | None:
    """Both ends of "0.2:3", 1.5 twice of "1.5", None of "none"; raises ValueError."""
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
