"""Small real runs, one healthy and four with a fault: each raises its own alarm and no other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.steps import build_model, build_step
from support.toys import on_cpu
from torch import Tensor

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.images import from_uint8, read_image
from cyclegan.data.loading.transforms import ImageTransform
from cyclegan.monitor.health.summary import summarize_health
from cyclegan.training.statistics.fixed_samples import FixedSamples

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
    # EDSR starts as a copy, as all generators of super-resolution do, and is held there.
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


@pytest.fixture(scope="module")
def toy(tmp_path_factory, picture) -> Path:
    """Soft shapes in all colours, and others that are paler and reddish."""
    root = tmp_path_factory.mktemp("toy")
    for seed, (folder, count) in enumerate(
        (("trainA", 12), ("trainB", 12), ("testA", 4), ("testB", 4))
    ):
        (root / folder).mkdir()
        for index in range(count):
            pixels = np.asarray(picture(seed=100 * seed + index), dtype=np.float64)
            if folder.endswith("B"):
                pixels = 0.5 * pixels + (110, 20, 0)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / folder / f"{index:02}.png")
    return root


def random_crop(folder: Path, random: np.random.Generator) -> Tensor:
    """A random crop of one of a folder's images, as a batch."""
    files = sorted(folder.iterdir())
    pixels = np.asarray(read_image(files[random.integers(len(files))]))
    top, left = (random.integers(side - SIDE + 1) for side in pixels.shape[:2])
    return from_uint8(torch.from_numpy(pixels[top : top + SIDE, left : left + SIDE].copy()))[None]


def train(toy: Path, **options) -> list[tuple[int, dict[str, float]]]:
    """The points of a run, as its trainer makes them: the mean losses since the last point and,
    every PREVIEW_EVERY steps, the values of the fixed images.
    """
    settings = check(TrainSettings, {**SMALL, "dataroot": toy, **options})
    torch.manual_seed(0)
    model = build_model(settings)
    training_step = build_step(model, settings)
    files = (sorted((toy / folder).iterdir()) for folder in ("testA", "testB"))
    transforms = tuple(ImageTransform(**settings.transform_options(domain)) for domain in "AB")
    samples = FixedSamples(*files, transforms, count=settings.num_previews)
    translators = [on_cpu(network) for network in model.generators.values()]
    random = np.random.default_rng(0)
    points, losses = [], []
    for step in range(STEPS + 1):
        if step:
            batch = (random_crop(toy / folder, random) for folder in ("trainA", "trainB"))
            losses.append(training_step(*batch))
        if step == 1 or step % PREVIEW_EVERY == 0:
            names = losses[0] if losses else {}
            values = {
                name: float(np.mean([float(each[name]) for each in losses])) for name in names
            }
            if step != 1:
                values |= samples.evaluate(*translators, dict(model.discriminators.items()))[1]
            points.append((step, values))
            losses = []
    return points


def alarms(points: list[tuple[int, dict[str, float]]]) -> list[tuple[str, str]]:
    health = summarize_health(points, total_steps=STEPS)
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
