"""python -m cyclegan evaluate: super-resolution of photographs, or a run's own test images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config.command_line import parse
from cyclegan.config.options import check
from cyclegan.config.value_types import DeviceName, FolderName, UserPath


class EvaluateSettings(BaseModel):
    """Measure super-resolution of photographs beside bicubic, or translated test images."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: FolderName | None = Field(None, description="the run to measure")
    weights: UserPath | None = Field(None, description="a .pth of one generator, in place of a run")
    method: Literal["bicubic"] | None = Field(
        None, description="interpolation alone, in place of a run"
    )
    hr: UserPath | None = Field(
        None, description="photographs to reduce and enlarge again; none: the run's test images"
    )
    scale: Literal[2, 3, 4] | None = Field(None, description="how many times (the run's own)")
    epoch: FolderName = Field("latest", description="which kept weights of the run")
    device: DeviceName = Field("auto", description="auto, cuda, cuda:1, mps or cpu")
    json_file: UserPath | None = Field(
        None, description="file to write the figures to", json_schema_extra={"spelled": "json"}
    )
    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    trust_imports: bool = Field(
        False, description="allow import paths (any code!) in a run's saved settings"
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if sum(one is not None for one in (self.name, self.weights, self.method)) != 1:
            raise ValueError("give one of --name RUN, --weights FILE.pth and --method bicubic")
        if self.hr is None and self.name is None:
            raise ValueError(
                "give --hr FOLDER: only the run of a --name has test images of its own"
            )
        if self.json_file is not None and self.json_file.is_dir():
            raise ValueError(f"--json {self.json_file} is a folder: name a file in it")
        if self.hr is None and self.scale is not None:
            raise ValueError(f"--scale {self.scale} is for photographs: give --hr FOLDER with it")
        return self

    @property
    def run_dir(self) -> Path:
        return self.checkpoints_dir / str(self.name)


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 where an image could not be measured."""
    settings = check(EvaluateSettings, parse(EvaluateSettings, arguments))
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.evaluation.report import compare_test_images, measure_photographs

    if settings.hr is None:
        return compare_test_images(settings)
    return measure_photographs(settings, settings.hr)
