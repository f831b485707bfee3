"""The time that a run still takes."""

import random

import pytest

from cyclegan.monitor.time_left import MOST_MARKS, TimeLeft


def guesses(durations: list[float], *, first_step: int = 0) -> list[tuple[float, float]]:
    """After each step, the guess and the truth."""
    total = first_step + len(durations)
    left = TimeLeft(total)
    now = 50.0
    end = now + sum(durations)
    left.begin(first_step, now)
    found = []
    for step, duration in enumerate(durations, first_step + 1):
        now += duration
        left.at(step, now)
        found.append((left.left(step, now), end - now))
    return found


def run(*, steps: int = 4000, compile_s: float = 0.0, seed: int = 0) -> list[float]:
    """Noisy steps of 50 ms, a preview of 0.4 s every 100, a save of 1 s every 500."""
    noise = random.Random(seed)
    durations = [0.05 * noise.uniform(0.7, 1.3) for _ in range(steps)]
    for step in range(steps):
        durations[step] += (step % 100 == 99) * 0.4 + (step % 500 == 499) * 1.0
    durations[0] += compile_s
    return durations


@pytest.mark.parametrize("compile_s", [0.0, 60.0])
@pytest.mark.parametrize("first_step", [0, 700])
@pytest.mark.parametrize("steps", [4000, 20_000])
def test_the_guess_is_within_a_tenth_after_the_first_twentieth(steps, compile_s, first_step):
    found = guesses(run(steps=steps, compile_s=compile_s), first_step=first_step)
    # At the very end a single save is a large part of what is left.
    for guess, truth in found[steps // 20 : -steps // 20]:
        assert guess == pytest.approx(truth, rel=0.1)


def test_a_machine_that_becomes_slower_is_noticed():
    found = guesses([0.1] * 1000 + [0.3] * 3000)
    guess, truth = found[2000]
    assert guess == pytest.approx(truth, rel=0.1)


def test_a_pause_does_not_count():
    left = TimeLeft(100)
    left.begin(0, 0.0)
    for step in range(1, 11):
        left.at(step, float(step))
    left.skip(1000.0)
    assert left.left(10, 1010.0) == pytest.approx(90.0)


def test_before_a_step_there_is_no_guess():
    left = TimeLeft(100)
    left.begin(20, 3.0)
    assert left.left(20, 4.0) is None


def test_a_long_run_needs_little_memory():
    left = TimeLeft(10**6)
    left.begin(0, 0.0)
    for step in range(1, 100_000):
        left.at(step, float(step))
    assert len(left.marks) <= MOST_MARKS + 1
    assert left.left(99_999, 99_999.0) == pytest.approx(900_001, rel=0.01)
