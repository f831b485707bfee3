"""Measures how long the commands take to answer: python benchmarks/start.py

Seconds from the start of a command to its end. The commands take turns, each in its own process.
All modules have bytecode, as they do from the second start on; --as_is uses the bytecode of this
environment, which has none under PYTHONDONTWRITEBYTECODE, as in many containers.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from common import interleave, report

ROOT = Path(__file__).resolve().parents[1]
# The words after `python`, and the exit status that they must give.
COMMANDS = {
    "-c pass": (["-c", "pass"], 0),
    "-c 'import cyclegan'": (["-c", "import cyclegan"], 0),
    "train.py --help": (["train.py", "--help"], 0),
    "test.py --help": (["test.py", "--help"], 0),
    "train.py --bach_size 2": (["train.py", "--bach_size", "2"], 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how long the commands take to answer.")
    parser.add_argument("--rounds", type=int, default=10, help="times that each command is run")
    parser.add_argument("--as_is", action="store_true", help="use only the bytecode that is there")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    options = parser.parse_args()
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as cache:
        tasks = _tasks(dict(os.environ) if options.as_is else _with_bytecode(cache))
        seconds = interleave(tasks, rounds=options.rounds, device=cpu)
    figures = {name: _summary(times) for name, times in seconds.items()}
    print(f"{'python ...':24} median s  fastest s")
    for name, found in figures.items():
        print(f"{name:24} {found['median_s']:8.3f}  {found['fastest_s']:9.3f}")
    whole = {"rounds": options.rounds, "as_is": options.as_is, "commands": figures}
    report(whole, cpu, out=options.out)


def _tasks(environment: Mapping[str, str]) -> dict[str, Callable[[], None]]:
    def task(words: list[str], status: int) -> Callable[[], None]:
        return lambda: _run(words, status, environment)

    return {name: task(words, status) for name, (words, status) in COMMANDS.items()}


def _run(words: list[str], status: int, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=dict(environment), capture_output=True, text=True
    )
    # The time of a command that fails says nothing.
    if done.returncode != status:
        raise SystemExit(f"python {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")


def _with_bytecode(cache: str) -> dict[str, str]:
    """The environment with a folder for bytecode, which the first round fills."""
    changed = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    ours = {name: value for name, value in os.environ.items() if name not in changed}
    return {**ours, "PYTHONPYCACHEPREFIX": cache}


def _summary(seconds: list[float]) -> dict[str, float]:
    return {
        "median_s": round(statistics.median(seconds), 4),
        "fastest_s": round(min(seconds), 4),
    }


if __name__ == "__main__":
    main()
