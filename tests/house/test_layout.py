"""The house rules that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cyclegan"
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))

# A room imports only from itself and from those above it; the longest matching name counts.
ORDER = (
    "config",
    "hardware",
    "data.files",
    "data.loading",
    "data",
    "runs",
    "networks",
    "losses",
    "translate",
    "evaluation",
    "monitor",
    "training",
    "pages",
    "tools",
    "__main__",
)


def floor(module: str) -> int:
    parts = module.split(".")
    two = ".".join(parts[1:3])
    return ORDER.index(two if two in ORDER else parts[1])


def imported(source: str) -> list[str]:
    """The modules of the package that a file imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source}: relative import"
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    files = {s.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for s in SOURCES}
    return [name for name in names if name in files and name != "cyclegan"]


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "cyclegan/__init__.py"])
def test_a_module_imports_only_from_rooms_above_its_own(source):
    own = floor(source.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for module in imported(source):
        assert floor(module) <= own, f"{source} imports {module}"


@pytest.mark.parametrize("source", [s for s in SOURCES if not s.endswith("__init__.py")])
def test_the_tree_in_the_docs_shows_every_file(source):
    assert Path(source).name in (ROOT / "docs/layout.md").read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_no_file_has_outgrown_its_room(source):
    text = (ROOT / source).read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 50, f"{source}: {node.name} has {length} lines"


def test_importing_the_package_is_quiet_and_does_not_load_torch():
    code = "import sys, cyclegan, cyclegan.config.command_line; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
