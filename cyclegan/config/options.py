"""The options that both commands share, and those of test.py: defaults, help lines and checks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cyclegan.config.errors import UserError
from cyclegan.config.value_types import (
    BatchSize,
    DeviceName,
    FolderName,
    UserPath,
)

Direction = Literal["AtoB", "BtoA"]
AnySettings = TypeVar("AnySettings", bound=BaseModel)


class Settings(BaseModel):
    """What both commands share."""

    # Built at the first use: --help and a mistyped option need only the options' names.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
        validate_default=True,
    )

    dataroot: UserPath | None = Field(
        None, description="data folder: trainA trainB testA testB, or A B, searched recursively"
    )
    name: FolderName | None = Field(
        None, description="name of the run, its folder under checkpoints_dir (the data folder's)"
    )
    max_dataset_size: int | None = Field(None, ge=1, description="use only the first N images")
    num_threads: int = Field(
        min(4, os.cpu_count() or 1), ge=0, le=256, description="processes that load images; 0: none"
    )
    device: DeviceName = Field("auto", description="auto, cuda, cuda:1, mps or cpu")
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = Field(
        "auto", description="numbers that networks are computed in; auto: bf16 where there is any"
    )
    compile: Literal["auto", "off", "default", "max"] = Field(
        "auto", description="compiled networks; auto: where the run is long enough to earn it back"
    )
    checkpoints_dir: UserPath = Field(Path("checkpoints"), description="where runs live")
    results_dir: UserPath = Field(Path("results"), description="where translations go")
    trust_imports: bool = Field(
        False, description="allow import paths (any code!) in a run's saved settings"
    )


class TranslateSettings(Settings):
    """Translate images with a trained run, or with the weights of one generator. What a run was
    trained with comes from its settings.yaml.
    """

    GROUPS: ClassVar[Mapping[str, str]] = {
        "dataroot": "run and machine",
        "input": "what is translated, by which weights",
    }
    EXAMPLES: ClassVar[Sequence[str]] = (
        "python test.py --name lr2hr",
        "python test.py --name lr2hr --input photos/ --output better/",
        "python test.py --weights latest_net_G_A.pth --input photo.jpg",
    )

    input: UserPath | None = Field(None, description="image or folder; none: the run's test images")
    output: UserPath | None = Field(None, description="folder (or image) to write")
    direction: Direction | None = Field(
        None, description="which generator; without --input, none means both"
    )
    epoch: FolderName = Field("latest", description="which kept weights of the run")
    weights: UserPath | None = Field(None, description="a .pth or .safetensors of one generator")
    batch_size: BatchSize = Field(
        "auto", description="images at once; auto: by the device and their size"
    )
    num_threads: int = Field(
        min(16, os.cpu_count() or 1), ge=0, le=256, description="threads that read and write images"
    )
    overwrite: bool = Field(False, description="translate again what is already there")


def check(model: type[AnySettings], values: dict[str, Any]) -> AnySettings:
    """Makes settings of plain values; raises UserError naming option, value and remedy."""
    try:
        return model(**values)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(detail) for detail in error.errors())) from None


def _sentence(detail: Any) -> str:
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, UserError):
        return str(error)
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    option = detail["loc"][0]
    return f"--{option} {detail['input']}: {message[0].lower()}{message[1:]}"
