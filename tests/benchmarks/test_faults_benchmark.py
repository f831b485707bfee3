"""benchmarks/faults.py in its short form: a handful of faults, all survived."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def faults(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "faults.py"), *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=500,
    )


@pytest.mark.slow
def test_a_handful_of_faults_is_survived_and_told_in_one_line(tmp_path):
    done = faults(tmp_path, "--short", f"--out={tmp_path / 'figures.json'}")
    assert done.returncode == 0, (done.stdout, done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert figures["survived"] == figures["faults"] == len(figures["rows"]) >= 4
    assert figures["injected"] > figures["faults"]
    assert figures["lost_steps_beyond_a_save"] == 0
    assert figures["final_weights_equal"] is True
    assert {"command", "machine"} <= figures.keys()
    assert all(row["name"] in done.stdout for row in figures["rows"])


def test_a_fault_that_nobody_knows_is_refused(tmp_path):
    done = faults(tmp_path, "--only=nothing")
    assert done.returncode == 1
    assert "unknown nothing; known: killed at random" in done.stderr
