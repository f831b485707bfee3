"""Small networks, images and runs for the tests of translation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.config.command_line import translate_settings
from cyclegan.config.errors import one_line_errors
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import to_yaml
from cyclegan.data.files.images import read_image
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.networks.layers import initialize
from cyclegan.runs import checkpoints
from cyclegan.translate.command import TranslateCommand
from cyclegan.translate.translator import Translator


class Brighter(nn.Module):
    """Adds a number of gray levels to every pixel."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(levels * 2 / 255))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.levels


def small_resnet(**options: Any) -> ResnetGenerator:
    torch.manual_seed(0)
    network = ResnetGenerator(2, blocks=1, **options)
    initialize(network, gain=0.2)
    return network


def on_cpu(network: nn.Module) -> Translator:
    return Translator(network, device=torch.device("cpu"))


def picture(size: tuple[int, int] = (20, 16), *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 4)
    levels = np.random.default_rng(seed).integers(10, 240, shape, dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


def save(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(**options).save(path)
    return path


def levels(image: Image.Image | Path) -> np.ndarray:
    if isinstance(image, Path):
        image = read_image(image)
    return np.asarray(image).astype(int)


def make_run(root: Path) -> Path:
    """A run on root/data whose G_AB brightens by 3 levels, and whose G_BA darkens by 5."""
    folder = root / "checkpoints" / "demo"
    folder.mkdir(parents=True)
    settings = check(
        TrainSettings,
        {
            "name": "demo",
            "dataroot": root / "data",
            "generator": f"{__name__}.Brighter(levels=0)",
        },
    )
    (folder / "settings.yaml").write_text(to_yaml(settings))
    checkpoints.save_weights(folder, "latest", {"G_AB": Brighter(3), "G_BA": Brighter(-5)})
    return folder


def run_command(root: Path, *words: str | Path, name: str | None = "demo") -> int:
    """Calls test.py with the folders of `make_run` and results in root/results."""
    arguments = [*map(str, words), "--device", "cpu", "--trust_imports"]
    arguments += ["--checkpoints_dir", str(root / "checkpoints")]
    arguments += ["--results_dir", str(root / "results")]
    arguments += ["--name", name] if name else []
    try:
        with one_line_errors():
            return TranslateCommand(translate_settings(arguments)).run()
    except SystemExit as stop:
        return int(stop.code or 0)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error message with which a command ended, which must be one line."""
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text
