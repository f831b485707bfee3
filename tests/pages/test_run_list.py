"""python -m cyclegan runs: a row for each run, whatever state its folder is in."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from cyclegan.__main__ import main
from cyclegan.config.errors import UserError
from cyclegan.pages.report.index_page import write_report
from cyclegan.runs.metrics_log import read_metrics
from cyclegan.runs.record import RunRecord, write_record

RECORD = RunRecord(command=("python", "train.py"), started="2026-03-01T14:00:00+00:00")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run of every state, the first named the newest."""
    names = ("going", "waiting", "done", "cut", "broken", "killed", "old", "odd", "empty")
    for age, name in enumerate(names):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        record = RunRecord(**{**vars(RECORD), "total_steps": 400, "step": 0})
        if name in ("done", "cut", "broken"):
            state = {"done": "finished", "cut": "stopped", "broken": "failed"}[name]
            record = record.at_end(state, step=400 if name == "done" else 150, why="for a reason")
        if name not in ("old", "odd", "empty"):
            write_record(folder, record)
        if name not in ("odd", "empty"):
            (folder / "settings.yaml").write_text(f"dataroot: data/{name}\nsteps: 300\n")
            points = [{"step": 100, "swd": 31.25, "psnr": 26.0}, {"step": 200, "swd": 35.0}]
            lines = [json.dumps(point) + "\n" for point in points]
            (folder / "metrics.jsonl").write_text("".join(lines))
            (folder / "state_00000150.pt").touch()
        for path in folder.iterdir():
            os.utime(path, (1.7e9 - age, 1.7e9 - age))
    odd = tmp_path / "checkpoints" / "odd"
    for name in ("run.json", "settings.yaml", "metrics.jsonl", "evaluation.json"):
        (odd / name).write_bytes(b"\xff\x00{[")
        os.utime(odd / name, (1e9, 1e9))
    (tmp_path / "checkpoints" / "done" / "evaluation.json").write_text(
        '{"step": 400, "swd_fake": 28.5, "psnr_fake": 27.25, "swd_input": 41}'
    )
    (tmp_path / "checkpoints" / "waiting" / "pause").touch()
    return tmp_path / "checkpoints"


def lines_of(runs: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    with FileLock(runs / "going" / ".lock"), FileLock(runs / "waiting" / ".lock"):
        assert main(["runs", "--checkpoints_dir", str(runs)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "data", "step", "state", "health", "best"]
    return {line.split()[0]: " ".join(line.split()) for line in lines}


def test_every_run_has_a_row_the_newest_first(runs, capsys):
    lines = lines_of(runs, capsys)
    assert list(lines) == ["going", "waiting", "done", "cut", "broken", "killed", "old", "odd"]
    best = "SWD 31.25 (step 100), PSNR 26.00 dB (step 100)"
    assert lines["going"] == f"going data/going 200/400 running {best}"
    assert lines["waiting"] == f"waiting data/waiting 200/400 paused {best}"
    assert lines["cut"] == f"cut data/cut 200/400 stopped, resumable {best}"
    assert lines["broken"] == f"broken data/broken 200/400 failed, resumable {best}"
    assert lines["killed"] == f"killed data/killed 200/400 crashed, resumable {best}"
    assert lines["old"] == f"old data/old 200/300 stopped, resumable {best}"
    assert lines["odd"] == "odd 0 stopped"


def test_the_best_value_may_come_from_the_final_evaluation(runs, capsys):
    best = "SWD 28.5 (step 400), PSNR 27.25 dB (step 400)"
    assert lines_of(runs, capsys)["done"] == f"done data/done 400/400 finished {best}"


def test_health_is_shown_as_the_most_serious_alarm_or_as_healthy(runs, capsys, monkeypatch):
    from cyclegan.monitor import Alarm, Health
    from cyclegan.pages.run_list import run_table

    alarm = Alarm("collapse", "G_AB", "saw", "means", "remedy")
    found = iter([None, Health((), ()), Health((), (alarm,)), Health((), (alarm, alarm, alarm))])
    monkeypatch.setattr(
        run_table, "summarize_health", lambda points, total_steps: next(found, None)
    )
    lines = lines_of(runs, capsys)
    assert "paused healthy SWD" in lines["waiting"]
    assert "finished collapse G_AB SWD" in lines["done"]
    assert "resumable collapse G_AB and 2 more SWD" in lines["cut"]


def test_json_has_more_about_each_run(runs, capsys):
    assert main(["runs", "--checkpoints_dir", str(runs), "--json"]) == 0
    found = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert found["broken"] == {
        "name": "broken",
        "data": "data/broken",
        "step": 200,
        "total_steps": 400,
        "state": "failed",
        "resumable": True,
        "why": "for a reason",
        "health": None,
        "alarms": [],
        "best": {"swd": {"value": 31.25, "step": 100}, "psnr": {"value": 26.0, "step": 100}},
    }
    # Nobody holds the lock now.
    assert found["going"]["state"] == "crashed"
    assert found["odd"]["step"] == 0


def test_no_folder_is_changed(runs):
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    main(["runs", "--checkpoints_dir", str(runs)])
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_control_characters_are_not_printed(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "settings.yaml").write_text('dataroot: "\\e[2J [bold]data"\n')
    assert main(["runs", "--checkpoints_dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "?[2J [bold]data" in said


@pytest.mark.parametrize(
    "line",
    [
        '{"step": %s, "D_A": 1}' % ("9" * 4000),
        '{"step": 1e308, "D_A": 1}',
        '{"step": -5, "D_A": 1}',
        '{"step": 7, "D_\\ud800": 1}',
        '{"step": 7, "pad": "%s"}' % ("x" * 250_000),
    ],
)
def test_a_foreign_line_in_the_metrics_hides_no_point(runs, capsys, line):
    path = runs / "done" / "metrics.jsonl"
    before = read_metrics(path.parent)
    path.write_text(f'{line}\n{path.read_text()}{line}\n{{"step": 900000, "D_A": 2.5}}\n')
    points = read_metrics(path.parent)
    known = {step for step, _ in (*before, (900000, {}))}
    assert [point for point in points if point[0] in known] == [*before, (900000, {"D_A": 2.5})]
    assert all(name.isprintable() for _, values in points for name in values)
    assert main(["runs", "--checkpoints_dir", str(runs)]) == 0
    assert capsys.readouterr().out.count("\n") < 40
    write_report(path.parent)
    assert (path.parent / "index.html").exists()


def test_huge_numbers_do_not_prevent_the_page(runs):
    path = runs / "done" / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 900000, "D_A": 1e308, "D_B": -1e308, "cycle_A": 3e38}\n')
    write_report(path.parent)
    assert (path.parent / "index.html").exists()


def test_an_empty_folder_is_reported(tmp_path, capsys, monkeypatch):
    assert main(["runs", "--checkpoints_dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"there is no run in {tmp_path} yet")
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.startswith("there is no run in checkpoints yet")
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_message_names_a_mistyped_folder(tmp_path):
    with pytest.raises(UserError, match="--checkpoints_dir .*/nowhere is not a folder"):
        main(["runs", "--checkpoints_dir", str(tmp_path / "nowhere")])
