"""What a run survives: numbers that are none, files and processes that are gone, stops."""

import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files import reading
from cyclegan.training.build.build_run import RunBuilder
from cyclegan.training.statistics.async_metrics import StepMetrics
from cyclegan.training.statistics.nonfinite_guard import NonFiniteGuard
from cyclegan.training.trainer import Trainer

NAN, INF = float("nan"), float("inf")

SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    **{"ngf": 2, "ndf": 2, "pool_size": 3, "ema": 0.9, "load_size": 20, "crop_size": 16},
    **{"device": "cpu", "precision": "fp32", "monitor": "none", "num_threads": 0},
    **{"steps": 20, "print_every": 1, "save_every": 5, "preview_every": 1000},
}


@pytest.fixture(scope="module")
def bench(faults, tmp_path_factory):
    return faults.fault_run.Bench(tmp_path_factory.mktemp("faults"), seed=0, kills=1)


@pytest.fixture
def fit(faults, dataroot, tmp_path, monkeypatch, capsys):
    """Trains; gives the exit status, what was said, and the newest state."""

    def train(name: str = "run", *, armed: bool = True, **options):
        monkeypatch.setenv(faults.fault_inside.ARMED, "1")
        if not armed:
            monkeypatch.delenv(faults.fault_inside.ARMED)
        places = {"dataroot": dataroot, "checkpoints_dir": tmp_path / "runs", "name": name}
        try:
            status = Trainer(
                RunBuilder(check(TrainSettings, {**SMALL, **places, **options})).build()
            ).fit()
        except UserError as error:
            status = str(error)
        state = torch.load(max((tmp_path / "runs" / name).glob("state_*.pt")), weights_only=True)
        return SimpleNamespace(
            status=status,
            said=capsys.readouterr().out,
            step=state["progress"]["step"],
            progress=state["progress"],
            finite=all(weight.isfinite().all() for weight in state["model"].values()),
            learned={k: v for k, v in state.items() if k not in ("history", "meter")},
        )

    return train


def test_a_clock_that_jumps_is_no_matter(fit, assert_same, monkeypatch):
    whole = fit("whole")
    monkeypatch.setattr(time, "time", time.time)
    jumped = fit(cycle_A="10*fault_inside.ClockJumps(first=3, count=2)", time_limit="1h")
    assert (jumped.status, jumped.step) == (0, 20)
    assert_same(jumped.learned, whole.learned)


@pytest.mark.parametrize("cache", ["off", "ram"])
def test_a_drive_that_hiccups_is_waited_for_and_no_image_is_skipped(
    fit, assert_same, monkeypatch, cache
):
    whole = fit("whole")
    monkeypatch.setattr(reading, "RETRY_WAITS", (0.0, 0.0, 0.0))
    for call in ("open", "pread"):
        monkeypatch.setattr(os, call, getattr(os, call))
    done = fit(cycle_A="10*fault_inside.DriveHiccups", cache=cache)
    assert done.status == 0
    assert "skipped" not in done.said
    assert_same(done.learned, whole.learned)


def test_a_step_that_goes_wrong_is_left_out_and_the_run_goes_on(fit):
    done = fit(cycle_A="10*fault_inside.Wrong(value='nan', first=8)")
    assert (done.status, done.step, done.finite) == (0, 20, True)
    assert done.said.count("not a finite number") == 1
    assert "warning: step 8: cycle_A: not a finite number" in done.said
    assert "going back" not in done.said


def test_after_three_in_a_row_the_run_goes_back_with_half_the_rate(fit):
    done = fit(cycle_A="10*fault_inside.Wrong(value='inf', first=8, count=3)")
    assert (done.status, done.step, done.finite) == (0, 20, True)
    for step in (8, 9, 10):
        assert f"warning: step {step}: cycle_A: not a finite number" in done.said
    assert "going back to step 5 with 0.5 of the learning rate (1 of at most 3" in done.said
    assert (done.progress["times_back"], done.progress["rate"]) == (1, 0.5)


@pytest.mark.parametrize(("first", "to"), [(1, 0), (3, 0), (11, 10), (18, 15)])
def test_a_run_goes_back_from_wherever_it_is(fit, first, to):
    done = fit(cycle_A=f"10*fault_inside.Wrong(value='nan', first={first}, count=3)")
    assert (done.status, done.step, done.finite) == (0, 20, True)
    assert done.said.count(f"going back to step {to} ") == 1


def test_a_run_that_goes_back_tells_each_step_once(fit, tmp_path):
    fit(cycle_A="10*fault_inside.Wrong(value='nan', first=8, count=3)", print_every=2)
    lines = (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert steps[-1] == 20


@pytest.mark.slow
def test_a_run_goes_back_with_processes_that_load_images(fit, assert_same):
    options = {"cycle_A": "10*fault_inside.Wrong(value='nan', first=8, count=3)", "cache": "off"}
    alone, helped = fit("alone", **options), fit("helped", **options, num_threads=2)
    assert (helped.status, helped.progress["times_back"]) == (0, 1)
    assert_same(helped.learned, alone.learned)


def test_a_run_goes_back_past_a_state_that_is_damaged(fit, tmp_path, monkeypatch):
    newest = tmp_path / "runs" / "run" / "state_00000010.pt"
    look = NonFiniteGuard.must_roll_back

    def damaging(guard: NonFiniteGuard, read: StepMetrics) -> bool:
        over = look(guard, read)
        if over:
            os.truncate(newest, newest.stat().st_size // 2)
        return over

    monkeypatch.setattr(NonFiniteGuard, "must_roll_back", damaging)
    done = fit(cycle_A="10*fault_inside.Wrong(value='nan', first=12, count=3)", save_every=5)
    assert (done.status, done.step, done.finite) == (0, 20, True)
    assert "going back to step 5 " in done.said
    assert "state_00000010.pt is damaged" in done.said


def test_a_run_out_of_time_ends_with_124_and_what_it_did_saved(fit):
    done = fit(steps=1_000_000, save_every=1_000_000, time_limit="5s")
    assert done.status == 124
    assert f"out of time: stopped and saved at step {done.step}; go on with: python" in done.said


def test_a_rate_that_was_lowered_stays_so_when_the_run_goes_on(fit, tmp_path):
    fit(cycle_A="10*fault_inside.Wrong(value='nan', first=8, count=3)")
    done = fit(steps=25, continue_train=True, trust_imports=True, armed=False)
    assert (done.status, done.step) == (0, 25)
    assert (done.progress["times_back"], done.progress["rate"]) == (1, 0.5)


def test_a_run_that_cannot_be_helped_stops_with_finite_weights_saved(fit):
    done = fit(cycle_A="10*fault_inside.Wrong(value='nan', first=8, count=0)")
    assert "went back 3 times" in done.status
    assert "--continue_train" in done.status
    assert done.said.count("going back to step 5 ") == 3
    assert done.step >= 5
    assert done.finite


def test_an_exploding_penalty_is_named_and_never_learned_from(fit):
    done = fit(penalty="1e38*r1(every=1)")
    assert "went back 3 times" in done.status
    assert "gradient_D_A, gradient_D_B: not a finite number" in done.said
    assert done.finite


def test_a_penalty_of_any_weight_that_stays_a_number_trains(fit):
    done = fit(penalty="1e15*r1(every=1)")
    assert done.finite
    assert done.status == 0 or "went back 3 times" in done.status


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"cycle": "10*l1 + 1*ssim + 1*fft + 1*charbonnier + 1*gradient + 1*color"},
        {"adversarial": "hinge", "penalty": "1*r1(every=1) + 1*gradient_penalty(every=1)"},
    ],
    ids=["classic", "many losses", "penalties"],
)
def test_flat_images_are_trained_on_without_a_number_that_is_none(fit, tmp_path, losses, precision):
    for folder, level in (("trainA", 0), ("trainB", 255), ("testA", 9), ("testB", 9)):
        (tmp_path / "flat" / folder).mkdir(parents=True)
        for index in range(3):
            image = Image.fromarray(np.full((44, 52, 3), level, np.uint8))
            image.save(tmp_path / "flat" / folder / f"{index}.png")
    done = fit(
        dataroot=tmp_path / "flat",
        load_size=40,
        crop_size=32,
        steps=8,
        precision=precision,
        **losses,
    )
    assert (done.status, done.step, done.finite) == (0, 8, True)
    assert "not a finite number" not in done.said


def test_fp16_begins_with_overflows_that_nobody_needs_to_hear_of(fit, monkeypatch):
    seen = []
    look = NonFiniteGuard.must_roll_back
    monkeypatch.setattr(
        NonFiniteGuard,
        "must_roll_back",
        lambda self, reading: seen.append(reading) or look(self, reading),
    )
    done = fit(precision="fp16", cycle="10000*l1")
    assert (done.status, done.step, done.finite) == (0, 20, True)
    # Otherwise nothing was put to the test.
    assert not all(np.isfinite(list(reading.values.values())).all() for reading in seen)
    assert "not a finite number" not in done.said


@pytest.mark.parametrize("where", ["generators", "discriminators"])
def test_memory_that_does_at_the_second_try_leaves_no_trace(fit, assert_same, where):
    penalty = "0.1*r1(every=1)"
    whole = fit("whole", penalty_A=penalty)
    fault = (
        {"cycle_A": "10*fault_inside.OutOfMemory(first=8)", "penalty_A": penalty}
        if where == "generators"
        else {"penalty_A": "0.1*fault_inside.PenaltyFails(kind='memory', first=8)"}
    )
    done = fit(**fault)
    assert done.status == 0
    assert_same(done.learned, whole.learned)


FAILURES = {
    "no memory, generators": {"cycle_A": "10*fault_inside.OutOfMemory(first=8, count=2)"},
    "no memory, discriminators": {
        "penalty_A": "0.1*fault_inside.PenaltyFails(kind='memory', first=8, count=2)"
    },
    "own loss": {"cycle_A": "10*fault_inside.Raises(first=8)"},
    "own penalty": {"penalty_A": "0.1*fault_inside.PenaltyFails(kind='raises', first=8)"},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_step_that_fails_stops_the_run_with_the_one_before_it_saved(fit, assert_same, failure):
    """Without what failed it goes on as if nothing had happened; where the generators' half had not
    failed, as if there had been no other.
    """
    options = {"generator": "resnet(blocks=1, dropout=True)", "penalty_A": "0.1*r1(every=1)"}
    whole = fit("whole", **options)
    stopped = fit(**{**options, **FAILURES[failure]})
    assert ("memory was too small at step" if "memory" in failure else "failed") in stopped.status
    # The generators' half of a step is not made twice: such a step is without the other half.
    halfway = "discriminators" in failure or "penalty" in failure
    assert stopped.step == 7 + halfway
    resumed = fit(
        **{**options, **FAILURES[failure]}, continue_train=True, trust_imports=True, armed=False
    )
    assert (resumed.status, resumed.step) == (0, 20)
    if not halfway:
        assert_same(resumed.learned, whole.learned)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["loader dies", "live page dies", "disk full for a while", "data vanish", "Ctrl-C twice"],
)
def test_the_real_command_survives(faults, bench, name):
    (fault,) = (fault for fault in faults.faults.FAULTS if fault.name == name)
    row = faults.faults.tried(fault, bench)
    if row["left_out"]:
        pytest.skip(row["why"])
    assert row["survived"], row["why"]
    assert row["final_weights_equal"]


def test_every_fault_has_a_name_of_its_own_and_says_when_it_is_survived(faults):
    known = faults.faults.FAULTS
    assert len({fault.name for fault in known}) == len(known) >= 25
    assert all(fault.injected and fault.survives_if for fault in known)
