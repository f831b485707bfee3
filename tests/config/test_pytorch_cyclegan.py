"""Options of the classic implementation are converted to ours, or refused with the remedy."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cyclegan.config import expressions, parts
from cyclegan.config.command_line import parse
from cyclegan.config.errors import UserError
from cyclegan.config.options import TranslateSettings
from cyclegan.config.pytorch_cyclegan import conversion
from cyclegan.config.pytorch_cyclegan.conversion import (
    TEST_OLDER,
    TRAIN_OLDER,
    classic_options,
    classic_remedy,
)
from cyclegan.config.pytorch_cyclegan.option_table import TEST_TABLE, TRAIN_TABLE
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses import ADVERSARIAL_LOSSES, IMAGE_LOSSES, PENALTIES
from cyclegan.networks import DISCRIMINATORS, GENERATORS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-pytorch-cyclegan.md"
TABLES = {
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "adversarial": ADVERSARIAL_LOSSES,
    "penalty": PENALTIES,
    "cycle": IMAGE_LOSSES,
    "identity": IMAGE_LOSSES,
}
# Names that the tables use for an option of ours with a value that only the classic one has.
BY_VALUE = {"max_dataset_size=inf": "max_dataset_size", "display_id=-1": "display_id"}


def table(command: str) -> list[tuple[str, str]]:
    """The first two cells of each row under `## Options of <command>`, without their backquotes."""
    section = (
        PAGE.read_text(encoding="utf-8").split(f"## Options of {command}")[1].split("\n## ")[0]
    )
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return [(there.strip().strip("`"), here.strip().strip("`")) for there, here in rows]


ROWS = [
    pytest.param(there, here, command == "train.py", id=f"{command} {there}")
    for command in ("train.py", "test.py")
    for there, here in table(command)
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def convert(words: str, *, train: bool = True) -> tuple[dict[str, Any], list[str]]:
    """The options of a command line in our names, and the lines that it prints."""
    model, hidden = (TrainSettings if train else TranslateSettings), classic_options(train=train)
    typed = parse(model, shlex.split(words), hidden=hidden)
    options, lines = conversion.convert(typed, train=train)
    return {f"--{name}": value for name, value in options.items()}, lines


def train(words: str) -> dict[str, Any]:
    return convert(words)[0]


def translate(words: str) -> dict[str, Any]:
    return convert(words, train=False)[0]


def lines(words: str, *, train: bool = True) -> list[str]:
    return convert(words, train=train)[1]


def refusal(words: str, *, train: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        convert(words, train=train)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pairs(words: str) -> dict[str, str]:
    found = shlex.split(words)
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize(("there", "here", "train"), ROWS)
def test_every_row_of_the_page_describes_the_command(there, here, train):
    if here == "refused":
        assert refusal(there, train=train).startswith("--")
        return
    options, printed = convert(there, train=train)
    assert options == pairs("" if here == "nothing" else here)
    assert printed, "it was converted without a word"


@pytest.mark.parametrize(("there", "here", "train"), ROWS)
def test_every_option_and_part_on_the_page_exists(there, here, train):
    if here in ("refused", "nothing"):
        return
    fields = (TrainSettings if train else TranslateSettings).model_fields
    for option, value in pairs(here).items():
        assert option.removeprefix("--") in fields
        slot = re.sub(r"_[AB]$", "", option.removeprefix("--"))
        for term in expressions.parse(value, option=slot) if slot in TABLES else []:
            parts.build(term, TABLES[slot], channels=4)


@pytest.mark.parametrize("train", [True, False])
def test_the_page_names_every_option_that_is_converted(train):
    table, older = (TRAIN_TABLE, TRAIN_OLDER) if train else (TEST_TABLE, TEST_OLDER)
    shown = {word[2:] for p in ROWS if p.values[2] == train for word in p.values[0].split()}
    shown |= {older.get(name, name) for name in shown}
    names = {name for entry in table for name in entry.names}
    assert {BY_VALUE.get(name, name) for name in names} <= shown


def test_the_page_names_every_older_spelling():
    shown = " ".join(there for row in ROWS for there in row.values[:1])
    assert {name for name in TEST_OLDER if f"--{name} " not in shown} == set()


@pytest.mark.parametrize(
    "words",
    [
        "--dataroot d --name n --batch_size 4 --lr 0.001",
        "--cycle '10*l1 + 1*ssim' --identity 5*l1 --generator 'resnet(blocks=6)'",
        "--identity none --display_id 0 --preset quick --max_dataset_size 5",
        "--scale 2 --device cpu --schedule cosine --ngf 16 --steps 9 --lr -1",
        "",
    ],
)
def test_our_own_options_pass_unchanged_and_without_a_message(words):
    assert convert(words) == (pairs(words), [])


def test_our_own_options_of_test_py_pass_unchanged():
    words = (
        "--name n --input photos --output o --direction BtoA --epoch 20 --dataroot d "
        "--results_dir r --weights w.pth --batch_size 2 --checkpoints_dir c"
    )
    assert convert(words, train=False) == (pairs(words), [])


@pytest.mark.parametrize(
    "words",
    [
        "--lambda_A 20",
        "--lambda_A=20",
        "--lambda-A 20",
        "--lambda-A=20",
        "--lambda_A 7 --lambda_A 20",
    ],
)
def test_an_option_may_be_spelled_as_the_parsers_of_either_program_take_it(words):
    assert train(words) == {"--cycle_A": "20*l1", "--identity_A": "10*l1"}


def test_the_weight_of_identity_follows_the_cycle_of_its_own_domain():
    # There: loss_idt_B = L1(G_B(real_A), real_A) * lambda_A * lambda_identity, in domain A.
    found = train("--lambda_A 8 --lambda_B 4 --lambda_identity 0.25")
    assert (found["--identity_A"], found["--identity_B"]) == ("2*l1", "1*l1")


def test_a_weight_of_zero_leaves_the_loss_out():
    assert train("--lambda_A 0") == {"--cycle_A": "none", "--identity_A": "none"}


def test_a_cycle_weight_leaves_our_own_identity_alone():
    assert train("--lambda_A 20 --identity none") == {"--identity": "none", "--cycle_A": "20*l1"}


def test_options_that_are_converted_together_give_one_line():
    said = lines("--lambda_A 10 --netG unet_256 --lambda_identity 0.2 --gpu_ids 1")
    assert said == [
        '--lambda_A 10 --lambda_identity 0.2: taken for --cycle_A "10*l1" --identity "2*l1"',
        '--netG unet_256: taken for --generator "unet(layers=8, norm=instance)"',
        "--gpu_ids 1: taken for --device cuda:1",
    ]


def test_options_that_are_not_needed_give_a_line_with_the_reason():
    assert lines("--no_html --display_env main --update_html_freq 1000") == [
        "--display_env main: not needed here (the live page's environment has the run's name)",
        "--no_html --update_html_freq 1000: not needed here (index.html keeps itself up to date)",
    ]


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"), [(100, 1, 100), (100, 4, 25), (100, 64, 2), (2, 64, 1)]
)
def test_intervals_in_images_become_intervals_in_steps(images, batch_size, steps):
    options, printed = convert(f"--print_freq {images} --batchSize {batch_size}")
    assert options["--print_every"] == str(steps)
    assert "counted images" in printed[-1]


def test_a_flag_does_not_take_the_next_word():
    assert train("--no_dropout --name n") == {"--name": "n"}


def test_one_domain_may_be_given_in_the_classic_spelling_and_the_other_in_ours():
    found = train("--lambda_B 4 --cycle_A 3*l1 --identity 5*l1")
    assert found == {"--cycle_A": "3*l1", "--cycle_B": "4*l1", "--identity": "5*l1"}


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["latest_net_G.pth", "latest_net_G_A.pth"], "latest_net_G.pth"),
        (["latest_net_G_A.pth", "latest_net_G_B.pth"], "latest_net_G_A.pth"),
        (["20_net_G_A.pth"], "latest_net_G_A.pth"),
        ([], "latest_net_G.pth"),
    ],
)
def test_model_test_finds_the_weights_that_training_left(tmp_path, there, taken):
    (tmp_path / "runs" / "h2z").mkdir(parents=True)
    for name in there:
        (tmp_path / "runs" / "h2z" / name).touch()
    found = translate("--model test --name h2z --dataroot photos --checkpoints_dir runs")
    assert Path(found["--weights"]) == Path("runs/h2z", taken)


def test_model_test_takes_epoch_and_iteration_into_the_file_name():
    words = "--model test --name n --dataroot d --which_epoch 20"
    assert translate(words)["--weights"].endswith("20_net_G.pth")
    found = translate(f"{words} --load_iter 500")
    assert found["--weights"].endswith("iter_500_net_G.pth")
    assert found["--epoch"] == "iter_500"


def test_model_test_leaves_given_weights_and_input_unchanged():
    words = "--weights g.pth --input photos"
    assert translate(f"{words} --model test") == pairs(words)
    assert translate(f"{words} --dataroot photos --model test") == pairs(words)


def test_model_test_uses_the_folder_of_name_and_suffix():
    found = translate("--dataroot d --name edges --model test --suffix v2")
    assert found["--name"] == "edges_v2"
    assert Path(found["--weights"]).parent == Path("checkpoints/edges_v2")


@pytest.mark.parametrize(
    ("own", "automatic"),
    [
        ("--penalty_A 5*r1", {"--penalty_B"}),
        ("--penalty_B 5*r1", {"--penalty_A"}),
        ("--penalty_A 5*r1 --penalty_B none", set()),
        ("--penalty none", set()),
    ],
)
def test_a_given_penalty_replaces_the_automatic_one_for_its_discriminators(own, automatic):
    added = dict.fromkeys(automatic, "10*gradient_penalty(every=1)")
    assert train(f"--gan_mode wgangp {own}") == pairs(own) | {"--adversarial": "wgan"} | added


@pytest.mark.parametrize("base", ["--preset quick", "--config own.yaml", "--preset=sr"])
def test_a_cycle_weight_changes_the_cycle_alone_unless_the_preset_is_classic(base):
    found = train(f"{base} --lambda_A 5")
    assert found.keys() - {"--preset", "--config"} == {"--cycle_A"}
    assert train(f"{base} --lambda_A 5 --lambda_identity 0.5")["--identity_A"] == "2.5*l1"
    assert train("--preset classic --lambda_A 5")["--identity_A"] == "2.5*l1"


def test_the_error_for_a_classic_name_in_a_yaml_file_points_to_the_command_line():
    for name in ("lambda_A", "lambda-A", "netG", "lr_policy", "gpu_ids", "niter", "num_test"):
        assert "on the command line" in (classic_remedy(name) or "")
    for name in ("cycle_A", "generator", "identity", "nonsense", "max_dataset_size=inf!"):
        assert classic_remedy(name) is None
