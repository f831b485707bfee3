"""What does it cost to be watched? python benchmarks/monitoring.py --rounds 5

The same training by the real command, with the page, the files, previews and health at their
default intervals and with --monitor none, taking turns: the time of the steps themselves, from the
tenth to the last, and the most memory of the training process. The page's server is a process of
its own, and is counted where it takes time away from the training; the seconds of all cores from
the start of the command to its end count it whole, and are much the same on a busy machine.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import yaml
from common import report
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
# Reports of so early steps hold what a compiler, or a library that chooses its kernels, takes.
WARM_UP = 10


def main() -> None:
    options = _options()
    seconds: dict[str, list[float]] = {options.monitor: [], "none": []}
    computed: dict[str, list[float]] = {name: [] for name in seconds}
    memory: dict[str, list[float]] = {name: [] for name in seconds}
    for turn in range(options.rounds):
        # Each is first as often as the other.
        for name in sorted(seconds, reverse=bool(turn % 2)):
            before = _computed()
            took, peak = _train(options, name)
            seconds[name].append(took)
            computed[name].append(_computed() - before)
            memory[name].append(peak)
            print(
                f"{name}: {took:.2f} s, {computed[name][-1]:.2f} s of all cores, "
                f"at most {peak:.0f} MB",
                flush=True,
            )

    ratio, cores = (_ratio(found, options.monitor) for found in (seconds, computed))
    more = statistics.median(memory[options.monitor]) - statistics.median(memory["none"])
    table = Table("", "seconds: median (least to most)", "of all cores", "most memory, MB")
    for name in seconds:
        peak = statistics.median(memory[name])
        table.add_row(name, _spread(seconds[name]), _spread(computed[name]), f"{peak:.0f}")
    Console(width=140).print(table)
    figures = {
        "steps": options.steps,
        "seconds": _rounded(seconds),
        "seconds_of_all_cores": _rounded(computed),
        "ratio": round(ratio, 4),
        "cost_percent": round(100 * (ratio - 1), 2),
        "cost_percent_of_all_cores": round(100 * (cores - 1), 2),
        "memory_more_mb": round(more, 1),
    }
    report(figures, torch.device(options.device), out=options.out)


def _train(options: argparse.Namespace, monitor: str) -> tuple[float, float]:
    """Seconds of the steps after the first few, and the most megabytes of the process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "--dataroot", str(options.dataroot)]
        command += ["--name", "run", "--checkpoints_dir", folder, "--device", options.device]
        command += ["--steps", str(options.steps), "--monitor", monitor, *options.training]
        # A port of its own: another run's page is not to be disturbed.
        command += ["--display_port", str(options.port), "--cache", "ram"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        settings = yaml.safe_load((Path(folder) / "run" / "settings.yaml").read_text())
    images = settings["batch_size"] * settings["accumulate"]
    points = [json.loads(line) for line in lines]
    took = 0.0
    for before, point in pairwise(points):
        if before["step"] >= WARM_UP:
            took += images * (point["step"] - before["step"]) / point["images_per_second"]
    return took, 1000 * max(point["memory"] for point in points)


def _computed() -> float:
    """Seconds that commands which have ended, and those they started, kept a core busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ratio(found: dict[str, list[float]], monitor: str) -> float:
    """The median over rounds."""
    return statistics.median(
        mine / its for mine, its in zip(found[monitor], found["none"], strict=True)
    )


def _rounded(found: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(each, 3) for each in values] for name, values in found.items()}


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataroot", type=Path, default=ROOT / "data" / "lr2hr")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2001)
    parser.add_argument("--monitor", default="visdom", help="what is compared with none")
    parser.add_argument("--port", type=int, default=8197, help="port of the page")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument(
        "training",
        nargs="*",
        help="options of the training, after --; without any, networks and crops for a CPU",
        default=["--load_size=72", "--crop_size=64", "--ngf=16", "--ndf=16", "--precision=fp32"],
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
