"""Every third-party package that the program imports is declared in pyproject.toml."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted((ROOT / "cyclegan").rglob("*.py")), ROOT / "train.py", ROOT / "test.py"]


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


# What an installed package says of itself: its requirements, those of extras included.
DECLARED = {canonical(re.split(r"[^\w-]", one)[0]) for one in requires("cyclegan") or ()}


def imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - {"cyclegan", *sys.stdlib_module_names}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_third_party_import_is_declared(source):
    distributions = packages_distributions()
    for name in imported(source):
        owners = {canonical(owner) for owner in distributions[name]}
        assert owners & DECLARED, f"{source.name} imports {name}: declare one of {owners}"
