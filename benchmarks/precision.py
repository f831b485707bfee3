"""Compares the results of training in half and full precision: python benchmarks/precision.py

Trains the quick preset on the demo data by the real command, once for every seed and precision.
Reports the sliced Wasserstein distance of the translated test images to real ones (smaller is
better), their PSNR, and the cycle loss over the last fifth of the steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import report
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ("swd", "psnr", "cycle_A", "cycle_B")


def main() -> None:
    options = _options()
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for precision in options.precisions:
                figures = _train(options, precision, seed, Path(folder))
                print(f"{precision}, seed {seed}: {figures}", flush=True)
                runs.setdefault(precision, []).append(figures)

    table = Table("", *FIGURES)
    summary: dict[str, Any] = {}
    for precision, found in runs.items():
        columns = {name: [figures[name] for figures in found] for name in FIGURES}
        summary[precision] = {
            name: {
                "mean": round(statistics.fmean(values), 5),
                "least": min(values),
                "most": max(values),
            }
            for name, values in columns.items()
        }
        cells = [
            f"{statistics.fmean(v):.4g} ({min(v):.4g} to {max(v):.4g})" for v in columns.values()
        ]
        table.add_row(precision, *cells)
    Console(width=140).print(table)
    figures = {"preset": options.preset, "seeds": options.seeds, "figures": summary, "runs": runs}
    report(figures, torch.device(options.device), out=options.out)


def _train(
    options: argparse.Namespace, precision: str, seed: int, folder: Path
) -> dict[str, float]:
    name = f"{precision}-{seed}"
    command = [sys.executable, str(ROOT / "train.py"), "--dataroot", str(options.dataroot)]
    command += ["--preset", options.preset, "--name", name, "--seed", str(seed)]
    command += ["--precision", precision, "--device", options.device, "--monitor", "none"]
    command += ["--checkpoints_dir", str(folder), *options.training]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    measured = json.loads((folder / name / "evaluation.json").read_text())
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    late = [point for point in points if point["step"] > 0.8 * points[-1]["step"]]
    cycles = {
        domain: statistics.fmean(point[f"cycle_{domain}"] for point in late) for domain in "AB"
    }
    return {
        "swd": round(measured["swd_fake"], 3),
        "psnr": round(measured["psnr_fake"], 3),
        "cycle_A": round(cycles["A"], 5),
        "cycle_B": round(cycles["B"], 5),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataroot", type=Path, default=ROOT / "data" / "lr2hr")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("training", nargs="*", help="options of the training, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
