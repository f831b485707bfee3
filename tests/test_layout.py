"""The house rules that a program can check."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cyclegan"
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))

# Top to bottom: a place imports only from itself and from those above it.
ORDER = (
    "errors",
    "checks",
    "spec",
    "classic_table",
    "classic_options",
    "option_types",
    "settings",
    "allocator",
    "hardware",
    "run_files",
    "archives",
    "presets",
    "command_line",
    "networks",
    "losses",
    "data",
    "checkpoint",
    "translate",
    "evaluation",
    "monitor",
    "training",
    "__main__",
)


def place(module: str) -> int:
    return ORDER.index(module.split(".")[1])


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "cyclegan/__init__.py"])
def test_a_module_imports_only_from_places_above_its_own(source):
    own = place(source.removesuffix(".py").replace("/", "."))
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cyclegan."):
            assert place(node.module) <= own, f"{source} imports {node.module}"
        if isinstance(node, ast.ImportFrom) and node.module == "cyclegan":
            for name in node.names:
                assert ORDER.index(name.name) <= own, f"{source} imports {name.name}"
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{source}: relative import"


@pytest.mark.parametrize("source", [s for s in SOURCES if not s.endswith("__init__.py")])
def test_the_tree_in_the_readme_shows_every_file(source):
    assert Path(source).name in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_no_file_has_outgrown_its_room(source):
    text = (ROOT / source).read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 50, f"{source}: {node.name} has {length} lines"


def test_importing_the_package_is_quiet_and_does_not_load_torch():
    import subprocess
    import sys

    code = "import sys, cyclegan, cyclegan.command_line; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
