"""Helpers of all benchmarks: interleaved timing, facts about the machine, one line of JSON."""

import datetime
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

RESULTS = Path(__file__).resolve().parent / "results"


def interleave(
    tasks: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each task in each round. The tasks take turns (A B A B ...), so that other load on
    the machine affects all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(warmup + rounds):
        for name, task in tasks.items():
            synchronize(device)
            began = time.perf_counter()
            task()
            synchronize(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster `fast` is: the median of the ratios within a round."""
    pairs = zip(seconds[slow], seconds[fast], strict=True)
    return statistics.median(a / b for a, b in pairs)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware, versions and date, which a figure is worthless without."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["driver"] = _driver()
    return found


def report(figures: dict[str, Any], device: torch.device, *, out: Path | None) -> None:
    """Prints the figures as one line of JSON, and writes them to the file `out`."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{words[0]}", *words[1:]])
    whole = {"command": command, **figures, "machine": machine(device)}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(whole))


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip()
