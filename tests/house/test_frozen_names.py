"""Names that users, their programs and earlier runs rely on: options, files, and what files hold.

They are listed in recorded/names.yaml, which says how they are abbreviated.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from support.traces import COMMON, SMALL, WATCHED, flat, make_images, train

from cyclegan.config.options import TranslateSettings
from cyclegan.config.train_options import TrainSettings

FROZEN = yaml.safe_load((Path(__file__).parents[1] / "recorded" / "names.yaml").read_text())

# A run that has every slot of losses, and every file.
EVERYTHING = {
    **{**COMMON, **SMALL, **WATCHED, "ema": 0.9, "schedule": "plateau", "evaluate_every": 5},
    **{"content": "1*l1", "pseudo_pair": "1*l1 + 1*l2", "penalty": "1*r1"},
    **{"nce": "1*patch_nce(patches=8, channels=4)", "save_epoch_every": 1},
}

# Defaults that depend on the machine.
CORES = os.cpu_count() or 1
BY_CORES = {f"min({most}, cores)": min(most, CORES) for most in (4, 16)}

SHORTER = (
    # An optimizer keeps its own options, and one of ours.
    (r"param_groups/\d+/(?!first_lr$).*", "param_groups/#/*"),
    (r"\b(G_AB|G_BA|D_A|D_B)\..*", r"\1.*"),
    (r"history/\d+/1/.*", "history/#/values"),
    (r"(^|[/_])\d+", r"\1#"),
)


@pytest.mark.parametrize(
    ("command", "settings"), [("train.py", TrainSettings), ("test.py", TranslateSettings)]
)
def test_options_and_their_defaults_are_as_ever(command, settings):
    defaults = {name: field.default for name, field in settings.model_fields.items()}
    frozen = {name: BY_CORES.get(value, value) for name, value in FROZEN[command].items()}
    assert_frozen({command: _plain(defaults).items()}, {command: frozen.items()})


def test_the_files_of_a_run_and_what_they_hold_are_named_as_ever(run):
    state = torch.load(max(run.glob("state_*.pt")), weights_only=True)
    with safe_open(run / "latest_net_G_A.safetensors", framework="pt") as file:
        about = file.metadata()
    found = {
        "files": _shorter(_files(run)),
        "settings.yaml": yaml.safe_load((run / "settings.yaml").read_text()),
        "metrics.jsonl": {name for point in _metrics(run) for name in point},
        "state": _shorter(key for key, _ in flat(state)),
        "safetensors": about,
        **{name: _shorter(_keys(run / name)) for name in FROZEN if name.endswith(".json")},
    }
    # A run keeps each option under its own name; a dry run keeps nothing.
    frozen = {**FROZEN, "settings.yaml": FROZEN["train.py"].keys() - {"dry_run"}}
    assert_frozen(found, {part: frozen[part] for part in frozen.keys() - {"train.py", "test.py"}})


def test_metrics_are_the_history_of_the_state_to_eight_digits(run):
    history = torch.load(max(run.glob("state_*.pt")), weights_only=True)["history"]
    rounded = [
        {name: float(f"{value:.8g}") for name, value in point.items()} for _, point in history
    ]
    steps = [step for step, _ in history]
    expected = [{"step": step, **point} for step, point in zip(steps, rounded, strict=True)]
    assert _metrics(run) == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("frozen")
    make_images(folder / "data")
    paths = {"dataroot": folder / "data", "checkpoints_dir": folder, "name": "run"}
    train({**paths, **EVERYTHING}, folder=folder)
    return folder / "run"


def assert_frozen(found: Mapping[str, Iterable[Any]], frozen: Mapping[str, Iterable[Any]]) -> None:
    changes = []
    for part in sorted(found.keys() | frozen.keys()):
        now, then = list(found.get(part, [])), list(frozen.get(part, []))
        missing, new = [n for n in then if n not in now], [n for n in now if n not in then]
        if missing or new:
            changes.append(f"{part}: missing {missing or 'nothing'}, new {new or 'nothing'}")
    if changes:
        told = "\n  ".join(changes)
        pytest.fail(
            f"Names have changed that old runs and users rely on:\n  {told}\n"
            "Old runs must still continue, and what users have written must still work: keep the "
            "old name. Where something is only added, see that a run without it goes on by "
            "--continue_train, then add it to tests/recorded/names.yaml.",
            pytrace=False,
        )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def _files(run: Path) -> list[str]:
    return [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]


def _metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _keys(path: Path) -> Iterator[str]:
    for key, _ in flat(json.loads(path.read_text())):
        yield re.sub(r"versions/.*", "versions/*", key)


def _shorter(names: Iterable[str]) -> list[str]:
    short = set()
    for name in names:
        for pattern, replacement in SHORTER:
            name = re.sub(pattern, replacement, name)
        short.add(name)
    return sorted(short)
