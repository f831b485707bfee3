"""The modules that the commands import before they answer."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
# Modules that take long to import; torch alone takes seconds.
HEAVY = (
    *("torch", "torchvision", "torchmetrics", "numpy", "PIL"),
    *("visdom", "tornado", "requests", "rich", "yaml", "asyncio"),
)

# Runs a program as `python PROGRAM WORDS` does, then prints the modules that are imported, and
# whether pydantic has built the checks of the options.
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
def test_help_imports_nothing_heavy(program):
    said = run(program, "--help")
    assert said["status"] == ["0"]
    assert not set(said["loaded"]) & set(HEAVY)


@pytest.mark.parametrize("program", ["train.py", "test.py"])
def test_a_mistyped_option_imports_nothing_heavy(program):
    said = run(program, "--bach_size", "2")
    assert said["status"] == ["2"]
    assert not set(said["loaded"]) & set(HEAVY)


@pytest.mark.parametrize("words", [["--help"], ["--bach_size", "2"]])
def test_the_checks_of_options_are_built_only_if_options_are_given(words):
    assert run("train.py", *words)["built"] == ["False"]


def test_settings_can_be_unpickled_before_the_checks_are_built():
    settings = check(TrainSettings, {"dataroot": "photos", "ngf": 7})
    code = (
        "import pickle, sys; found = pickle.load(sys.stdin.buffer); "
        "print(found.ngf, found.model_dump(mode='json')['dataroot'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(settings), capture_output=True, cwd=ROOT
    )
    assert (done.stdout.decode().split(), done.stderr) == (["7", "photos"], b"")
