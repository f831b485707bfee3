"""What ends a run before its last step: a signal, or a limit of time."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from cyclegan.training import stop
from cyclegan.training.stop import StopRequest, TimeLimit


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
