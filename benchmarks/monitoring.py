"""What does it cost to be watched? python benchmarks/monitoring.py --rounds 5

The same training by the real command, with the page, the files, previews and health at their
default intervals and with --monitor none, taking turns: the time of the steps themselves, from the
tenth to the last, and the most memory of the training process. The page's server is a process of
its own, and is counted where it takes time away from the training.
"""

import argparse
import json
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
    memory: dict[str, list[float]] = {name: [] for name in seconds}
    for turn in range(options.rounds):
        # Each is first as often as the other.
        for name in sorted(seconds, reverse=bool(turn % 2)):
            took, peak = _train(options, name)
            print(f"{name}: {took:.2f} s, at most {peak:.0f} MB", flush=True)
            seconds[name].append(took)
            memory[name].append(peak)

    watched, alone = seconds[options.monitor], seconds["none"]
    ratios = [mine / its for mine, its in zip(watched, alone, strict=True)]
    more = statistics.median(memory[options.monitor]) - statistics.median(memory["none"])
    table = Table("", "seconds: median (least to most)", "most memory, MB")
    for name in seconds:
        table.add_row(name, _spread(seconds[name]), f"{statistics.median(memory[name]):.0f}")
    Console(width=140).print(table)
    figures = {
        "steps": options.steps,
        "seconds": {name: [round(each, 3) for each in found] for name, found in seconds.items()},
        "ratio": round(statistics.median(ratios), 4),
        "cost_percent": round(100 * (statistics.median(ratios) - 1), 2),
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


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataroot", type=Path, default=ROOT / "data" / "lr2hr")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=801)
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
