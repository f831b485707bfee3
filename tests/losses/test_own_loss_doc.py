"""docs/your-own-loss.md: its code is written, its commands are run, its answers are compared."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support.running import ROOT, TINY, newest_state, train

from cyclegan.config import expressions
from cyclegan.config.command_line import train_settings, translate_settings
from cyclegan.config.errors import UserError
from cyclegan.losses import IMAGE_LOSSES
from cyclegan.losses.weighted import WeightedLosses
from cyclegan.training.build.build_run import RunBuilder
from cyclegan.training.trainer import Trainer
from cyclegan.translate.command import TranslateCommand

TEXT = (ROOT / "docs" / "your-own-loss.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
ANSWERS = TEXT.partition("## What is refused")[2]
REFUSED = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", ANSWERS, flags=re.MULTILINE)


@pytest.fixture
def here(tmp_path: Path, dataroot: Path, monkeypatch) -> Path:
    """A working folder with the document's my_losses.py and its ./data/lr2hr."""
    (tmp_path / "my_losses.py").write_text("\n\n".join(CODE))
    (dataroot / "lr2hr").mkdir()
    for part in list(dataroot.glob("t*")):
        part.rename(dataroot / "lr2hr" / part.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_losses", None)


def words(command: str, program: str) -> list[str]:
    python, script, *options = shlex.split(command.replace("\\\n", " "))
    assert (python, script) == ("python", program)
    return options


def in_process(here: Path, options: list[str]) -> int:
    settings = train_settings([f"--checkpoints_dir={here / 'runs'}", *options])
    return Trainer(RunBuilder(settings).build()).fit()


def curves(here: Path, run: str) -> list[dict[str, float]]:
    lines = (here / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_the_first_example_trains_shows_its_curves_goes_on_and_translates(here) -> None:
    first, go_on, translate = COMMANDS[:3]
    done = train(here, *words(first, "train.py"), *TINY, "--steps=2")
    assert done.returncode == 0, done.stderr
    point = curves(here, "edges")[-1]
    assert {"cycle_A.l1", "cycle_A.Edge", "cycle_B.l1", "cycle_B.Edge"} <= point.keys()
    assert point["cycle_A.Edge"] > 0
    saved = yaml.safe_load((here / "runs" / "edges" / "settings.yaml").read_text())
    assert saved["cycle"] == "10*l1 + 2*my_losses.Edge(sigma=1)"

    again = words(go_on, "train.py")
    without = [word for word in again if word != "--trust_imports"]
    with pytest.raises(UserError, match="--trust_imports"):
        in_process(here, [*without, "--steps=3"])
    assert in_process(here, [*again, "--steps=3"]) == 0
    assert curves(here, "edges")[-1]["step"] == 3

    (here / "my_losses.py").unlink()
    del sys.modules["my_losses"]
    options = [*words(translate, "test.py"), f"--checkpoints_dir={here / 'runs'}", "--device=cpu"]
    assert TranslateCommand(translate_settings(options)).run() == 0
    assert len(list((here / "sharper").iterdir())) == 2


def test_every_kind_of_part_trains_in_one_run(here) -> None:
    options = words(COMMANDS[3], "train.py")
    assert in_process(here, [*options, *TINY, "--print_every=1", "--steps=4"]) == 0
    points = curves(here, "own")
    names = {name for point in points for name in point}
    assert {"cycle_A.Chroma", "content_A", "adversarial_A", "D_B", "penalty_A"} <= names
    # The penalty is due at every second step; the identity loss's weight is 0 from half-time on.
    assert ["penalty_A" in point for point in points] == [True, False, True, False]
    assert ["identity_A" in point for point in points] == [True, True, False, False]


def test_a_weight_falls_as_the_document_says() -> None:
    (expression,) = re.findall(r'`--identity "(5\*l1.*?)"`', TEXT)
    losses = WeightedLosses(expressions.parse(expression, option="identity"), IMAGE_LOSSES)
    weights = [losses.losses[0].weight_at(progress) for progress in (0, 0.15, 0.3, 1)]
    assert weights == pytest.approx([5, 2.5, 0, 0])


@pytest.mark.parametrize(("expression", "answer"), REFUSED)
def test_what_is_refused_is_answered_in_one_line(here, expression: str, answer: str) -> None:
    def evaluate(input: torch.Tensor) -> None:
        losses = WeightedLosses(expressions.parse(expression, option="cycle"), IMAGE_LOSSES)
        losses.evaluate("cycle_A", input, input.detach())

    with pytest.raises(UserError, match=re.escape(answer)) as error:
        evaluate(torch.zeros(1, 3, 16, 16, requires_grad=True))
    assert "\n" not in str(error.value)
    assert "--cycle" in str(error.value)


def test_the_table_of_refusals_is_found() -> None:
    assert len(REFUSED) >= 10


MISTAKES = """
import torch

def in_place(input, target):
    return input.sub_(target).abs().mean()

class Memory:
    total = 0.0

    def __call__(self, input, target):
        self.total = self.total + (input - target).square().mean()
        return self.total

class Gain(torch.nn.Module):
    trainable = True

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, input, target):
        return (self.gain * input - target).abs().mean()
"""


@pytest.mark.parametrize("loss", ["hopeless", "in_place", "Memory"])
def test_a_loss_that_cannot_train_is_refused_before_the_run_begins(here, loss: str) -> None:
    (here / "my_losses.py").write_text("\n\n".join([*CODE, MISTAKES]))
    options = ["--dataroot=./data/lr2hr", *TINY, f"--cycle=my_losses.{loss}", "--steps=2"]
    with pytest.raises(UserError, match=f"--cycle: {loss} "):
        in_process(here, options)
    assert not (here / "runs").exists()


def test_a_trainable_loss_learns_and_is_in_the_checkpoint(here) -> None:
    (here / "my_losses.py").write_text("\n\n".join([*CODE, MISTAKES]))
    options = ["--dataroot=./data/lr2hr", *TINY, "--cycle=10*my_losses.Gain", "--steps=2"]
    assert in_process(here, [*options, "--name=gain"]) == 0
    state = newest_state(here / "runs" / "gain")
    gains = [value.item() for name, value in state["heads"].items() if name.endswith("gain")]
    assert gains
    assert 1 not in gains


def test_two_losses_of_one_name_are_told_apart_by_a_label() -> None:
    (expression,) = re.findall(r"`(Edge\(.*?label=.*?\))`", TEXT)
    term = expressions.parse(expression, option="cycle")[0]
    assert term.label == "coarse"


def test_the_first_example_is_ten_lines_long() -> None:
    assert len([line for line in CODE[0].splitlines() if line.strip()]) <= 10
