"""What fits into a GPU's memory: --batch_size auto, and the advice if a step does not fit."""

import pytest
import torch
from support.running import TINY, train
from support.steps import build_model, build_step

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.resources.trial_step import StepSize, advice, largest, largest_batch_size

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


def test_the_largest_batch_size_that_fits_is_found():
    fits = in_memory(5 * 256**2)
    assert largest_batch_size(fits, StepSize(1), SIZES, most=100) == 5
    assert largest_batch_size(fits, StepSize(1), SIZES, most=3) == 3


def test_a_batch_of_one_that_does_not_fit_is_refused_with_what_would():
    with pytest.raises(UserError, match="not even a batch of one.*--checkpoint_activations"):
        largest_batch_size(in_memory(0.5 * 256**2), StepSize(1), SIZES, most=100)


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
        stepper = build_step(build_model(settings).to(dtype), settings)
        random = torch.Generator().manual_seed(1)
        for _ in range(steps):
            drawn = torch.rand(2, 8, 3, 16, 16, generator=random, dtype=dtype)
            stepper(*(2 * drawn - 1))
        weights.append(stepper.model.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-6)


def in_memory(room):
    """Whether a step fits if its memory is the pixels of a batch, or a quarter of them with
    activation checkpointing.
    """

    def fits(size, images):
        pixels = size.batch_size * max(width * height for width, height in images.values())
        return pixels / (4 if size.activation_checkpointing else 1) <= room

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
    assert list(advice(StepSize(batch_size), SIZES, in_memory(room))) == expected
