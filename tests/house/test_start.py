"""What the commands load before they answer: the part of the start-up time that is not a clock."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
# The heavy ones by size: torch alone takes seconds.
HEAVY = (
    *("torch", "torchvision", "torchmetrics", "numpy", "PIL"),
    *("visdom", "tornado", "requests", "rich", "yaml", "asyncio"),
)

# Runs a program as `python PROGRAM WORDS` does, then tells the modules and whether pydantic has
# built a check of the options.
_RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    print("status", stop.code)
print("loaded", *sorted({name.partition(".")[0] for name in sys.modules}))
settings = sys.modules["cyclegan.config.train_options"]
print("built", settings.TrainSettings.__pydantic_complete__)
"""


def run(*words: str) -> dict[str, list[str]]:
    """The last lines of _RUN by their first word."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, cwd=ROOT, check=True
    )
    lines = [line.split(" ") for line in done.stdout.splitlines()[-3:]]
    return {first: rest for first, *rest in lines}


@pytest.mark.parametrize("program", ["train.py", "test.py"])
def test_help_is_shown_before_anything_heavy_is_loaded(program):
    said = run(program, "--help")
    assert said["status"] == ["0"]
    assert not set(said["loaded"]) & set(HEAVY)


@pytest.mark.parametrize("program", ["train.py", "test.py"])
def test_a_mistyped_option_is_answered_before_anything_heavy_is_loaded(program):
    said = run(program, "--bach_size", "2")
    assert said["status"] == ["2"]
    assert not set(said["loaded"]) & set(HEAVY)


@pytest.mark.parametrize("words", [["--help"], ["--bach_size", "2"]])
def test_the_checks_of_options_are_built_for_those_who_give_options(words):
    assert run("train.py", *words)["built"] == ["False"]


def test_settings_reach_a_process_that_has_built_no_checks():
    settings = check(TrainSettings, {"dataroot": "photos", "ngf": 7})
    code = (
        "import pickle, sys; found = pickle.load(sys.stdin.buffer); "
        "print(found.ngf, found.model_dump(mode='json')['dataroot'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(settings), capture_output=True, cwd=ROOT
    )
    assert (done.stdout.decode().split(), done.stderr) == (["7", "photos"], b"")
