"""python -m cyclegan: the list of commands, and how each is called."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan.__main__ import COMMANDS, main, overview
from cyclegan.config.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_it_lists_every_command_in_a_line(words, capsys) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said == overview()
    for name, (_, about) in COMMANDS.items():
        assert [line for line in said.splitlines() if line.split()[:1] == [name]], name
        assert about in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(("path", "about"), COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_can_be_imported(path: str, about: str) -> None:
    module, _, function = path.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("word", "hint"),
    [("evalute", "did you mean evaluate?"), ("Degrade", "did you mean degrade?"), ("--x", "--x")],
)
def test_an_unknown_command_names_the_nearest_and_all(word: str, hint: str) -> None:
    with pytest.raises(UserError, match="unknown command") as caught:
        main([word])
    assert hint in str(caught.value)
    assert all(name in str(caught.value) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_does_not_import_torch(name: str) -> None:
    code = (
        "import atexit, sys; from cyclegan.__main__ import main;"
        "atexit.register(lambda: print('torch' in sys.modules));"
        f"main(['{name}', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert done.stdout.endswith("False\n")


def test_a_mistake_is_one_line_and_exit_status_2() -> None:
    words = [sys.executable, "-m", "cyclegan", "evalute"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command evalute")
    assert done.stderr.count("\n") == 1
