"""What a GPU's memory holds: --batch_size auto, and what is said where a step does not fit."""

import pytest
import torch
from support.running import TINY, train

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.algorithm.model import build_model
from cyclegan.training.resources.trial_step import advice, largest, with_batch_size
from cyclegan.training.step import Stepper

SIZES = {"A": (256, 256), "B": (256, 256)}


@pytest.mark.parametrize("fitting", [0, 1, 2, 3, 5, 8, 11, 12])
@pytest.mark.parametrize("most", [1, 2, 12, 100])
def test_the_largest_that_fits_is_found_with_few_tries(fitting, most):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= fitting

    assert largest(fits, most=most) == min(fitting, most)
    assert len(tried) == len(set(tried)) <= 8
    assert max(tried) <= most


def test_a_number_is_taken_as_it_is():
    settings = check(TrainSettings, {"dataroot": "x", "name": "x", "batch_size": 7})
    assert with_batch_size(settings, torch.device("cpu"), SIZES, most=100) is settings


def test_auto_goes_by_the_memory_of_a_gpu_alone():
    settings = check(TrainSettings, {"dataroot": "x", "name": "x", "batch_size": "auto"})
    with pytest.raises(UserError, match="--batch_size auto goes by a GPU.*give a number"):
        with_batch_size(settings, torch.device("cpu"), SIZES, most=100)


def test_the_command_takes_auto_and_refuses_what_is_no_number(dataroot, tmp_path):
    for value, message in (
        ("auto", "give a number"),
        ("0", "--batch_size 0: must be from 1 to 65536, or auto"),
    ):
        done = train(tmp_path, f"--dataroot={dataroot}", "--name=r", f"--batch_size={value}", *TINY)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 1), (torch.float64, 20)], ids=str)
def test_four_batches_in_turn_are_one_four_times_as_large(dtype, steps):
    networks = {"generator": "resnet(blocks=1)", "discriminator": "patch(layers=1)"}
    small = {"dataroot": "x", "name": "x", "ngf": 4, "ndf": 4, "optimizer": "sgd", "lr": 1e-3}
    weights = []
    for batches in ({"batch_size": 8}, {"batch_size": 2, "accumulate": 4}):
        settings = check(TrainSettings, {**small, **networks, **batches})
        torch.manual_seed(0)
        stepper = Stepper(build_model(settings).to(dtype), settings)
        random = torch.Generator().manual_seed(1)
        for _ in range(steps):
            drawn = torch.rand(2, 8, 3, 16, 16, generator=random, dtype=dtype)
            stepper.step(*(2 * drawn - 1))
        weights.append(stepper.model.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-6)


def in_memory(room):
    """Whether a step fits, were its memory the pixels of a batch, a quarter of them where blocks
    are recomputed.
    """

    def fits(settings, sizes):
        pixels = settings.batch_size * max(width * height for width, height in sizes.values())
        return pixels / (4 if settings.checkpoint_activations else 1) <= room

    return fits


@pytest.mark.parametrize(
    ("batch_size", "room", "expected"),
    [
        (8, 4 * 256**2, ["--batch_size 4 --accumulate 2", "--batch_size 4"]),
        (1, 0.5 * 256**2, ["--checkpoint_activations"]),
        (
            8,
            0.5 * 256**2,
            [
                "--batch_size 2 --accumulate 4 --checkpoint_activations",
                "--batch_size 2 --checkpoint_activations",
            ],
        ),
        (8, 0.1 * 256**2, ["--crop_size 128 --batch_size 1 --checkpoint_activations"]),
        (8, 1, []),
    ],
)
def test_what_would_fit_is_tried_and_said(batch_size, room, expected):
    settings = check(TrainSettings, {"dataroot": "x", "name": "x", "batch_size": batch_size})
    assert list(advice(settings, SIZES, in_memory(room))) == expected
