"""A real run that is asked for something by files in its folder."""

import json
import signal
import time
from pathlib import Path

import pytest
from support.running import TINY, train, wait_for

from cyclegan.runs.control_files import send_request

ENDLESS = ["--name=run", "--steps=1000000", "--print_every=2", *TINY[:-3]]


def until(condition, process, *, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def steps(run: Path) -> int:
    return len((run / "metrics.jsonl").read_text().splitlines())


@pytest.mark.slow
def test_a_run_saves_shows_pauses_and_stops_as_asked(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", *ENDLESS, "--device=cpu", "--monitor=files"]
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    # Asked of nobody: it must not stop the run that begins now.
    send_request(run, "stop")
    process = train(tmp_path, *options, "--preview_every=1000000", popen=True)
    try:
        wait_for(run / "metrics.jsonl", process)
        until(lambda: steps(run) > 3, process)

        send_request(run, "save")
        until(lambda: len(list(run.glob("state_*.pt"))) > 1, process)
        assert not (run / "save").exists()

        before = len(list((run / "previews").glob("step_*.png")))
        send_request(run, "preview")
        until(lambda: len(list((run / "previews").glob("step_*.png"))) > before, process)
        until((run / "hard_images.json").exists, process)

        send_request(run, "pause")
        until(lambda: "paused at step" in process.stdout.readline(), process)
        before = steps(run)
        send_request(run, "save")
        until(lambda: not (run / "save").exists(), process)
        assert steps(run) == before
        send_request(run, "go_on")
        until(lambda: steps(run) > before + 1, process)

        send_request(run, "stop")
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "stopping after this epoch" in out
    assert "go on with: python train.py --name run --continue_train" in out
    record = json.loads((run / "run.json").read_text())
    assert (record["state"], record["why"]) == ("stopped", "as asked")
    # The seven images of B are an epoch.
    assert record["step"] % 7 == 0


@pytest.mark.slow
def test_a_pause_can_be_ended_by_ctrl_c(dataroot, tmp_path):
    process = train(tmp_path, f"--dataroot={dataroot}", *ENDLESS, "--monitor=none", popen=True)
    run = tmp_path / "runs" / "run"
    try:
        wait_for(run / "metrics.jsonl", process)
        send_request(run, "pause")
        until(lambda: "paused at step" in process.stdout.readline(), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "stopped and saved at step" in out
    record = json.loads((run / "run.json").read_text())
    assert (record["state"], record["why"]) == ("stopped", "SIGINT")
