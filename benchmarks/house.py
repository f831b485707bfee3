"""How large the house is, and how clear: python benchmarks/house.py [--json]

Counts lines, files, signatures, names and sentences in the source as it stands, and runs a training
of one step to count the frames from train.py to the generators' optimizer. --json prints one line:
every figure, every goal, and the places behind each figure.
"""

import argparse
import ast
import functools
import inspect
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cyclegan"
# Where else a comment may stand.
ELSEWHERE = ("*.py", ".ci/*.py", "benchmarks/**/*.py", "data/*/*.py", "tests/**/*.py")
# What a reader of the trainer does not need, where it is and where it is planned to be: pages,
# tools, the classic command lines, convolutions for the CPU.
SIDE_ROOMS = (
    *("monitor/visdom/*", "monitor/report/*", "monitor/watch*.py", "monitor/runs_*.py"),
    *("monitor/monitor_command.py", "pages/*"),
    *("data/doctor*.py", "data/degrade*.py", "data/second_order.py", "tools/*"),
    *("classic_options.py", "classic_table.py", "config/pytorch_cyclegan/*"),
    *("networks/winograd.py", "networks/narrow.py", "networks/cpu/*"),
)
# The most that a figure is to be; the others have no goal.
GOALS = {
    "package_lines": 16_500,
    "core_lines": 12_000,
    "files_in_largest_room": 12,
    "files_over_300_lines": 0,
    "longest_function": 50,
    "signatures_with_settings": 12,
    "signatures_with_say": 0,
    "signatures_with_trusted": 3,
    "duplicate_file_names": 0,
    "duplicate_class_names": 0,
    "sentences_that_begin_with_of": 0,
    "frames_to_optimizer": 5,
    "files_to_optimizer": 3,
}
# Their places are shown under the table; those of all figures are in the JSON.
SHOWN = ("rooms", "duplicate_file_names", "duplicate_class_names", "modules_that_name_settings")
PASSED_ON = ("settings", "say", "trusted", "run_dir")
SETTINGS = frozenset({"Settings", "TrainSettings", "TranslateSettings"})
# Every command has a file of this name, and Python asks for the others.
COMMON_NAMES = frozenset({"command.py", "__init__.py", "__main__.py"})
OF = re.compile(r"""(?:^[\s#*-]*|[.!?:;(]["')\]`]*\s*)\bOf\b""")
TINY_RUN = (
    *("--dataroot=data", "--checkpoints_dir=runs", "--steps=1", "--device=cpu", "--monitor=none"),
    *("--generator=resnet(blocks=1)", "--discriminator=patch(layers=1)", "--ngf=4", "--ndf=4"),
    *("--load_size=32", "--crop_size=32", "--compile=off", "--optimizer_D=adam"),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
# By the name of a figure that counts places: those places, as "file:line name".
Places = dict[str, list[str]]


@dataclass(frozen=True)
class Source:
    """One file of Python; its path is relative to the root of the project."""

    path: Path
    text: str

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))

    @property
    def is_core(self) -> bool:
        inside = self.path.relative_to(PACKAGE).as_posix()
        return not any(fnmatch(inside, pattern) for pattern in SIDE_ROOMS)

    def at(self, node: ast.AST, name: str) -> str:
        return f"{self.path.as_posix()}:{getattr(node, 'lineno', 1)} {name}"


class Spy(torch.optim.Adam):
    """Adam, whose first step writes the frames above it to the file `out`, innermost first."""

    def __init__(self, params: Iterable[Any], *, out: str, **options: Any) -> None:
        super().__init__(params, **options)
        self.out = Path(out)

    def step(self, closure: Any = None) -> Any:
        if not self.out.exists():
            frames = [(frame.filename, frame.function) for frame in inspect.stack(0)]
            self.out.write_text(json.dumps(frames))
        return super().step(closure)


def main() -> None:
    parser = argparse.ArgumentParser(description="How large the house is, and how clear.")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of a table")
    options = parser.parse_args()
    figures, places = measure(ROOT)
    for name, found in path_to_optimizer(ROOT).items():
        figures[name], places[name] = len(found), found
    if options.json:
        print(json.dumps({"figures": figures, "goals": GOALS, "places": places}))
        return
    for name, value in figures.items():
        goal = f"at most {GOALS[name]:,}" if name in GOALS else ""
        print(f"{name.replace('_', ' '):36} {value:>8,}  {goal}".rstrip())
    for name in (*SHOWN, "frames_to_optimizer"):
        print("", f"{name.replace('_', ' ')}:", *places[name] or ["none"], sep="\n  ")


def measure(root: Path) -> tuple[dict[str, float], Places]:
    """All figures that the source under `root` tells, and the places that were counted."""
    package = _sources(root, f"{PACKAGE}/**/*.py")
    nodes = [(source, node) for source in package for node in source.nodes]
    lengths = [(n.end_lineno or 0) - n.lineno + 1 for _, n in nodes if isinstance(n, Function)]
    files = [(source.path.name, source.path.as_posix()) for source in package]
    classes = [(n.name, s.at(n, n.name)) for s, n in nodes if isinstance(n, ast.ClassDef)]
    rooms: dict[str, list[str]] = defaultdict(list)
    for source in package:
        rooms[source.path.parent.as_posix()].append(source.path.as_posix())
    by_size = sorted(rooms, key=lambda room: -len(rooms[room]))
    places: Places = {
        "rooms": [f"{room}: {len(rooms[room])} files" for room in by_size],
        "files_in_largest_room": rooms[by_size[0]],
        "files_over_300_lines": [s.path.as_posix() for s in package if s.text.count("\n") > 300],
        **_signatures(nodes),
        "modules_that_name_settings": [s.path.as_posix() for s in package if _names_settings(s)],
        "duplicate_file_names": _repeated(file for file in files if file[0] not in COMMON_NAMES),
        "duplicate_class_names": _repeated(classes),
        "sentences_that_begin_with_of": _fronted([*package, *_sources(root, *ELSEWHERE)]),
    }
    figures: dict[str, float] = {
        "package_lines": sum(source.text.count("\n") for source in package),
        "core_lines": sum(source.text.count("\n") for source in package if source.is_core),
        "files": len(package),
        "functions": len(lengths),
        "median_function": statistics.median(lengths),
        "longest_function": max(lengths),
    }
    return figures | {name: len(found) for name, found in places.items()}, places


def path_to_optimizer(root: Path) -> Places:
    """The frames and files of the project from train.py to the generators' optimizer.step(), in
    the order of the calls, as a real training of one step goes through them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for images in (Path(folder, "data", "trainA"), Path(folder, "data", "trainB")):
            images.mkdir(parents=True)
            Image.radial_gradient("L").convert("RGB").save(images / "0.png")
        out = Path(folder, "frames.json")
        spy = f"--optimizer=house.Spy(out={str(out)!r})"
        done = subprocess.run(
            [sys.executable, root / "train.py", *TINY_RUN, spy],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode or not out.exists():
            raise SystemExit(f"train.py ended with {done.returncode}:\n{done.stderr}")
        frames = [(Path(file), function) for file, function in json.loads(out.read_text())[::-1]]
    ours = [
        (file.relative_to(root).as_posix(), function)
        for file, function in frames
        if file == root / "train.py" or file.is_relative_to(root / PACKAGE)
    ]
    return {
        "frames_to_optimizer": [f"{file} {function}" for file, function in ours],
        "files_to_optimizer": list(dict.fromkeys(file for file, _ in ours)),
    }


def _sources(root: Path, *patterns: str) -> list[Source]:
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return [Source(path.relative_to(root), path.read_text(encoding="utf-8")) for path in paths]


def _signatures(nodes: Iterable[tuple[Source, ast.AST]]) -> Places:
    """The functions that take one of these, the settings by any name."""
    found: Places = {f"signatures_with_{name}": [] for name in PASSED_ON}
    for source, node in nodes:
        if isinstance(node, Function | ast.Lambda):
            names = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
            if re.search(r"Settings\b", ast.unparse(node.args)):
                names.add("settings")
            for name in names & set(PASSED_ON):
                place = source.at(node, getattr(node, "name", "lambda"))
                found[f"signatures_with_{name}"].append(place)
    return found


def _names_settings(source: Source) -> bool:
    names = ("id", "attr", "name")
    return any(getattr(node, name, None) in SETTINGS for node in source.nodes for name in names)


def _repeated(named: Iterable[tuple[str, str]]) -> list[str]:
    places = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return [f"{name}: {', '.join(at)}" for name, at in sorted(places.items()) if len(at) > 1]


def _fronted(sources: Iterable[Source]) -> list[str]:
    """The lines of comments and docstrings where a sentence begins with that word."""
    return [
        f"{source.path.as_posix()}:{number}"
        for source in sources
        if "Of" in source.text
        for number, line in _prose(source)
        if OF.search(line)
    ]


def _prose(source: Source) -> Iterator[tuple[int, str]]:
    """The lines of every docstring and comment, with their numbers."""
    for node in source.nodes:
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from enumerate(value.value.splitlines(), value.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


if __name__ == "__main__":
    main()
