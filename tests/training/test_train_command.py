"""The real train.py, as a process of its own, on small data."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from PIL import Image
from support.running import TIMES, TINY, assert_equal, state, train, wait_for

GRADIENTS = tuple(f"gradient_{name}" for name in ("G_AB", "G_BA", "D_A", "D_B"))


def test_a_run_leaves_weights_logs_previews_and_a_page(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=6", *TINY, "--monitor=files"]
    done = train(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "A: 5 images of 52x44 px" in done.stdout
    assert "on the CPU" in done.stdout
    assert "sliced Wasserstein distance" in done.stdout
    run = tmp_path / "runs" / "run"
    for name in ("G_A", "G_B", "D_A", "D_B"):
        assert (run / f"latest_net_{name}.pth").is_file()
    points = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points] == [1, 4, 6]
    losses = {f"{kind}_{d}" for kind in ("adversarial", "cycle", "identity", "D") for d in "AB"}
    assert losses | {"lr", "lr_D", "step", *GRADIENTS, *TIMES} == points[0].keys()
    assert {"pairs_B", "error_A", "ratio_G_AB", "ratio_D_A"} <= points[2].keys()
    assert (run / "loss_log.txt").read_text().startswith("(epoch: 1, iters: 1, time: ")
    assert Image.open(run / "previews" / "step_00000006.png").width > 1000
    assert "data:image/jpeg;base64," in (run / "index.html").read_text()
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    hard = json.loads((run / "hard_images.json").read_text())
    assert len(hard["A"]["worst"]) == 5
    assert json.loads((run / "evaluation.json").read_text())["images"] == 2


def test_being_watched_changes_nothing_of_a_run(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--steps=6", *TINY]
    for name, watched in (("unseen", []), ("seen", ["--monitor=files", "--histograms_every=1"])):
        done = train(tmp_path, *options, "--preview_every=2", *watched, f"--name={name}")
        assert done.returncode == 0, done.stderr
    seen, unseen = state(tmp_path, "seen"), state(tmp_path, "unseen")
    assert_equal(seen["model"], unseen["model"])
    assert_equal(seen["ranks"], unseen["ranks"])


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_middle_and_resumed_equals_the_uninterrupted_run(dataroot, tmp_path, workers):
    """SIGKILL falls in the middle of an epoch of 4 batches; the run is 3 epochs and a bit."""
    options = [f"--dataroot={dataroot}", "--batch_size=2", "--steps=14", *TINY]
    whole = train(tmp_path, "--name=whole", "--num_threads=0", *options)
    assert whole.returncode == 0, whole.stderr

    options += ["--name=run", "--save_every=3", f"--num_threads={workers}"]
    killed = train(tmp_path, *options, popen=True)
    wait_for(tmp_path / "runs" / "run" / "state_00000003.pt", killed)
    killed.kill()
    killed.communicate()
    assert 0 < state(tmp_path)["progress"]["step"] < 14

    resumed = train(tmp_path, "--name=run", "--continue_train")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step" in resumed.stdout
    assert_equal(state(tmp_path), state(tmp_path, "whole"))
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))
    assert steps[-1] == 14


def test_one_seed_reproduces_a_run_and_another_does_not(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--steps=3", *TINY]
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        done = train(tmp_path, *options, f"--name={name}", f"--seed={seed}")
        assert done.returncode == 0, done.stderr
    assert_equal(state(tmp_path, "one"), state(tmp_path, "same"))
    with pytest.raises(AssertionError):
        assert_equal(state(tmp_path, "one")["model"], state(tmp_path, "other")["model"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(dataroot, tmp_path, number):
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=100000", *TINY]
    process = train(tmp_path, *options, popen=True)
    wait_for(tmp_path / "runs" / "run" / "metrics.jsonl", process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "--name run --continue_train" in output
    assert state(tmp_path)["progress"]["step"] > 0


def test_a_dry_run_checks_everything_and_writes_nothing(tmp_path, dataroot):
    done = train(tmp_path, f"--dataroot={dataroot}", *TINY, "--dry_run", "--steps=7")
    assert (done.returncode, done.stderr) == (0, "")
    assert "A: 5 images of 52x44 px" in done.stdout
    assert "parameters: G_AB 0.01 M" in done.stdout
    assert "would train 7 steps of 1 images into" in done.stdout
    assert not (tmp_path / "runs").exists()
    done = train(tmp_path, f"--dataroot={dataroot}", *TINY, "--dry_run", "--crop_size=30")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --crop_size 30 does not fit the generator")


def test_a_new_run_of_the_same_name_moves_the_old_one_aside(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=2", *TINY]
    assert train(tmp_path, *options).returncode == 0
    first = state(tmp_path)
    second = train(tmp_path, *options, "--seed=5")
    assert second.returncode == 0, second.stderr
    assert "the earlier run of this name is now" in second.stdout
    assert_equal(state(tmp_path, "run-1"), first)


def test_a_run_that_cannot_begin_leaves_the_name_to_the_earlier_one(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=2", *TINY]
    assert train(tmp_path, *options).returncode == 0
    first = state(tmp_path)
    (tmp_path / "their_monitors.py").write_text(
        "class Refuses:\n    def __init__(self):\n        raise OSError('no route')\n"
        "    def scalars(self, step, values): pass\n"
        "    show = close = scalars\n"
    )
    monitor = "--monitor=their_monitors.Refuses"
    second = train(tmp_path, *options, monitor)
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "no route" in second.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    assert_equal(state(tmp_path), first)
    assert train(tmp_path, *options, "--name=new", monitor).returncode == 2
    record = json.loads((tmp_path / "runs" / "new" / "run.json").read_text())
    assert record["state"] == "failed"
    assert "no route" in record["why"]


def test_two_processes_do_not_train_one_run(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=100000", *TINY]
    process = train(tmp_path, *options, popen=True)
    try:
        wait_for(tmp_path / "runs" / "run" / "metrics.jsonl", process)
        second = train(tmp_path, *options)
    finally:
        process.kill()
        process.communicate()
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert second.stderr.count("\n") == 1


def test_a_file_that_breaks_in_mid_run_is_named_once_and_skipped(dataroot, tmp_path):
    # A run that keeps its images decoded no longer reads their files.
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=100000", "--cache=off", *TINY]
    process = train(tmp_path, *options, "--num_threads=0", popen=True)
    wait_for(tmp_path / "runs" / "run" / "metrics.jsonl", process)
    (dataroot / "trainA" / "003.png").write_bytes(b"gone")
    metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
    lines = len(metrics.read_text().splitlines())
    deadline = time.monotonic() + 120
    # Ten reports are 40 steps, eight times through A.
    while len(metrics.read_text().splitlines()) < lines + 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output.count("003.png (not an image)") == 1


BAD_COMMANDS = {
    "no data": ([], "--dataroot"),
    "wrong path": (["--dataroot=nowhere"], "nowhere is not a folder: check the path"),
    "unknown flag": (["--dataroot=data", "--bach_size=2"], "did you mean batch_size?"),
    "unknown loss": (["--dataroot=data", "--cycle=10*l3"], "unknown l3"),
    "unknown game": (["--dataroot=data", "--adversarial=lsgn"], "did you mean lsgan?"),
    "unknown preset": (["--dataroot=data", "--preset=quik"], "did you mean quick?"),
    "mistyped value": (["--dataroot=data", "--preprocess=resize_and_crp"], "resize_and_crop"),
    "crop too large": (["--dataroot=data", "--crop_size=300"], "--crop_size 300 is larger than"),
    "no checkpoint": (["--name=nothing", "--continue_train"], "holds no run"),
    "too many GPUs": (["--dataroot=data", "--device=cuda:99"], "--device cuda:99"),
    "odd crop": (["--dataroot=data", "--crop_size=30", "--load_size=40"], "multiple of 4"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_mistake_is_one_line_and_exit_status_2(case, dataroot, tmp_path):
    options, remedy = BAD_COMMANDS[case]
    done = train(tmp_path, *options)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert remedy in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs" / "data").exists()


def test_a_loss_that_stays_nan_is_named_and_stops_the_run_after_three_returns(dataroot, tmp_path):
    (tmp_path / "my_losses.py").write_text(
        "calls = 0\n"
        "def turns_bad(input, target):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    return (input - target).abs().mean() * (float('nan') if calls > 12 else 1.0)\n"
        "def make():\n"
        "    return turns_bad\n"
    )
    options = [f"--dataroot={dataroot}", "--name=run", "--steps=50", "--save_every=4", *TINY]
    done = train(tmp_path, *options, "--cycle=10*my_losses.make")
    assert done.returncode == 2, done.stdout
    assert "warning: step 5: cycle_A, cycle_B: not a finite number" in done.stdout
    assert done.stdout.count("going back to step 4") == 3
    assert "with 0.125 of the learning rate (3 of at most 3 times)" in done.stdout
    assert "went back 3 times" in done.stderr
    assert done.stderr.count("\n") == 1
    saved = state(tmp_path)
    assert all(torch.isfinite(weight).all() for weight in saved["model"].values())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_keeps_what_was_saved(dataroot, tmp_path):
    small = tmp_path / "runs"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        options = [f"--dataroot={dataroot}", "--name=run", *TINY]
        first = train(tmp_path, *options, "--steps=2")
        assert first.returncode == 0, first.stderr
        before = state(tmp_path)
        free = os.statvfs(small)
        (small / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
        second = train(tmp_path, "--name=run", "--continue_train", "--steps=4")
        assert second.returncode == 2, second.stdout
        assert "free space" in second.stderr
        assert second.stderr.count("\n") == 1
        assert_equal(state(tmp_path), before)
    finally:
        subprocess.run(["umount", str(small)], check=True)
