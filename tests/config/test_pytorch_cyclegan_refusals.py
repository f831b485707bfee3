"""Classic command lines that is not supported: one line each, with the remedy."""

import shlex
from typing import Any, get_args

import pytest

from cyclegan.config.command_line import parse, train_settings, translate_settings
from cyclegan.config.errors import UserError
from cyclegan.config.options import TranslateSettings
from cyclegan.config.pytorch_cyclegan.conversion import classic_options, convert
from cyclegan.config.train_options import Preprocess, TrainSettings


def refusal(words: str, *, train: bool = True) -> str:
    command = train_settings if train else translate_settings
    with pytest.raises(UserError) as caught:
        command(["--dataroot", "photos", *shlex.split(words)] if train else shlex.split(words))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def converted(words: str, *, train: bool = True) -> dict[str, Any]:
    model, hidden = (TrainSettings if train else TranslateSettings), classic_options(train=train)
    return convert(parse(model, shlex.split(words), hidden=hidden), train=train)[0]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--netG", "--netG: expected a value"),
        ("--netG --norm batch", "--netG: expected a value"),
        ("--netG resnet_9blocks unet_256", "unrecognized arguments: unet_256"),
        ("--niter", "--niter: expected a value"),
        ("--no_dropout True", "unrecognized arguments: True"),
        ("--lamda_A 10", "did you mean lambda_A?"),
        ("--netG resnet_9block", "did you mean resnet_9blocks?"),
        ("--netG=", "--netG has an empty value"),
        ("--netD multiscale", "see --discriminator"),
        ("--gan_mode hinge", "see --adversarial"),
        ("--norm layer", "known: instance, batch, none"),
        ("--lr_policy exp", "see --schedule"),
        ("--lambda_A ten", "--lambda_A ten: must be a number from 0 up"),
        ("--lambda_B -1", "--lambda_B -1: must be a number from 0 up"),
        ("--lambda_identity nan", "must be a number"),
        ("--n_layers_D 2.5 --netD n_layers", "must be a whole number from 1 up"),
        ("--print_freq 0", "must be a whole number from 1 up"),
        ("--gpu_ids 0,1,2", "torchrun --nproc-per-node 3 -- train.py"),
        ("--gpu_ids 2,3", "torchrun"),
        ("--gpu_ids all", "write --device cuda:0, or --device cpu"),
        ("--suffix {netG} --name n", "write the whole name by --name"),
        ("--suffix small", "write the whole name by --name"),
        ("--input_nc 1", "gray files are read as such"),
        ("--epoch_count 51", "--continue_train"),
        ("--use_wandb", "--monitor visdom,wandb"),
        ("--save_by_iter", "--save_epoch_every 1"),
        ("--norm batch --generator edsr", "--generator is given too"),
        ("--lambda_A 10 --cycle 5*l1", "--cycle is given too"),
        ("--lambda_A 10 --lambda_B 10 --cycle_B 5*l1", "--cycle_B is given too"),
        ("--lambda_identity 1 --identity 5*l1", "--identity is given too"),
        ("--gpu_ids 0 --device cpu", "--device is given too"),
        ("--niter 50 --n_epochs 60", "--niter 50 --n_epochs 60 are two values of one option"),
        ("--loadSize 286 --load_size 300", "are two values of one option"),
        ("--direction BtoA --which_direction AtoB", "are two values of one option"),
        ("--lambda_identity 0.5 --identity 0.7", "are two values of one option"),
        ("--netG unet_256 --which_model_netG unet_128", "are two values of one option"),
        ("--gan_mode lsgan --no_lsgan", "leave one of them out"),
        ("--gan_mode wgangp --penalty_A 5*r1 --adversarial lsgan", "--adversarial is given too"),
        ("--model CycleGAN", "did you mean cycle_gan?"),
        ("--model cut", 'train with --nce "1*patch_nce"'),
        ("--model test", "belongs to test.py"),
        ("--dataset_mode single", "belongs to test.py"),
        ("--dataset_mode unalinged", "did you mean unaligned?"),
        ("--lr_policy none", "none is unknown; known: linear, lambda, step, plateau, cosine"),
        ("--batchSize -3", "--batch_size -3"),
        ("--gpu_ids ١", "write --device cuda:0, or --device cpu"),
        ("--lambda_A 1_0", "--lambda_A 1_0: must be a number"),
        ("--lambda_A ٥", "must be a number"),
        ("--print_freq 1_0", "--print_freq 1_0: must be"),
        ("--niter five", "--n_epochs five"),
    ],
)
def test_unsupported_options_are_refused_with_the_remedy(words, part):
    assert part in refusal(words)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--model test --dataroot photos", "--name of its folder"),
        ("--model test --name n", "--input FOLDER"),
        ("--model pix2pix", "not among the tasks"),
        ("--phase val", "--input FOLDER"),
        ("--dataset_mode single --name n", "--dataset_mode single: give the images"),
        (
            "--dataroot A --input B --model test",
            "--dataroot is the images here, as --input is",
        ),
        ("--num_test 50 --max_dataset_size 4", "are two values of one option"),
        ("--num_test=3 --how_many=4", "--num_test 3 --how_many 4 are two values"),
        ("--num_test 0", "--max_dataset_size 0"),
        ("--netG nonsense", "--netG nonsense is unknown; known: resnet_9blocks"),
        ("--preprocess resize_and_crops", "did you mean resize_and_crop?"),
        ("--ngf wide", "--ngf wide: must be"),
        ("--display_id off", "--display_id off: must be"),
        ("--model cut", "train with --nce"),
        ("--load_iter -1", "must be a number from 0 up"),
        ("--load_iter 2.5", "must be a whole number from 0 up"),
    ],
)
def test_unsupported_options_of_test_py_are_refused_with_the_remedy(words, part):
    assert part in refusal(words, train=False)


def test_one_value_in_two_spellings_is_no_contradiction():
    found = converted("--niter 50 --n_epochs 50 --gan_mode vanilla --no_lsgan")
    assert found == {"n_epochs": "50", "adversarial": "vanilla"}


def test_an_invalid_batch_size_is_left_to_the_check_of_our_options():
    found = converted("--batch_size -3 --print_freq 100")
    assert found == {"batch_size": "-3", "print_every": "100"}


@pytest.mark.parametrize("value", get_args(Preprocess))
def test_test_py_takes_every_way_of_cropping_that_train_py_knows(value):
    assert converted(f"--preprocess {value}", train=False) == {}
