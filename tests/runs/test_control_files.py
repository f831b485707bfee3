"""Requests to a run by files in its folder."""

from types import SimpleNamespace

import pytest

from cyclegan.runs import control_files
from cyclegan.runs.control_files import FILES, POLL_SECONDS, ControlFiles, Request, send_request


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(control_files, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.mark.parametrize("expected", [Request.SAVE, Request.PREVIEW, Request.STOP])
def test_a_request_is_read_once_and_its_file_deleted(tmp_path, clock, expected):
    controls = ControlFiles(tmp_path)
    (tmp_path / FILES[expected]).touch()
    assert controls.pending_requests() == expected
    assert not (tmp_path / FILES[expected]).exists()
    clock.seconds += POLL_SECONDS
    assert controls.pending_requests() == Request.NONE


def test_a_pause_holds_as_long_as_its_file_exists(tmp_path, clock):
    controls = ControlFiles(tmp_path)
    send_request(tmp_path, "pause")
    for _ in range(3):
        assert controls.pending_requests() == Request.PAUSE
        clock.seconds += POLL_SECONDS / 2
    send_request(tmp_path, "go_on")
    clock.seconds += POLL_SECONDS
    assert controls.pending_requests() == Request.NONE


def test_a_folder_is_no_request(tmp_path):
    (tmp_path / "pause").mkdir()
    (tmp_path / "save").mkdir()
    assert ControlFiles(tmp_path).pending_requests() == Request.NONE
    with pytest.raises(OSError, match="directory|permitted"):
        send_request(tmp_path, "go_on")


def test_several_requests_are_combined(tmp_path):
    for name in FILES.values():
        send_request(tmp_path, name)
    combined = Request.PAUSE | Request.SAVE | Request.PREVIEW | Request.STOP
    assert ControlFiles(tmp_path).pending_requests() == combined


def test_the_folder_is_read_at_intervals(tmp_path, clock):
    controls = ControlFiles(tmp_path)
    controls.pending_requests()
    (tmp_path / "save").touch()
    clock.seconds += POLL_SECONDS / 2
    assert controls.pending_requests() == Request.NONE
    clock.seconds += POLL_SECONDS / 2
    assert controls.pending_requests() == Request.SAVE


def test_requests_to_an_earlier_run_are_deleted(tmp_path):
    for name in FILES.values():
        send_request(tmp_path, name)
    controls = ControlFiles(tmp_path)
    controls.clear()
    assert controls.pending_requests() == Request.NONE
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_request_makes_no_file(tmp_path):
    for name in ("../stop", "stop.pt", "", "STOP", "state_00000001.pt"):
        send_request(tmp_path, name)
    assert list(tmp_path.iterdir()) == []
