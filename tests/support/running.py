"""Runs the real train.py as a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from support.forked_script import run_script

ROOT = Path(__file__).resolve().parents[2]

# The smallest run that has every part: a pool that fills, dropout's random state, an average.
TINY = [
    "--preset=classic",
    "--generator=resnet(blocks=1, dropout=True)",
    "--discriminator=patch(layers=1)",
    *("--ngf=4", "--ndf=4", "--load_size=40", "--crop_size=32", "--pool_size=3", "--ema=0.9"),
    # So small networks are not worth a compiler's minute, however long the run.
    "--compile=off",
    *("--monitor=none", "--device=cpu", "--print_every=4", "--preview_every=1000"),
]

# What a clock decides.
TIMES = ("images_per_second", "data_wait", "data_share", "memory")


def train(tmp_path: Path, *options: str, popen: bool = False, **keywords):
    """The process if `popen`, else the outcome of one that did not need to import torch."""
    words = [str(ROOT / "train.py"), f"--checkpoints_dir={tmp_path / 'runs'}", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if not popen and not keywords:
        return run_script(words, cwd=tmp_path, environment=environment)
    keywords = {"text": True, "cwd": tmp_path, "env": environment, **keywords}
    command = [sys.executable, *words]
    if popen:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)
    return subprocess.run(command, capture_output=True, timeout=300, **keywords)


def newest_state(run: Path) -> dict[str, Any]:
    """The state that the run would go on from."""
    return torch.load(max(run.glob("state_*.pt")), weights_only=True)


def wait_for(path: Path, process: subprocess.Popen, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def state(tmp_path: Path, name: str = "run"):
    """The newest state of a run, without its times."""
    found = newest_state(tmp_path / "runs" / name)
    for _, values in found["history"]:
        for name in TIMES:
            del values[name]
    return found


def assert_equal(ours, theirs, where: str = "state") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{where}.{index}")
    else:
        assert ours == theirs, where
