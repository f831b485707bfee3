"""The prediction of the time that a run still takes."""

import random
from types import SimpleNamespace

import pytest

from cyclegan.monitor import console
from cyclegan.monitor.console import MARKS, Console


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=50.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def predictions(clock, durations: list[float], *, first_step: int = 0) -> list[tuple[float, float]]:
    """After each step, the predicted and the true time left in seconds."""
    total = first_step + len(durations)
    run = Console(total_steps=total, steps_per_epoch=100, first_step=first_step, silent=True)
    end = clock.seconds + sum(durations)
    found = []
    for step in run.track(range(first_step, total + 1), step=first_step):
        # The loop asks for the next batch when the step before is counted.
        if step > first_step:
            found.append((run.seconds_left(step), end - clock.seconds))
        clock.seconds += durations[step - first_step]
    return found


def durations(*, steps: int = 4000, compile_at: tuple[int, ...] = (), seed: int = 0) -> list[float]:
    """Noisy steps of 50 ms, a preview of 0.4 s every 100, a save of 1 s every 500; 60 s to compile
    at some steps.
    """
    noise = random.Random(seed)
    found = [0.05 * noise.uniform(0.7, 1.3) for _ in range(steps)]
    for step in range(steps):
        found[step] += (step % 100 == 99) * 0.4 + (step % 500 == 499) * 1.0
    for step in compile_at:
        found[step] += 60.0
    return found


@pytest.mark.parametrize(
    ("steps", "first_step", "compile_at"),
    [(4000, 0, ()), (4000, 700, (0,)), (4000, 0, (0, 1, 16)), (10_000, 700, (0, 1, 16))],
)
def test_the_prediction_is_within_a_tenth_after_a_twentieth(clock, steps, first_step, compile_at):
    found = predictions(clock, durations(steps=steps, compile_at=compile_at), first_step=first_step)
    # At the very end a single save is a large part of what is left.
    for predicted, truth in found[steps // 20 : -steps // 20]:
        assert predicted == pytest.approx(truth, rel=0.1)


def test_a_measurement_every_few_thousand_steps_counts(clock):
    steps = durations(steps=20_000)
    for step in range(1999, len(steps), 2000):
        steps[step] += 20.0
    for predicted, truth in predictions(clock, steps)[8000:16_000:100]:
        assert predicted == pytest.approx(truth, rel=0.1)


def test_a_machine_that_becomes_slower_is_noticed(clock):
    predicted, truth = predictions(clock, [0.1] * 1000 + [0.3] * 3000)[2000]
    assert predicted == pytest.approx(truth, rel=0.1)


def test_a_pause_does_not_count(clock, capsys):
    run = Console(total_steps=200, steps_per_epoch=50, first_step=0)
    for step in run.track(range(200), step=0):
        clock.seconds += 1.0
        if step == 49:
            clock.seconds += 500.0
            run.skip(500.0)
        if step == 99:
            run.scalars(100, {})
    assert capsys.readouterr().out == "epoch 2  step 100/200  0.0 images/s  0:01:40 left\n"


def test_there_is_no_prediction_before_a_step(clock, capsys):
    run = Console(total_steps=100, steps_per_epoch=50, first_step=20)
    run.scalars(20, {})
    assert capsys.readouterr().out == "epoch 1  step 20/100  0.0 images/s  \n"


def test_a_long_run_needs_little_memory(clock):
    run = Console(total_steps=10**6, steps_per_epoch=100, first_step=0, silent=True)
    for step in run.track(range(20_000), step=0):
        clock.seconds += 1.0
        if step == 19_999:
            assert len(run.marks) <= MARKS / 50 + 1
            assert run.seconds_left(step) == pytest.approx(980_001, rel=0.01)
