"""The options, their YAML files and presets, the device, and how a command ends on a mistake."""

from pathlib import Path

import pytest
import torch
import yaml
from support.options import DATA, refusal, write

from cyclegan.config.command_line import train_settings
from cyclegan.config.errors import UserError, one_line_errors
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import (
    PRESETS_DIR,
    load_preset,
    load_yaml,
    to_yaml,
)
from cyclegan.hardware.devices import resolve_device


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", [path.stem for path in PRESETS_DIR.glob("*.yaml")])
def test_every_preset_is_valid_and_opens_with_its_command(name):
    settings = train_settings([*DATA, "--preset", name])
    assert settings.preset == name
    kept = settings.model_dump(mode="json")
    assert {option: kept[option] for option in load_preset(name)} == load_preset(name)
    assert (PRESETS_DIR / f"{name}.yaml").read_text().startswith("# python train.py --dataroot")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("!!python/object/apply:os.system ['touch pwned']", "not plain YAML"),
        ("batch_size: !!python/object/apply:os.getpid []", "not plain YAML"),
        ("- batch_size: 4", "must hold lines like"),
        ("batch_size", "must hold lines like"),
        ("batch_size: [1, {", "not plain YAML"),
        ("a: " + "[" * 500 + "]" * 500, "not plain YAML"),
        ("a: 1\n---\na: 2", "not plain YAML"),
        ("batch_sise: 4", "did you mean batch_size?"),
        ("5: 4", "unknown option 5"),
        ("batch_size: [4]", "batch_size takes one value"),
        ("batch_size: {a: 4}", "batch_size takes one value"),
        ("batch_size: four", "--batch_size four"),
        ("batch_size: 2.5", "--batch_size 2.5"),
        ("cycle: 10", "--cycle 10"),
        ("lr: .nan", "--lr nan"),
        ("no_flip: perhaps", "--no_flip perhaps"),
        ("preset: nosuch", "--preset nosuch"),
        ("name: a/b", "--name a/b"),
        ('checkpoints_dir: "a\\0b"', "--checkpoints_dir"),
        ("continue_train: true", "--continue_train"),
    ],
)
def test_a_bad_file_of_options_is_refused(text, part):
    assert part in refusal("--config", write("c.yaml", text))
    assert not Path("pwned").exists()


def test_a_small_file_that_expands_to_gigabytes_is_refused_at_once():
    lines = ["ngf: &a [x, x, x, x, x, x, x, x, x, x]"]
    options = ["ndf", "lr", "ema", "seed", "steps", "beta1", "pool_size", "load_size", "crop_size"]
    lines += [
        f"{option}: &{new} [{', '.join(10 * [f'*{old}'])}]"
        for option, old, new in zip(options, "abcdefghi", "bcdefghij", strict=True)
    ]
    assert len(refusal("--config", write("c.yaml", "\n".join(lines)))) < 200


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", None])
def test_an_unreadable_file_of_options_is_named(content):
    if content is not None:
        Path("c.yaml").write_bytes(content)
    assert "c.yaml cannot be read" in refusal("--config", "c.yaml")


def test_scientific_notation_is_a_number_although_yaml_reads_text():
    assert load_yaml(Path(write("c.yaml", "lr: 2e-4"))) == {"lr": "2e-4"}
    assert train_settings([*DATA, "--config", "c.yaml"]).lr == 2e-4


def test_settings_are_equal_after_saving_and_loading():
    settings = train_settings(
        [*DATA, "--preset", "quick", "--cycle_A", "5*l1", "--name", "no", "--lr", "0.00001"]
    )
    write("s.yaml", to_yaml(settings))
    assert check(TrainSettings, load_yaml(Path("s.yaml"))) == settings


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="frozen"):
        train_settings(DATA).lr = 1


def test_a_domains_expression_overrides_the_common_one():
    settings = train_settings([*DATA, "--cycle", "3*l1", "--cycle_B", "none"])
    assert [settings.slot("cycle", domain).text for domain in "AB"] == ["3*l1", "none"]
    assert settings.slot("cycle", "B") == ()


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert chosen == [1]
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="--device cuda:9: 2 CUDA devices found; use"):
        resolve_device("cuda:9")


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda:0"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_automatic_device_is_the_fastest_available(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(device)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("--name a\nb: no"), 2, "error: --name a b: no\n"),
        (
            OSError(28, "No space left on device", "x.pt"),
            2,
            "error: x.pt: No space left on device\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_command_ends_on_a_mistake_with_one_line(capsys, error, status, line):
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise error
    assert caught.value.code == status
    assert capsys.readouterr().err == line


def test_an_error_in_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


def test_saved_settings_are_plain_data():
    values = yaml.safe_load(to_yaml(train_settings(DATA)))
    assert all(isinstance(value, int | float | str | None) for value in values.values())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps: yes", "steps takes no yes or no"),
        ("lr: 0.1\nlr: 0.2", "lr is there twice"),
        ("{a: 1}: 2", "not plain YAML"),
    ],
)
def test_an_ambiguous_file_of_options_is_refused(text, sentence, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_yaml(tmp_path / "mine.yaml")
