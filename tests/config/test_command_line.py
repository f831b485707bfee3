"""From a command line to settings: spelling, order of the layers, mistakes, --continue_train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.options import DATA, refusal, write

from cyclegan.config.command_line import train_settings, translate_settings
from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import load_preset, run_settings, to_yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_run(path: str, **options: object) -> None:
    """Writes a run's settings.yaml as training does."""
    settings = check(TrainSettings, {"dataroot": "photos", "name": Path(path).name, **options})
    write(f"{path}/settings.yaml", to_yaml(settings))


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size", "2"],
        ["--batch-size", "2"],
        ["--batch_size=2"],
        ["--batch-size=2"],
        ["--batch_size", "7", "--batch-size", "2"],
    ],
)
def test_an_option_may_be_spelled_with_underscores_or_hyphens(words):
    assert train_settings([*DATA, *words]).batch_size == 2


def test_the_classic_preset_is_the_published_recipe():
    settings = train_settings(DATA)
    assert (settings.lr, settings.beta1) == (2e-4, 0.5)
    assert (settings.load_size, settings.crop_size, settings.batch_size) == (286, 256, 1)
    assert (settings.n_epochs, settings.n_epochs_decay, settings.pool_size) == (100, 100, 50)
    slots = settings.cycle, settings.identity, settings.adversarial
    assert [slot.text for slot in slots] == ["10*l1", "5*l1", "lsgan"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--dataroot", "data/horse2zebra"], "horse2zebra"),
        (["--dataroot", "data/horse2zebra/"], "horse2zebra"),
        (["--dir_A", "x/low", "--dir_B", "x/high"], "high"),
        (["--dataroot", "photos", "--name", "mine"], "mine"),
        (["--dataroot", "photos", "--name", "\u00fcn\u00ef"], "\u00fcn\u00ef"),
    ],
)
def test_a_run_is_named_after_its_data_unless_it_is_given_a_name(words, name):
    assert train_settings(words).name == name


def test_the_data_folder_dot_gives_the_working_folders_name(tmp_path):
    assert train_settings(["--dataroot", "."]).name == tmp_path.name


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--batch_size", "0"], ["--batch_size 0", "1"]),
        (["--batch_size", "-1"], ["--batch_size -1"]),
        (["--batch_size", "two"], ["--batch_size", "two"]),
        (["--batch_size", "2.5"], ["--batch_size", "2.5"]),
        (["--batch_size"], ["--batch_size"]),
        (["--bach_size", "2"], ["--bach_size", "did you mean batch_size?"]),
        (["--dir_a", "x"], ["--dir_a", "did you mean dir_A?"]),
        (["--no_flip", "True"], ["True", "--help"]),
        (["photos"], ["photos", "--help"]),
        (["-b", "2"], ["-b"]),
        (["--preprocess", "resize_and_crp"], ["--preprocess", "resize_and_crp", "scale_width"]),
        (["--direction", "btoa"], ["--direction", "btoa", "BtoA"]),
        (["--device", "gpu"], ["--device gpu", "cuda:1"]),
        (["--device", "cuda:"], ["--device cuda:"]),
        (["--device", "cuda:x"], ["--device cuda:x"]),
        (["--device", "cuda:\u00b2"], ["--device cuda:"]),
        (["--device", "cuda:999999999999"], ["--device cuda:"]),
        (["--device", "cpu:1"], ["--device cpu:1"]),
        (["--lr", "nan"], ["--lr nan", "finite"]),
        (["--lr", "0"], ["--lr 0"]),
        (["--init_gain", "inf"], ["--init_gain inf", "finite"]),
        (["--seed=-1"], ["--seed -1"]),
        (["--display_port", "70000"], ["--display_port 70000", "65535"]),
        (["--crop_size", "300"], ["--crop_size 300", "--load_size 286", "lower it"]),
        (
            ["--preprocess", "scale_width_and_crop", "--crop_size", "300"],
            ["--crop_size 300", "--load_size 286"],
        ),
        (["--preprocess", "none", "--batch_size", "2"], ["--preprocess none", "--batch_size 1"]),
        (["--n_epochs", "0", "--n_epochs_decay", "0"], ["--n_epochs", "nothing to train"]),
        (["--dir_A", "x"], ["--dir_A", "--dir_B", "both"]),
        (["--preset", "quik"], ["--preset quik", "did you mean quick?", "classic"]),
        (["--preset", "../classic"], ["--preset ../classic", "known:"]),
        (["--dataroot", "~nobody_of_this_name/x"], ["--dataroot ~nobody", "write the path out"]),
    ],
)
def test_a_mistake_is_reported_with_option_value_and_remedy(words, parts):
    message = refusal(*words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("name", ["a/b", "/a", "a/", "..", ".", " ", "a\\b", "a\nb", "a\0b"])
def test_a_name_that_is_not_one_plain_folder_is_refused(name):
    assert "plain name" in refusal("--name", name)


def test_a_command_without_data_names_the_missing_options():
    with pytest.raises(UserError, match="--dataroot FOLDER"):
        train_settings([])


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("c.yaml", "checkpoints_dir: ~/runs\n")
    settings = train_settings(["--dataroot", "~/photos", "--config", "c.yaml"])
    assert settings.dataroot == tmp_path / "photos"
    assert settings.checkpoints_dir == tmp_path / "runs"


def test_the_command_line_overrides_the_file_which_overrides_the_preset():
    write("c.yaml", "preset: quick\nngf: 7\nndf: 9\n")
    settings = train_settings([*DATA, "--config", "c.yaml", "--ndf", "11"])
    assert (settings.preset, settings.ngf, settings.ndf) == ("quick", 7, 11)
    assert settings.crop_size == load_preset("quick")["crop_size"]


def test_an_option_given_at_its_default_still_overrides_the_preset():
    assert train_settings([*DATA, "--preset", "quick", "--ngf", "64"]).ngf == 64


def test_a_continued_run_takes_every_option_from_its_own_settings():
    write_run("checkpoints/photos", preset="quick", lr=0.1, crop_size=64)
    settings = train_settings(["--name", "photos", "--continue_train"])
    assert (settings.preset, settings.lr, settings.crop_size) == ("quick", 0.1, 64)
    assert settings.continue_train
    assert settings.dataroot == Path("photos")


def test_the_command_that_began_a_run_continues_it_with_one_more_option():
    write("c.yaml", "name: mine\ncheckpoints_dir: runs\nngf: 8\n")
    command = [*DATA, "--preset", "quick", "--config", "c.yaml", "--ndf", "12"]
    begun = train_settings(command)
    write("runs/mine/settings.yaml", to_yaml(begun))
    continued = train_settings([*command, "--continue_train"])
    assert continued == begun.model_copy(update={"continue_train": True})


def test_an_option_beside_continue_train_overrides_the_runs_own():
    write_run("checkpoints/photos", lr=0.1, ngf=8)
    settings = train_settings([*DATA, "--continue_train", "--lr", "0.01"])
    assert (settings.lr, settings.ngf) == (0.01, 8)


def test_another_preset_than_the_runs_own_is_refused_rather_than_skipped():
    write_run("checkpoints/photos", preset="classic")
    assert "--preset quick: the run photos was begun with classic" in refusal(
        "--continue_train", "--preset", "quick"
    )


def test_a_moved_run_is_continued_in_its_new_folder():
    write_run("elsewhere/photos", checkpoints_dir="runs")
    settings = train_settings([*DATA, "--continue_train", "--checkpoints_dir", "elsewhere"])
    assert settings.run_dir == Path("elsewhere/photos")
    Path("elsewhere").rename("checkpoints")
    assert train_settings([*DATA, "--continue_train"]).run_dir == Path("checkpoints/photos")


def test_a_saved_file_cannot_declare_itself_trusted():
    write_run("checkpoints/photos", trust_imports=True)
    assert not train_settings([*DATA, "--continue_train"]).trust_imports
    assert train_settings([*DATA, "--continue_train", "--trust_imports"]).trust_imports


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--name", "nosuch"], "runs there: photos"),
        (["--name", "photos", "--checkpoints_dir", "nosuch"], "there is no run there yet"),
        (["--name", "../checkpoints/photos"], "plain name"),
        ([], "--name (or --dataroot)"),
    ],
)
def test_continuing_a_missing_run_lists_the_runs_there_are(words, part):
    write_run("checkpoints/photos")
    with pytest.raises(UserError) as caught:
        train_settings(["--continue_train", *words])
    assert part in str(caught.value)


def test_a_runs_settings_are_read_back_for_translating():
    write_run("checkpoints/photos", ngf=5)
    assert run_settings(Path("checkpoints/photos")).ngf == 5
    with pytest.raises(UserError, match="check --name; runs there: photos"):
        run_settings(Path("checkpoints/phtos"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--wieghts", "x"], "did you mean weights?"),
        (["--direction", "ba"], "AtoB"),
        (["photos"], "photos"),
        (["--lr"], "--lr"),
        (["--batch_size", "0"], "--batch_size 0"),
    ],
)
def test_a_mistake_in_test_py_is_reported_too(words, part):
    with pytest.raises(UserError) as caught:
        translate_settings(words)
    assert part in str(caught.value)


def test_classic_options_are_converted_and_reported_once(capsys):
    settings = train_settings([*DATA, "--lambda_A", "8", "--netG", "resnet_6blocks"])
    assert settings.slot("cycle", "A").text == "8*l1"
    assert settings.slot("cycle", "B").text == "10*l1"
    assert settings.generator.text.startswith("resnet(blocks=6")
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert '--lambda_A 8: taken for --cycle_A "8*l1"' in said


@pytest.mark.parametrize("program", ["train.py", "test.py"])
def test_a_mistyped_option_ends_the_real_command_at_once(program):
    done = subprocess.run(
        [sys.executable, str(ROOT / program), "--bach_size", "2"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: unknown option --bach_size (did you mean batch_size?); see --help\n"
    )


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        train_settings(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(f"--{option}" in said for option in TrainSettings.model_fields)


def test_help_groups_the_options_and_ends_with_examples(capsys):
    with pytest.raises(SystemExit):
        train_settings(["--help"])
    said = capsys.readouterr().out
    assert said.index("networks:") < said.index("--generator ") < said.index("optimization:")
    assert said.index("examples:") < said.index("python train.py --dataroot ./data/lr2hr")
    assert "--direction AtoB|BtoA" in said
    assert "(default: 0.0002)" in said


def test_a_slot_overrides_the_presets_slots_for_one_domain():
    settings = train_settings(["--dataroot", "x", "--preset", "quick", "--cycle", "7*l1"])
    assert settings.slot("cycle", "A").text == settings.slot("cycle", "B").text == "7*l1"
    assert train_settings(["--dataroot", "x", "--preset", "quick"]).cycle_A != settings.cycle


def test_a_generator_overrides_the_presets_second_generator():
    settings = train_settings(["--dataroot", "x", "--preset", "quick", "--generator", "resnet"])
    assert settings.generator_of("G_BA").text == "resnet"
    assert settings.lr_D is not None


def test_a_value_that_begins_with_a_minus_needs_an_equals_sign():
    assert "follows an equals sign" in refusal("--cycle", "-1*l1")
    assert "weight" in refusal("--cycle=-1*l1")


@pytest.mark.parametrize("side", ["load_size", "crop_size"])
def test_sides_that_no_memory_holds_are_refused(side):
    assert "16384" in refusal("--dataroot", "x", f"--{side}", "10000000")


@pytest.mark.parametrize("words", [["--name", ""], ["--name="]])
def test_an_empty_value_is_refused(words):
    assert "--name has an empty value" in refusal(*words)
