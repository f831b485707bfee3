"""Starts train.py as a fork of this process, which saves the seconds that imports take."""

import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch


def import_training() -> None:
    """Imports what train.py imports. Sets torch to one thread: threads do not survive a fork."""
    torch.set_num_threads(1)
    # The first optimizer of a process imports torch._dynamo, which takes as long as torch itself.
    names = "torch._dynamo", "cyclegan.training.build.build_run", "cyclegan.training.trainer"
    for name in names:
        importlib.import_module(name)


class ForkedTraining:
    """A process with the interface of subprocess.Popen: `command` is a Python, a script and its
    options; `options` are cwd, env, stdout and stderr.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_run_script, args=(command[1:], options))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("train.py", seconds or 0.0)
        return self._process.exitcode


def _run_script(words: Sequence[str], options: Mapping[str, Any]) -> None:
    os.setsid()
    os.chdir(options.get("cwd", "."))
    os.environ.update(options.get("env", {}))
    for name, number in (("stdout", 1), ("stderr", 2)):
        if (file := options.get(name)) is not None:
            os.dup2(file if isinstance(file, int) else file.fileno(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    sys.argv = list(words)
    runpy.run_path(words[0], run_name="__main__")
