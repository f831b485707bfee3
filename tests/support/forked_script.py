"""Runs a script of ours as a process that has imported torch already: a fork of a server. Importing
torch and what its optimizers need takes longer than most runs of the tests.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = (
    *("torch._dynamo", "torchvision", "cyclegan.config.command_line"),
    *("cyclegan.training.build.build_run", "cyclegan.training.trainer"),
    "cyclegan.translate.command",
)


def run_script(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run does with a Python, a script of the project and its options, captured."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    (out, out_end), (err, err_end) = (context.Pipe(duplex=False) for _ in range(2))
    arguments = list(words), str(cwd), dict(environment), out_end, err_end
    process = context.Process(target=_run, args=arguments)
    process.start()
    out_end.close()
    err_end.close()
    timer = Timer(timeout, process.kill)
    timer.start()
    with ThreadPoolExecutor(2) as pool:
        stdout, stderr = pool.map(_read, (out, err))
    process.join()
    timer.cancel()
    return subprocess.CompletedProcess(list(words), process.exitcode or 0, stdout, stderr)


def _read(pipe: Connection) -> str:
    with pipe, os.fdopen(os.dup(pipe.fileno()), encoding="utf-8", errors="replace") as file:
        return file.read()


def _run(
    words: list[str], cwd: str, environment: dict[str, str], out: Connection, err: Connection
) -> None:
    """In the fork: what a new Python would find."""
    for number, pipe in enumerate((out, err), 1):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    installed = [each for each in sys.path if each.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [str(Path(words[0]).parent), *installed]
    sys.argv = words
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
