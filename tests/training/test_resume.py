"""What may change when a run goes on: taken and listed, or refused by name."""

import pytest
from support.running import TINY, train

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.training.build.continued import changed_options

BEGUN = {"dataroot": "data", "name": "run", "generator": "resnet(blocks=6)", "ngf": 32}


def settings(**options) -> TrainSettings:
    return check(TrainSettings, {**BEGUN, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"lr": 1e-4, "print_every": 5}, ["lr 0.0002 -> 0.0001", "print_every 100 -> 5"]),
        ({"n_epochs": 150}, ["n_epochs 100 -> 150"]),
        ({"cycle": "10*l1 + 1*ssim"}, ["cycle 10*l1 -> 10*l1 + 1*ssim"]),
        (
            {"generator": "resnet( blocks = 6 )"},
            ["generator resnet(blocks=6) -> resnet( blocks = 6 )"],
        ),
        ({"dataroot": "moved/data"}, ["dataroot data -> moved/data"]),
        # Said each time, and of no consequence.
        ({"continue_train": True, "checkpoints_dir": "elsewhere", "trust_imports": True}, []),
        ({"display_server": "http://10.0.0.1", "cache_dir": "fast"}, []),
    ],
    ids=str,
)
def test_what_may_change_is_listed(options, said):
    assert changed_options(settings(), settings(**options)) == said


@pytest.mark.parametrize(
    "options",
    [
        {"generator": "resnet(blocks=9)"},
        {"generator_BA": "unet"},
        {"discriminator": "patch(layers=2)"},
        {"ngf": 64},
        {"ndf": 32},
        {"scale": 2},
        {"direction": "BtoA"},
        {"init_type": "xavier"},
    ],
    ids=str,
)
def test_what_may_not_is_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match="cannot change any more: leave it out") as caught:
        changed_options(settings(), settings(lr=1e-4, **options))
    assert str(caught.value).startswith(f"--{name} {value}: the run run was begun with")


def test_the_command_lists_what_has_changed_and_takes_it(dataroot, tmp_path):
    begun = train(tmp_path, f"--dataroot={dataroot}", "--name=run", "--steps=3", *TINY)
    assert begun.returncode == 0, begun.stderr
    again = ["--name=run", "--continue_train", "--steps=5"]
    refused = train(tmp_path, *again, "--ngf=8")
    assert refused.returncode == 2
    assert "--ngf 8: the run run was begun with 4" in refused.stderr
    assert refused.stderr.count("\n") == 1
    taken = train(tmp_path, *again, "--lr=0.001")
    assert taken.returncode == 0, taken.stderr
    assert "  changed: steps 3 -> 5\n  changed: lr 0.0002 -> 0.001\n" in taken.stdout
