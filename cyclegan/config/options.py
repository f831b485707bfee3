"""The options that train.py and test.py share, those of test.py, and how options are checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cyclegan.config.errors import UserError
from cyclegan.config.value_types import BatchSize, DeviceName, FolderName, UserPath

Direction = Literal["AtoB", "BtoA"]
# A pydantic model of options.
Model = TypeVar("Model", bound=BaseModel)


def option(default: Any, description: str, **limits: Any) -> Any:
    """A field of settings: its default, its line in --help, and pydantic's checks (ge, le ...)."""
    return Field(default, description=description, **limits)


class Settings(BaseModel):
    """The options that train.py and test.py share."""

    # The checks are built at the first use: --help and a mistyped option need only the names.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True, validate_default=True
    )

    dataroot: UserPath | None = option(
        None, "data folder: trainA trainB testA testB, or A B, searched recursively"
    )
    name: FolderName | None = option(
        None, "name of the run, and of its folder in --checkpoints_dir (the data folder's)"
    )
    max_dataset_size: int | None = option(None, "use the first N images alone", ge=1)
    num_threads: int = option(
        min(4, os.cpu_count() or 1), "worker processes that load images; 0: none", ge=0, le=256
    )
    device: DeviceName = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = option(
        "auto", "numeric precision of the networks; auto: bf16 if the device supports it"
    )
    compile: Literal["auto", "off", "default", "max"] = option(
        "auto", "torch.compile; auto: if the command runs long enough to gain by it"
    )
    checkpoints_dir: UserPath = option(Path("checkpoints"), "folder of all runs")
    results_dir: UserPath = option(Path("results"), "folder of all translations")
    trust_imports: bool = option(
        False, "allow import paths, which run any code, in a run's saved settings"
    )


class TranslateSettings(Settings):
    """Translate images with a trained run, whose options are in its settings.yaml, or with the
    weights of one generator.
    """

    GROUPS: ClassVar[Mapping[str, str]] = {
        "dataroot": "run and machine",
        "input": "images and weights",
    }
    EXAMPLES: ClassVar[Sequence[str]] = (
        "python test.py --name lr2hr",
        "python test.py --name lr2hr --input photos/ --output better/",
        "python test.py --weights latest_net_G_A.pth --input photo.jpg",
    )

    input: UserPath | None = option(None, "image or folder (the run's test images)")
    output: UserPath | None = option(None, "folder, or image, to write")
    direction: Direction | None = option(
        None, "which generator (AtoB; for the run's test images, both)"
    )
    epoch: FolderName = option("latest", "which of the run's weights: latest, or an epoch")
    weights: UserPath | None = option(None, "a .pth or .safetensors file of one generator")
    batch_size: BatchSize = option("auto", "images at once; auto: by the device and their size")
    num_threads: int = option(
        min(16, os.cpu_count() or 1), "threads that read and write images", ge=0, le=256
    )
    overwrite: bool = option(False, "translate images again whose translation exists")
    dry_run: bool = option(False, "load the weights, say what would be translated, and end")


def check(model: type[Model], values: dict[str, Any]) -> Model:
    """Makes settings of plain values; raises UserError naming option, value and remedy."""
    try:
        return model(**values)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(detail) for detail in error.errors())) from None


def default_name(dataroot: Path | None, dir_B: Path | None) -> str | None:
    """The data folder's name, or None if there is no folder or a run cannot have its name."""
    folder = dataroot or dir_B
    if folder is None:
        return None
    # Path.resolve raises for a link to itself.
    name = Path(os.path.realpath(folder)).name
    try:
        check(Settings, {"name": name})
    except UserError:
        return None
    return name


def _sentence(detail: Any) -> str:
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, UserError):
        return str(error)
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    option = detail["loc"][0]
    return f"--{option} {detail['input']}: {message[0].lower()}{message[1:]}"
