"""Files in a run's folder that ask something of it."""

from types import SimpleNamespace

import pytest

from cyclegan.runs import control_files
from cyclegan.runs.control_files import (
    FILES,
    INTERVAL,
    Controls,
    Wish,
    ask,
)


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(control_files, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.mark.parametrize("wish", [Wish.SAVE, Wish.PREVIEW, Wish.STOP])
def test_a_file_asks_once(tmp_path, clock, wish):
    asking = Controls(tmp_path)
    (tmp_path / FILES[wish]).touch()
    assert asking.wishes() == wish
    assert not (tmp_path / FILES[wish]).exists()
    clock.seconds += INTERVAL
    assert asking.wishes() == Wish.NONE


def test_a_pause_stands_while_its_file_does(tmp_path, clock):
    asking = Controls(tmp_path)
    ask(tmp_path, "pause")
    for _ in range(3):
        assert asking.wishes() == Wish.PAUSE
        clock.seconds += INTERVAL / 2
    ask(tmp_path, "go_on")
    clock.seconds += INTERVAL
    assert asking.wishes() == Wish.NONE


def test_a_folder_is_no_pause(tmp_path, clock):
    (tmp_path / "pause").mkdir()
    assert Controls(tmp_path).wishes() == Wish.NONE
    with pytest.raises(OSError, match="directory|permitted"):
        ask(tmp_path, "go_on")


def test_several_may_be_asked_at_once(tmp_path, clock):
    for name in FILES.values():
        ask(tmp_path, name)
    assert Controls(tmp_path).wishes() == Wish.PAUSE | Wish.SAVE | Wish.PREVIEW | Wish.STOP


def test_the_folder_is_not_looked_at_all_the_time(tmp_path, clock):
    asking = Controls(tmp_path)
    asking.wishes()
    (tmp_path / "save").touch()
    clock.seconds += INTERVAL / 2
    assert asking.wishes() == Wish.NONE
    clock.seconds += INTERVAL / 2
    assert asking.wishes() == Wish.SAVE


def test_what_was_asked_of_an_earlier_run_is_forgotten(tmp_path, clock):
    for name in FILES.values():
        ask(tmp_path, name)
    asking = Controls(tmp_path)
    asking.clear()
    assert asking.wishes() == Wish.NONE
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_nothing_makes_no_file(tmp_path):
    for name in ("../stop", "stop.pt", "", "STOP", "state_00000001.pt"):
        ask(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_does_not_ask_for_ever(tmp_path, clock):
    (tmp_path / "save").mkdir()
    assert Controls(tmp_path).wishes() == Wish.NONE
