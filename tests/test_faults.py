"""What a run survives: numbers that are none, files and processes that are gone, stops."""

import importlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.data import reading
from cyclegan.errors import UserError
from cyclegan.networks.running import PLAIN, Speed
from cyclegan.settings import TrainSettings, check
from cyclegan.training import stop
from cyclegan.training.model import build_model
from cyclegan.training.optim import build_optimizer, update
from cyclegan.training.pool import ImagePool
from cyclegan.training.readings import LONGEST_SEARCH, MOST_FAULTS, Guard, Reading, Readings
from cyclegan.training.state import copied
from cyclegan.training.step import Stepper
from cyclegan.training.stop import StopRequest, TimeLimit
from cyclegan.training.trainer import Trainer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")

SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    **{"ngf": 2, "ndf": 2, "pool_size": 3, "ema": 0.9, "load_size": 20, "crop_size": 16},
    **{"device": "cpu", "precision": "fp32", "monitor": "none", "num_threads": 0},
    **{"steps": 20, "print_every": 1, "save_every": 5, "preview_every": 1000},
}


@pytest.fixture(scope="module")
def faults():
    """The parts of benchmarks/faults.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        names = ("faults", "fault_run", "fault_inside")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture(scope="module")
def bench(faults, tmp_path_factory):
    return faults.fault_run.Bench(tmp_path_factory.mktemp("faults"), seed=0, kills=1)


@pytest.fixture
def assert_same(faults):
    """Bit for bit; without printing the weights where they are not."""

    def compare(ours, theirs) -> None:
        if not faults.fault_run.same(ours, theirs):
            differ = [name for name in ours if not faults.fault_run.same(ours[name], theirs[name])]
            pytest.fail(f"not the same: {', '.join(differ)}", pytrace=False)

    return compare


def guard(**options) -> tuple[Guard, list[str]]:
    said: list[str] = []
    return Guard(**{"fp16": False, "alone": True, "say": said.append, **options}), said


def looked(guard: Guard, *values: dict[str, float]) -> list[bool]:
    return [guard.look(Reading(step, each)) for step, each in enumerate(values, 1)]


GOOD, BAD = {"cycle_A": 1.0, "gradient_G_AB": 2.0}, {"cycle_A": NAN, "gradient_G_AB": NAN}
OVERFLOW = {"cycle_A": 1.0, "gradient_G_AB": INF}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_named_with_its_step(value):
    watching, said = guard()
    assert not watching.look(Reading(17, {"cycle_A": 1.0, "D_B": value, "gradient_D_B": value}))
    assert said == ["warning: step 17: D_B: not a finite number; its weights are left as they were"]


def test_finite_values_are_no_matter():
    watching, said = guard()
    assert looked(watching, *[GOOD] * 9) == [False] * 9
    assert not said


def test_the_third_fault_in_a_row_is_one_too_many():
    assert MOST_FAULTS == 3
    assert looked(guard()[0], BAD, BAD, BAD) == [False, False, True]


def test_a_good_step_between_faults_starts_the_count_anew():
    assert not any(looked(guard()[0], *[BAD, BAD, GOOD] * 5))


def test_a_run_that_went_back_starts_the_count_anew():
    watching, _ = guard()
    looked(watching, BAD, BAD, BAD)
    watching.forget()
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]


def test_in_fp16_a_gradient_past_the_range_is_the_search_for_a_scale():
    watching, said = guard(fp16=True)
    assert not any(looked(watching, *[OVERFLOW] * LONGEST_SEARCH))
    assert not said


def test_in_fp16_a_search_without_end_is_a_fault():
    watching, said = guard(fp16=True)
    answers = looked(watching, *[OVERFLOW] * (LONGEST_SEARCH + MOST_FAULTS))
    assert answers == [False] * (LONGEST_SEARCH + MOST_FAULTS - 1) + [True]
    assert len(said) == MOST_FAULTS


def test_in_fp16_a_loss_that_is_not_finite_is_a_fault_at_once():
    watching, said = guard(fp16=True)
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MOST_FAULTS


def test_in_fp16_overflows_between_good_steps_go_on_for_ever():
    watching, said = guard(fp16=True)
    assert not any(looked(watching, *[OVERFLOW, OVERFLOW, GOOD] * LONGEST_SEARCH))
    assert not said


def test_one_of_several_processes_may_see_the_gradient_of_anothers_loss():
    """Its own losses are finite, or not: in fp16 all of them go by the gradient in common."""
    watching, said = guard(fp16=True, alone=False)
    assert not any(looked(watching, *[BAD] * LONGEST_SEARCH))
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MOST_FAULTS


def rows(*numbers: float) -> list[dict[str, Tensor]]:
    return [{"a": torch.tensor(number), "b": torch.tensor(-number)} for number in numbers]


def test_on_the_cpu_a_step_is_read_at_once():
    readings = Readings(CPU)
    for step, row in enumerate(rows(1.0, 2.0, 3.0), 1):
        assert list(readings.put(step, row)) == [Reading(step, {"a": step, "b": -step})]
    assert not list(readings.rest())


def test_what_lags_behind_comes_in_order_and_whole():
    readings = Readings(CPU)
    readings.lag = 2
    came = [
        [reading.step for reading in readings.put(step, row)]
        for step, row in enumerate(rows(1.0, 2.0, 3.0, 4.0), 1)
    ]
    assert came == [[], [], [1], [2]]
    assert [(r.step, r.values["a"]) for r in readings.rest()] == [(3, 3.0), (4, 4.0)]
    assert not list(readings.rest())


def test_what_is_forgotten_does_not_come_any_more():
    readings = Readings(CPU)
    readings.lag = 2
    for step, row in enumerate(rows(1.0, 2.0), 1):
        assert not list(readings.put(step, row))
    readings.forget()
    assert not list(readings.rest())


def test_a_step_without_losses_has_nothing_to_read():
    assert not list(Readings(CPU).put(1, {}))


def test_readings_bring_the_error_of_each_image_to_its_place():
    errors = {"A": ((4, 0, 4), torch.tensor([1.0, 2.0, 3.0])), "B": ((1,), torch.tensor([5.0]))}
    (reading,) = Readings(CPU).put(7, {"cycle_A": torch.tensor(0.5)}, errors)
    assert reading.values == {"cycle_A": 0.5}
    assert reading.errors == {"A": [(4, 1.0), (0, 2.0), (4, 3.0)], "B": [(1, 5.0)]}


class Sometimes(nn.L1Loss):
    """The L1 loss times `factor`."""

    factor = 1.0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input, target) * Sometimes.factor


@pytest.fixture
def factor(monkeypatch):
    return lambda value: monkeypatch.setattr(Sometimes, "factor", value)


def stepper(speed: Speed = PLAIN, **options) -> Stepper:
    settings = check(TrainSettings, {**SMALL, "cycle": f"10*{__name__}.Sometimes", **options})
    torch.manual_seed(0)
    return Stepper(build_model(settings), settings, speed=speed)


def learned(stepper: Stepper, side: str) -> dict:
    """Weights and moments of one side, G or D."""
    networks = stepper.model.generators if side == "G" else stepper.model.discriminators
    optimizer = stepper.optimizer_G if side == "G" else stepper.optimizer_D
    return copied({"weights": networks.state_dict(), "memory": optimizer.state_dict()["state"]})


def pair(value: float | None = None) -> tuple[Tensor, Tensor]:
    real_A, real_B = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    if value is not None:
        real_A[0, 1, 3, 5] = value
    return real_A, real_B


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("speed", [PLAIN, Speed(fused=True)], ids=["plain", "fused"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd(momentum=0.9)", "rmsprop"])
def test_a_loss_that_is_not_finite_leaves_weights_and_moments_as_they_were(
    faults, assert_same, factor, value, speed, optimizer
):
    if speed.fused and optimizer == "rmsprop":
        speed = PLAIN
    some = stepper(speed, optimizer=optimizer)
    some.step(*pair())
    before = {side: learned(some, side) for side in "GD"}
    factor(value)
    losses = some.step(*pair())
    assert not losses["cycle_A"].isfinite()
    assert not losses["gradient_G_BA"].isfinite()
    assert_same(learned(some, "G"), before["G"])
    # The discriminators have learned: their losses were finite.
    assert losses["gradient_D_A"].isfinite()
    assert not faults.fault_run.same(learned(some, "D"), before["D"])
    factor(1.0)
    assert all(loss.isfinite() for loss in some.step(*pair()).values())
    assert not faults.fault_run.same(learned(some, "G"), before["G"])


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_pixel_that_is_not_finite_changes_nothing_and_is_not_remembered(assert_same, value):
    some = stepper(pool_size=4)
    some.step(*pair())
    before = {side: learned(some, side) for side in "GD"}
    some.step(*pair(value))
    for side in "GD":
        assert_same(learned(some, side), before[side])
    assert all(image.isfinite().all() for pool in some.pools.values() for image in pool.images)
    assert all(loss.isfinite() for _ in range(6) for loss in some.step(*pair()).values())


def test_clipping_does_not_let_a_gradient_past_all_numbers_through(assert_same, factor):
    some = stepper(clip_grad=1.0)
    some.step(*pair())
    before = learned(some, "G")
    factor(1e38)
    assert not some.step(*pair())["gradient_G_AB"].isfinite()
    assert_same(learned(some, "G"), before)


def test_a_pool_keeps_no_number_that_is_none():
    pool = ImagePool(2, seed=0)
    for value in (NAN, INF, -INF) * 5:
        pool.query(torch.full((1, 3, 2, 2), value))
        assert all(image.isfinite().all() and image.abs().max() <= 1 for image in pool.images)


def scaled_weight() -> tuple[nn.Parameter, torch.optim.Optimizer, torch.amp.GradScaler]:
    weight = nn.Parameter(torch.ones(3))
    settings = check(TrainSettings, {"optimizer": "adam", "lr": 0.1})
    return (
        weight,
        build_optimizer([weight], settings, of="G"),
        torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=True),
    )


def test_in_fp16_the_gradients_length_is_told_without_the_scale():
    weight, optimizer, scaler = scaled_weight()
    scaler.scale((weight * torch.tensor([3.0, 0.0, 4.0])).sum()).backward()
    (length,) = update(optimizer, scaler, networks={"D_A": [weight]}).values()
    assert length.item() == pytest.approx(5.0)
    assert weight.tolist() == pytest.approx([0.9, 1.0, 0.9])
    assert scaler.get_scale() == 1024.0


@pytest.mark.parametrize("value", [NAN, INF])
def test_in_fp16_an_overflow_is_no_update_and_halves_the_scale(value):
    weight, optimizer, scaler = scaled_weight()
    scaler.scale((weight * value).sum()).backward()
    (length,) = update(optimizer, scaler, networks={"D_A": [weight]}).values()
    assert not length.isfinite()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert not optimizer.state_dict()["state"]
    assert scaler.get_scale() == 512.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told the time."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr(stop, "process_age", lambda: 0.0)
    return now


def test_a_time_limit_counts_from_the_programs_start(clock, monkeypatch):
    monkeypatch.setattr(stop, "process_age", lambda: 40.0)
    limit = TimeLimit(100.0)
    clock.seconds += 50.0
    assert not limit.is_near(saving=0.0)
    clock.seconds += 10.0
    assert limit.is_near(saving=0.0)


def end_of(limit: TimeLimit, clock, *, step: float, saving: float) -> float:
    """When it is near, in seconds from now, with steps that take so long."""
    began = clock.seconds
    while not limit.is_near(saving=saving):
        assert clock.seconds - began < 10_000
        clock.seconds += step
    return clock.seconds - began


def test_a_time_limit_leaves_time_for_a_step_and_twice_a_save(clock):
    """By hand: of 60 s, 1 is for a step, 4 for saving, 3 for what comes after."""
    assert end_of(TimeLimit(60), clock, step=1.0, saving=2.0) == 52.0


def test_a_time_limit_remembers_the_longest_step(clock):
    limit = TimeLimit(60)
    assert not limit.is_near(saving=0.0)
    clock.seconds += 10.0
    assert not limit.is_near(saving=0.0)
    assert end_of(limit, clock, step=1.0, saving=0.0) == 37.0


def test_without_a_limit_there_is_always_time(clock):
    limit = TimeLimit(None)
    clock.seconds += 1e9
    assert not limit.is_near(saving=1e9)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_ends_all(number):
    before = signal.getsignal(number)
    ended: list[int] = []
    with StopRequest(end=ended.append) as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
        assert request.status == 128 + number
        assert not ended
        os.kill(os.getpid(), number)
        assert ended == [128 + number]
    assert signal.getsignal(number) is before


def test_without_a_signal_the_status_is_that_of_a_time_limit():
    with StopRequest() as request:
        assert request.status == 124


def test_in_another_thread_nothing_is_noted_and_nothing_fails():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopRequest() as request:
            seen.append((bool(request), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.fixture
def fit(faults, dataroot, tmp_path, monkeypatch, capsys):
    """Trains; gives the exit status, what was said, and the newest state."""

    def train(name: str = "run", *, armed: bool = True, **options):
        monkeypatch.setenv(faults.fault_inside.ARMED, "1")
        if not armed:
            monkeypatch.delenv(faults.fault_inside.ARMED)
        places = {"dataroot": dataroot, "checkpoints_dir": tmp_path / "runs", "name": name}
        try:
            status = Trainer(check(TrainSettings, {**SMALL, **places, **options})).fit()
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
    monkeypatch.setattr(reading, "WAITS", (0.0, 0.0, 0.0))
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
    look = Guard.look

    def damaging(guard: Guard, read: Reading) -> bool:
        over = look(guard, read)
        if over:
            os.truncate(newest, newest.stat().st_size // 2)
        return over

    monkeypatch.setattr(Guard, "look", damaging)
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
    look = Guard.look
    monkeypatch.setattr(
        Guard, "look", lambda self, reading: seen.append(reading) or look(self, reading)
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
