"""Every benchmark runs and ends with one line of JSON; the figures themselves are not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = "--crop_size=32 --load_size=32 --ngf=4 --ndf=4 --generator=resnet(blocks=1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "figure"),
    [
        (
            "step.py --size 32 --width 8 --rounds 1 --no-ablation --device cpu --compile off",
            "ratio",
        ),
        ("translate.py --size 32 --images 2 --rounds 1 --device cpu --precision fp32", "ratio"),
        ("loader.py --size 32 --images 8 --rounds 1", "times_faster_than_plain"),
        ("start.py --rounds 1", "commands"),
        ("scaling.py --quick --device cpu", "processes"),
        ("live_page.py --hours 0.01 --rounds 1 --grow_reports 2", "server_mb"),
        (
            "precision.py --seeds 1 --precisions fp32 -- --steps=12 --crop_size=32 --ngf=4",
            "figures",
        ),
        (f"monitoring.py --rounds 1 --steps 24 --turn_s 0.5 -- {TINY}", "ratio"),
    ],
)
def test_a_benchmark_ends_with_its_figures(words, figure, tmp_path):
    name, *options = words.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), f"--out={tmp_path / 'o.json'}", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figure in figures
    assert json.loads((tmp_path / "o.json").read_text()) == figures
    assert {"command", "machine"} <= figures.keys()
