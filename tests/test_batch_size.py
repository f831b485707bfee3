"""--batch_size auto."""

import pytest
import torch
from running import TINY, train

from cyclegan.errors import UserError
from cyclegan.settings import TrainSettings, check
from cyclegan.training.batch_size import largest, with_batch_size


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
    assert with_batch_size(settings, torch.device("cpu"), most=100) is settings


def test_auto_goes_by_the_memory_of_a_gpu_alone():
    settings = check(TrainSettings, {"dataroot": "x", "name": "x", "batch_size": "auto"})
    with pytest.raises(UserError, match="--batch_size auto goes by a GPU.*give a number"):
        with_batch_size(settings, torch.device("cpu"), most=100)


def test_the_command_takes_auto_and_refuses_what_is_no_number(dataroot, tmp_path):
    for value, message in (
        ("auto", "give a number"),
        ("0", "--batch_size 0: must be from 1 to 65536, or auto"),
    ):
        done = train(tmp_path, f"--dataroot={dataroot}", "--name=r", f"--batch_size={value}", *TINY)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
