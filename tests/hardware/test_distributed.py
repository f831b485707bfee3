"""Several processes, as torchrun starts them, on the CPU by gloo."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support.running import ROOT, TINY, assert_equal, state, train, wait_for
from support.toys import make_run

from cyclegan.config.errors import UserError
from cyclegan.hardware.distributed import ProcessGroup, rendezvous_key
from cyclegan.runs.control_files import send_request

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def torchrun(tmp_path: Path, *words: str, restarts: int = 0):
    return subprocess.run(timeout=300, **_call(tmp_path, *words, restarts=restarts))


def train_together(tmp_path: Path, *options: str, restarts: int = 0):
    return torchrun(tmp_path, *_training(tmp_path, *options), restarts=restarts)


def _training(tmp_path: Path, *options: str) -> tuple[str, ...]:
    return str(ROOT / "train.py"), f"--checkpoints_dir={tmp_path / 'runs'}", *options


def _call(tmp_path: Path, *words: str, restarts: int = 0) -> dict[str, Any]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return {
        # torchrun takes the options after "--" for the script's.
        "args": [*TORCHRUN, f"--max-restarts={restarts}", "--nproc-per-node=2", "--", *words],
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": tmp_path,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    }


# Options, and the number of images in an epoch.
CASES = [
    ({}, 12),
    # The last step of an epoch has one image for two processes, or three.
    ({}, 5),
    ({"batch_size": 2, "accumulate": 2}, 7),
    ({"penalty": "1*r1(every=4)", "optimizer": "sgd(momentum=0.9)", "lr": 1e-3}, 12),
    ({"adversarial_A": "none", "cycle": "10*l1(decay_to=0, over=0.5)"}, 12),
]


def test_two_processes_learn_the_same_as_one(tmp_path):
    done = torchrun(
        tmp_path, str(ROOT / "tests" / "support" / "one_of_several.py"), json.dumps(CASES)
    )
    assert done.returncode == 0, done.stderr
    for case, apart in zip(CASES, done.stdout.split(), strict=True):
        assert float(apart) < 1e-8, case


def test_two_processes_train_like_one_in_float32_and_one_of_them_writes_and_prints(
    dataroot, tmp_path
):
    # Squares have no kinks. The large eps keeps Adam from scaling rounding errors to full steps
    # for weights without a gradient, such as biases before a norm.
    options = [f"--dataroot={dataroot}", *TINY, "--steps=20", "--batch_size=2", "--no_flip"]
    options += ["--generator=resnet(blocks=1)", "--pool_size=50", "--optimizer=adam(eps=1e-3)"]
    options += ["--lr=1e-4", "--cycle=10*l2", "--identity=5*l2", "--precision=fp32"]
    assert train(tmp_path, *options, "--name=one").returncode == 0
    done = train_together(tmp_path, *options, "--name=two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on 2 processes") == 1
    assert done.stdout.count("step 20/20") == 1
    points = (tmp_path / "runs" / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(point)["step"] for point in points] == [1, 4, 8, 10, 12, 16, 20]
    one, two = state(tmp_path, "one"), state(tmp_path, "two")
    assert len(two["ranks"]) == 2
    initial = state_of_step(tmp_path, "one", 0)["model"]
    moved = max(float((initial[key] - value).abs().max()) for key, value in one["model"].items())
    apart = max(float((one["model"][k] - v).abs().max()) for k, v in two["model"].items())
    assert apart < 1e-5
    assert moved > 1e-4
    assert one["progress"] == two["progress"]


def state_of_step(tmp_path: Path, name: str, step: int):
    path = tmp_path / "runs" / name / f"state_{step:08d}.pt"
    return torch.load(path, weights_only=True)


def test_a_run_of_two_continues_bit_for_bit_after_a_stop_or_a_failure_and_also_alone(
    dataroot, tmp_path
):
    options = [f"--dataroot={dataroot}", *TINY, "--batch_size=2", "--steps=10"]
    assert train_together(tmp_path, *options, "--name=whole").returncode == 0
    whole = state(tmp_path, "whole")

    first = train_together(tmp_path, *options, "--name=run", "--save_every=4")
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "runs" / "run"
    for later in ("state_00000010.pt", "state_00000008.pt"):
        (folder / later).unlink()
    again = train_together(tmp_path, "--name=run", "--continue_train")
    assert again.returncode == 0, again.stderr
    assert "going on after step 4" in again.stdout
    assert_equal(state(tmp_path, "run"), whole)

    alone = train(tmp_path, "--name=run", "--continue_train", "--steps=12")
    assert alone.returncode == 0, alone.stderr
    pools = state(tmp_path)["ranks"][0]["pools"]
    assert len(pools["A"]["images"]) == 3

    (tmp_path / "my_losses.py").write_text(
        "import os, torch\n"
        "class FailsOnce(torch.nn.L1Loss):\n"
        "    calls = 0\n"
        "    def forward(self, input, target):\n"
        "        FailsOnce.calls += 1\n"
        "        life = os.environ['TORCHELASTIC_RESTART_COUNT']\n"
        "        if (os.environ['RANK'], life) == ('1', '0') and FailsOnce.calls > 18:\n"
        "            os._exit(7)\n"
        "        return super().forward(input, target)\n"
    )
    options += ["--cycle=10*my_losses.FailsOnce", "--name=failing", "--save_every=2"]
    failing = train_together(tmp_path, *options, restarts=2)
    assert failing.returncode == 0, failing.stderr
    assert "going on after step" in failing.stdout
    assert_equal(state(tmp_path, "failing")["model"], whole["model"])


def test_restarted_processes_ignore_the_keys_of_earlier_ones():
    store = dist.HashStore()
    names = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            present = [pool.submit(rendezvous_key, store, rank=rank, size=3) for rank in (2, 0, 1)]
            of_this_life = {each.result(timeout=60) for each in present}
        assert len(of_this_life) == 1
        names += of_this_life
    # Now there are fewer processes, and rank 0 comes late.
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(rendezvous_key, store, rank=1, size=2)
        time.sleep(0.1)
        assert not first.done()
        names.append(rendezvous_key(store, rank=0, size=2))
        assert first.result(timeout=60) == names[-1]
    assert len(set(names)) == 4


def test_all_processes_pause_resume_and_stop_after_the_epoch_on_request(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", *TINY, "--steps=1000000", "--batch_size=2", "--name=run"]
    process = subprocess.Popen(**_call(tmp_path, *_training(tmp_path, *options)))
    run = tmp_path / "runs" / "run"
    try:
        wait_for(run / "metrics.jsonl", process)
        send_request(run, "pause")
        while "paused at step" not in process.stdout.readline():
            assert process.poll() is None, process.communicate()
        send_request(run, "go_on")
        send_request(run, "stop")
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.count("going on") == 1
    assert "stopping after this epoch" in out
    kept = state(tmp_path)
    # The seven images of B are an epoch.
    assert kept["progress"]["position"] % 7 == 0
    # Each image was seen by one of them.
    seen = [rank["lessons"]["A"]["seen"] >= 0 for rank in kept["ranks"]]
    assert (seen[0] | seen[1]).all()


def test_a_batch_that_cannot_be_split_evenly_is_refused_with_the_remedy():
    with pytest.raises(UserError) as caught:
        ProcessGroup(size=2).per_process(3)
    assert str(caught.value).startswith(
        "--batch_size 3 cannot be dealt out to 2 processes: give a multiple of 2, as 4"
    )


def test_a_single_process_communicates_with_nobody():
    process_group = ProcessGroup()
    assert process_group.is_main
    assert process_group.any_rank(5) == 5
    assert process_group.any_rank(0) == 0
    assert process_group.mean({"a": 1.0}) == {"a": 1.0}
    assert process_group.gather(3) == [3]
    assert process_group.broadcast("x") == "x"


def test_processes_share_a_folder_and_a_second_call_translates_the_rest(tmp_path, make_images):
    run = make_run(tmp_path)
    sources = make_images(tmp_path / "in", 7)
    words = [str(ROOT / "test.py"), f"--name={run.name}", f"--checkpoints_dir={run.parent}"]
    words += ["--device=cpu", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    words += ["--trust_imports"]
    done = torchrun(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "process 0: 4 images written" in done.stdout
    assert "process 1: 3 images written" in done.stdout
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == [path.name for path in sources]

    times = {path: path.stat().st_mtime_ns for path in made}
    for path in made[2:4]:
        path.unlink()
    again = torchrun(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": 1 images written") == 2
    changed = [p for p in sorted((tmp_path / "out").iterdir()) if times[p] != p.stat().st_mtime_ns]
    assert changed == made[2:4]
