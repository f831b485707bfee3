"""Small real runs, one healthy and four sick on purpose: each is told by its own alarm alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import on_cpu
from torch import Tensor

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.images import from_levels, read_image
from cyclegan.data.loading.transforms import Preparation
from cyclegan.monitor.health.summary import judge
from cyclegan.training.algorithm.model import build_model
from cyclegan.training.statistics.fixed_samples import Probe
from cyclegan.training.step import Stepper

pytestmark = pytest.mark.slow

STEPS, PREVIEW_EVERY, SIDE = 120, 10, 32
SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    "ngf": 8,
    "ndf": 8,
    "preprocess": "crop",
    "crop_size": SIDE,
    "lr": 0.002,
    "name": "sick",
}
SICK = {
    "D wins": {"lr": 1e-6, "lr_D": 2e-3},
    "collapse": {
        "content": f"100*{__name__}.one_image",
        "adversarial": "0.01*lsgan",
        "cycle": "none",
        "identity": "none",
    },
    # A copy from the start, as all generators of super-resolution are, and held there.
    "identity copy": {
        "generator": "edsr(blocks=1)",
        "content": "100*l1",
        "adversarial": "0.1*lsgan",
        "lr": 2e-4,
        "lr_D": 2e-3,
    },
    "colour inversion": {"content": f"20*{__name__}.negative", "identity": "none"},
}


def one_image(input: Tensor, target: Tensor) -> Tensor:
    return (input - 0.2).square().mean()


def negative(input: Tensor, target: Tensor) -> Tensor:
    return (input + target).abs().mean()


@pytest.fixture
def toy(tmp_path, picture) -> Path:
    """Soft shapes in all colours, and others that are paler and reddish."""
    for seed, (folder, count) in enumerate(
        (("trainA", 12), ("trainB", 12), ("testA", 4), ("testB", 4))
    ):
        (tmp_path / folder).mkdir()
        for index in range(count):
            levels = np.asarray(picture(seed=100 * seed + index), dtype=np.float64)
            if folder.endswith("B"):
                levels = 0.5 * levels + (110, 20, 0)
            image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
            image.save(tmp_path / folder / f"{index:02}.png")
    return tmp_path


def crops(folder: Path, random: np.random.Generator) -> Tensor:
    """A random crop of one of a folder's images, as a batch."""
    files = sorted(folder.iterdir())
    levels = np.asarray(read_image(files[random.integers(len(files))]))
    top, left = (random.integers(side - SIDE + 1) for side in levels.shape[:2])
    return from_levels(torch.from_numpy(levels[top : top + SIDE, left : left + SIDE].copy()))[None]


def train(toy: Path, **options) -> list[tuple[int, dict[str, float]]]:
    """The points of a run, as its trainer makes them: means of the losses since the last point, and
    every PREVIEW_EVERY steps what its fixed images say.
    """
    settings = check(TrainSettings, {**SMALL, "dataroot": toy, **options})
    torch.manual_seed(0)
    model = build_model(settings)
    stepper = Stepper(model, settings)
    probe = Probe(settings, [], [], tuple(Preparation.of(settings, domain) for domain in "AB"))
    translators = [on_cpu(network) for network in model.generators.values()]
    random = np.random.default_rng(0)
    points, losses = [], []
    for step in range(STEPS + 1):
        if step:
            losses.append(
                stepper.step(crops(toy / "trainA", random), crops(toy / "trainB", random))
            )
        if step == 1 or step % PREVIEW_EVERY == 0:
            names = losses[0] if losses else {}
            told = {name: float(np.mean([float(each[name]) for each in losses])) for name in names}
            if step != 1:
                told |= probe.look(*translators, dict(model.discriminators.items()))[1]
            points.append((step, told))
            losses = []
    return points


def alarms(points: list[tuple[int, dict[str, float]]]) -> list[tuple[str, str]]:
    health = judge(points, total_steps=STEPS)
    assert health is not None
    return [(alarm.name, alarm.where) for alarm in health.alarms]


def test_a_healthy_run_raises_no_alarm_at_any_time(toy):
    points = train(toy)
    assert [alarms(points[:count]) for count in range(1, len(points) + 1)] == [[]] * len(points)


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_raises_its_own_alarm_and_no_other(toy, name):
    points = train(toy, **SICK[name])
    assert alarms(points[:3]) == []
    where = ["D_B", "D_A"] if name == "D wins" else ["G_AB", "G_BA"]
    assert alarms(points) == [(name, each) for each in where]
