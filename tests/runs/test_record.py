"""run.json, and what the files in a run's folder tell about the run."""

import json
import os
import subprocess
import sys

import pytest
from filelock import FileLock

from cyclegan.runs.folder import find_runs, find_states, is_locked, run_status, total_steps
from cyclegan.runs.record import RunRecord, read_record, versions, write_record

RECORD = RunRecord(
    command=("python", "train.py", "--dataroot", "my data"),
    started="2026-03-01T14:00:00+00:00",
    step=20,
    total_steps=200,
    data=("A: 40 images",),
    device="on the CPU",
    versions={"python": "3.11"},
)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    ended = RECORD.at_end("failed", step=120, why="out of memory")
    write_record(tmp_path, ended)
    found = read_record(tmp_path)
    assert found == ended
    assert (found.state, found.step, found.why) == ("failed", 120, "out of memory")
    assert found.ended is not None


def test_the_file_has_the_names_that_programs_read(tmp_path):
    write_record(tmp_path, RECORD)
    found = json.loads((tmp_path / "run.json").read_text())
    assert found == {
        "command": ["python", "train.py", "--dataroot", "my data"],
        "started": "2026-03-01T14:00:00+00:00",
        "ended": None,
        "state": "running",
        "why": "",
        "step": 20,
        "total_steps": 200,
        "data": ["A: 40 images"],
        "device": "on the CPU",
        "versions": {"python": "3.11"},
    }


def test_versions_name_what_numbers_depend_on():
    assert {"python", "torch", "numpy"} <= versions().keys()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"state": "sold"}', '{"state": ["running"]}', "[" * 9000, "9" * 5000],
)
def test_a_file_that_is_no_record_of_ours_is_ignored(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert read_record(tmp_path) is None
    assert run_status(tmp_path) == "stopped"


def test_values_of_the_wrong_kind_become_the_default(tmp_path):
    odd = '{"state": "finished", "command": ["python", 3], "step": 1e999, "total_steps": true,'
    odd += '"data": "all", "versions": {"python": 3, "torch": "2"}, "ended": 7, "started": null}'
    (tmp_path / "run.json").write_text(odd)
    assert read_record(tmp_path) == RunRecord(
        command=("python",), started="", state="finished", versions={"torch": "2"}
    )


def test_a_file_that_is_too_large_or_a_pipe_is_not_read(tmp_path):
    (tmp_path / "run.json").write_text('{"state": "finished", "why": "' + "x" * 2_000_000 + '"}')
    assert read_record(tmp_path) is None
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
def test_the_status_of_a_run_that_ended_is_in_its_record(tmp_path, ending):
    write_record(tmp_path, RECORD.at_end(ending, step=120))
    assert run_status(tmp_path) == ending


def test_a_run_that_claims_to_run_without_a_process_has_crashed(tmp_path):
    write_record(tmp_path, RECORD)
    (tmp_path / ".lock").touch()
    assert run_status(tmp_path) == "crashed"


def test_a_run_is_running_while_it_is_locked_and_paused_by_a_file(tmp_path):
    write_record(tmp_path, RECORD)
    with FileLock(tmp_path / ".lock"):
        assert run_status(tmp_path) == "running"
        (tmp_path / "pause").touch()
        assert run_status(tmp_path) == "paused"
    assert run_status(tmp_path) == "crashed"


def test_the_lock_of_another_process_is_seen(tmp_path):
    program = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert is_locked(tmp_path)
        holder.communicate()
    assert not is_locked(tmp_path)


def test_the_check_neither_takes_the_lock_nor_makes_a_file(tmp_path):
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".lock").touch(mode=0o444)
    assert not is_locked(tmp_path)
    with FileLock(tmp_path / ".lock", timeout=0):
        pass


def test_a_lock_that_is_a_pipe_or_a_link_is_ignored(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    assert not is_locked(tmp_path)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").symlink_to("/dev/zero")
    assert not is_locked(tmp_path)


@pytest.mark.parametrize(
    ("settings", "state", "evaluation", "expected"),
    [
        ("steps: 40", 40, None, "finished"),
        ("steps: 40", 20, None, "stopped"),
        ("n_epochs: 3", 40, None, "stopped"),
        ("n_epochs: 3", 40, '{"step": 40}', "finished"),
        ("n_epochs: 3", 60, '{"step": 40}', "stopped"),
        ("steps: [", None, "{", "stopped"),
        ("", None, None, "stopped"),
    ],
)
def test_the_status_of_a_run_without_a_record_comes_from_its_other_files(
    tmp_path, settings, state, evaluation, expected
):
    (tmp_path / "settings.yaml").write_text(settings)
    if state is not None:
        (tmp_path / f"state_{state:08d}.pt").touch()
    if evaluation is not None:
        (tmp_path / "evaluation.json").write_text(evaluation)
    assert run_status(tmp_path) == expected


def test_states_are_found_by_their_names_the_newest_first(tmp_path):
    assert find_states(tmp_path / "is not there") == []
    for name in ("state_00000040.pt.damaged", "state_x.pt", "state_00000009.pt", "state_10.pt"):
        (tmp_path / name).touch()
    assert find_states(tmp_path) == [tmp_path / "state_10.pt", tmp_path / "state_00000009.pt"]


def test_runs_are_found_by_their_files_the_last_written_first(tmp_path):
    for age, (name, file) in enumerate(
        (("new", "metrics.jsonl"), ("old", "settings.yaml"), ("state", "state_00000003.pt"))
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
        os.utime(tmp_path / name / file, (1e9 - age, 1e9 - age))
    (tmp_path / "visdom").mkdir()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_runs(tmp_path)] == ["new", "old", "state"]


def test_the_length_of_a_run_comes_from_its_record_or_its_options_or_its_metrics(tmp_path):
    points = [(1, {}), (30, {})]
    assert total_steps(tmp_path, points) == 30
    (tmp_path / "settings.yaml").write_text("steps: 50")
    assert total_steps(tmp_path, points) == 50
    write_record(tmp_path, RECORD)
    assert total_steps(tmp_path, points) == 200
