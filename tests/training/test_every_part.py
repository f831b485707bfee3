"""Every part in every table through the real command: one step, a checkpoint, a measurement."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from support.running import newest_state

from cyclegan.losses import (
    ADVERSARIAL_LOSSES,
    CONTRASTIVE_LOSSES,
    IMAGE_LOSSES,
    PENALTIES,
)
from cyclegan.networks import DIFFAUGMENTS, DISCRIMINATORS, GENERATORS
from cyclegan.training.algorithm.lr_schedule import SCHEDULES
from cyclegan.training.algorithm.optimizers import OPTIMIZERS

ROOT = Path(__file__).resolve().parents[2]

SMALL = {
    "discriminator": "patch(layers=1)",
    **{"ngf": 4, "ndf": 4, "load_size": 36, "crop_size": 32, "steps": 1, "num_threads": 0},
    **{"monitor": "none", "device": "cpu", "seed": 0},
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

    def command(**options):
        resumes = "continue_train" in options
        values = options if resumes else {**SMALL, "dataroot": dataroot, **options}
        # A flag has no value.
        words = [f"--{k}" if v is None else f"--{k}={v}" for k, v in values.items()]
        name = options.get("name", "run")
        folders = [f"--name={name}", f"--checkpoints_dir={tmp_path / 'runs'}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *folders, *words])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        assert not stop.value.code
        run = tmp_path / "runs" / name
        assert newest_state(run)
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])

    return command


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


def test_a_run_with_every_part_that_keeps_a_state_goes_on_bit_for_bit(train, tmp_path):
    """Heads of a contrast, queues of a judge, a plateau's measurements, augmentation's draws."""
    options = {
        "generator": "resnet(blocks=1, dropout=true)",
        "discriminator": "batch_head(layers=1, queue_size=2)",
        "nce": "1*patch_nce(patches=16, channels=8)",
        "penalty": "gradient_penalty(every=2)",
        "diffaugment": "translation + cutout",
        "schedule": "plateau(patience=1, threshold=0.5)",
        "optimizer_D": "sgd(momentum=0.9)",
        "evaluate_every": 2,
        "ema": 0.9,
        "pool_size": 2,
    }
    train(**options, steps=7, name="whole")
    train(**options, steps=3)
    train(continue_train=None, steps=7)
    whole, resumed = (newest_state(tmp_path / "runs" / name) for name in ("whole", "run"))
    assert whole["schedule"]["current"] < 1
    random, same = (state["ranks"][0]["random"]["torch"] for state in (whole, resumed))
    assert torch.equal(random, same)
    for part in ("model", "heads"):
        assert whole[part].keys() == resumed[part].keys()
        for key, value in whole[part].items():
            assert torch.equal(value, resumed[part][key]), key


def losses(values):
    # In fp16 the first gradients may be past its range.
    others = ("images_per_second", "data_wait", "data_share", "memory")
    return {n: v for n, v in values.items() if n not in others and not n.startswith("gradient_")}


def test_every_cache_and_number_of_workers_gives_the_same_run(train, tmp_path):
    first, *others = (
        train(steps=3, generator="resnet(blocks=1)", name=f"{cache}{workers}", **options)
        for cache in ("off", "ram", "disk")
        for workers in (0, 2)
        for options in [{"cache": cache, "num_threads": workers, "cache_dir": tmp_path / "cache"}]
    )
    assert list((tmp_path / "cache").glob("*.images"))
    for values in others:
        assert losses(values) == losses(first)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_trains_and_goes_on(precision, train, tmp_path):
    full = train(generator="resnet(blocks=1)", name="full", steps=2, precision="fp32")
    half = train(generator="resnet(blocks=1)", steps=2, precision=precision)
    assert losses(half) == pytest.approx(losses(full), rel=0.1)
    assert train(continue_train=None, steps=3)["step"] == 3
    state = newest_state(tmp_path / "runs" / "run")
    assert bool(state["scalers"]["optimizer_G"]) == (precision == "fp16")
    assert {weight.dtype for weight in state["model"].values()} == {torch.float32}


def test_less_memory_gives_the_same_run(train):
    options = {"generator": "resnet(blocks=1)", "steps": 2, "precision": "fp32"}
    whole = train(**options, name="whole", batch_size=4)
    parts = train(**options, batch_size=2, accumulate=2, checkpoint_activations=None)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
