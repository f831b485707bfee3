"""benchmarks/faults.py in its short form: a few faults, all survived."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_few_faults_are_survived_and_reported_in_one_line(tmp_path):
    script, out = ROOT / "benchmarks" / "faults.py", tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(script), "--short", f"--out={out}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures == json.loads(out.read_text())
    assert figures["survived"] == figures["faults"] == len(figures["rows"]) >= 4
    assert figures["injected"] > figures["faults"]
    assert figures["lost_steps_beyond_a_save"] == 0
    assert figures["final_weights_equal"] is True
    assert {"command", "machine"} <= figures.keys()
    assert all(row["name"] in done.stdout for row in figures["rows"])


def test_an_unknown_fault_is_refused(faults, monkeypatch):
    monkeypatch.setattr("sys.argv", ["faults.py", "--only=nothing"])
    with pytest.raises(SystemExit, match="unknown nothing; known: killed at random"):
        faults.faults.main()
