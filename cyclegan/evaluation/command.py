"""python -m cyclegan evaluate: super-resolution of photographs, or a run's own test images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
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

    @property
    def title(self) -> str:
        """What the results call the generator."""
        return self.name or (self.weights.stem if self.weights else str(self.method))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 if an image could not be measured."""
    settings = check(EvaluateSettings, parse(EvaluateSettings, arguments))
    # Importing torch takes seconds, which --help and a mistyped option should not.
    from cyclegan.config.yaml_files import run_settings
    from cyclegan.data.files.sources import DataSources
    from cyclegan.evaluation import report
    from cyclegan.evaluation.compare import compare
    from cyclegan.translate.translator import Translator

    photographs = report.find_photographs(settings.hr) if settings.hr else []
    run = run_settings(settings.run_dir) if settings.name else None
    translator = None
    if settings.method is None:
        translator = Translator.load(
            settings.weights or settings.run_dir,
            epoch=settings.epoch,
            device=settings.device,
            trust_imports=settings.trust_imports,
        )
    if settings.hr is None:
        metrics = run and translator and compare(DataSources(**run.data_options), translator)
        if not metrics:
            where = (run and run.dataroot) or f"run {settings.name}"
            raise UserError(f"{where} has no images in testA and testB: give --hr FOLDER")
        report.report_test_images(metrics, json_file=settings.json_file)
        return 0
    run_scale = run.scale if run else 1
    return report.measure_photographs(
        settings.hr,
        photographs,
        translator,
        title=settings.title,
        scale=report.choose_scale(
            settings.scale, translator, run_scale=run_scale, title=settings.title
        ),
        json_file=settings.json_file,
    )
