"""Every part in every table through the real command: one step, a checkpoint, a measurement."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from cyclegan.losses import ADVERSARIAL_LOSSES, CONTRASTIVE_LOSSES, IMAGE_LOSSES, PENALTIES
from cyclegan.networks import DIFFAUGMENTS, DISCRIMINATORS, GENERATORS
from cyclegan.training.optim import OPTIMIZERS
from cyclegan.training.schedule import SCHEDULES

ROOT = Path(__file__).resolve().parents[1]

SMALL = {
    "discriminator": "patch(layers=1)",
    **{"ngf": 4, "ndf": 4, "load_size": 36, "crop_size": 32, "steps": 1, "num_threads": 0},
    **{"monitor": "none", "device": "cpu", "seed": 0, "name": "run"},
}
GENERATOR_OPTIONS = {
    "resnet": {"generator": "resnet(blocks=1)"},
    "unet": {"generator": "unet(layers=3)"},
    "edsr at scale 2": {"generator": "edsr(blocks=1)", "scale": 2, "identity": "none"},
}
# What a part needs beside its name to fit a tiny run.
EXPRESSIONS = {
    "attention": "attention(blocks=1, heads=2)",
    "unet generator": "unet(layers=3)",
    "srcnn": "srcnn(spec='8x3x3_1x3x3')",
    "dcscn": "dcscn(layers=2, filters=8, min_filters=4)",
    "rrdb": "rrdb(blocks=1, growth=4)",
    "multiscale": "multiscale(scales=2, layers=1)",
    "batch_head": "batch_head(layers=1)",
    "patch_nce": "patch_nce(patches=16, channels=8)",
}
# Losses that fetch weights have tests of their own, which need no network.
FETCHED = ("vgg", "lpips")


@pytest.fixture
def train(tmp_path, dataroot, monkeypatch):
    """train.py as the shell calls it, in this process; gives the last line of metrics.jsonl."""

    def run(**options):
        words = [f"--{name}={value}" for name, value in {**SMALL, **options}.items()]
        folders = [f"--dataroot={dataroot}", f"--checkpoints_dir={tmp_path / 'runs'}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *folders, *words])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        assert not stop.value.code
        assert (tmp_path / "runs" / "run" / "state.pt").is_file()
        lines = (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])

    return run


@pytest.mark.parametrize("generator", GENERATOR_OPTIONS)
@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_every_game_trains_every_kind_of_generator(name, generator, train):
    penalty = "gradient_penalty(every=1)" if name == "wgan" else "none"
    values = train(adversarial=name, penalty=penalty, **GENERATOR_OPTIONS[generator])
    assert {"adversarial_A", "adversarial_B", "D_A", "D_B"} <= set(values)


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "bicubic"])
def test_every_generator_trains(name, train):
    expression = EXPRESSIONS.get(f"{name} generator", EXPRESSIONS.get(name, name))
    # Residual generators begin as the identity, whose cycle costs nothing.
    assert train(generator=expression)["cycle_A"] >= 0


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["edsr", "rrdb", "srcnn", "vgg7", "dcscn"])
def test_every_generator_with_a_scale_trains_by_pseudo_pairs(name, scale, train):
    values = train(
        generator=EXPRESSIONS.get(name, name),
        generator_BA="bicubic",
        scale=scale,
        crop_size=36,
        pseudo_pair_B="l2",
        **{"adversarial": "none", "cycle": "none", "identity": "none"},
    )
    assert values["pseudo_pair_B"] > 0


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_every_discriminator_judges(name, train):
    values = train(
        generator="resnet(blocks=1)",
        discriminator=EXPRESSIONS.get(name, name),
        penalty="zero_centered(every=1)",
        diffaugment=" + ".join(DIFFAUGMENTS),
        # The Real-ESRGAN judge halves the image three times.
        crop_size=64,
        load_size=64,
    )
    assert values["D_B"] > 0


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_holds(name, train):
    values = train(generator="resnet(blocks=1)", penalty=f"1*{name}(every=1)")
    assert values["penalty_A"] >= 0


@pytest.mark.parametrize("name", [name for name in IMAGE_LOSSES if name not in FETCHED])
def test_every_image_loss_trains_in_every_slot(name, train):
    slots = ("cycle", "identity", "content", "pseudo_pair")
    values = train(generator="resnet(blocks=1)", **dict.fromkeys(slots, f"2*{name}"))
    assert {f"{slot}_{domain}" for slot in slots for domain in "AB"} <= set(values)


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
def test_every_contrast_trains(name, train):
    values = train(generator="resnet(blocks=1)", nce=EXPRESSIONS.get(name, name))
    assert {"nce_A", "nce_B"} <= set(values)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(name, train):
    assert train(generator="resnet(blocks=1)", optimizer=name)["lr"] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_trains(name, train):
    values = train(generator="resnet(blocks=1)", schedule=name, steps=3, evaluate_every=2)
    assert values["lr"] > 0


def test_measurements_in_mid_run_become_curves(train, tmp_path):
    train(generator="resnet(blocks=1)", steps=3, evaluate_every=2)
    lines = (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines if "swd" in line]
    assert [values["step"] for values in measured] == [2]
    assert {"swd", "psnr"} <= set(measured[0])
