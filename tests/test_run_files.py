"""What a run leaves on disk for people and programs."""

import json
import math
import re

from PIL import Image

from cyclegan.monitor import Preview
from cyclegan.monitor.console import duration
from cyclegan.monitor.files import Files, read_metrics, write_metrics
from cyclegan.monitor.report import write_report

VALUES = {"D_A": 0.25, "cycle_A": 1.5, "lr": 2e-4, "images_per_second": 3.0, "data_wait": 0.002}


def files(run_dir, said):
    return Files(run_dir, title="run", steps_per_epoch=10, say=said.append)


def test_points_come_back_as_they_were_written(tmp_path):
    files(tmp_path, []).scalars(7, VALUES)
    assert read_metrics(tmp_path) == [(7, VALUES)]


def test_nan_is_valid_json_and_comes_back_as_nan(tmp_path):
    files(tmp_path, []).scalars(7, {"D_A": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7, "D_A": None}
    assert math.isnan(read_metrics(tmp_path)[0][1]["D_A"])


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "D_A": 0.5}\n{"step": 2, "D_')
    assert read_metrics(tmp_path) == [(1, {"D_A": 0.5})]


def test_points_are_written_anew_from_a_saved_state(tmp_path):
    files(tmp_path, []).scalars(30, VALUES)
    write_metrics(tmp_path, [(10, VALUES), (20, VALUES)])
    assert read_metrics(tmp_path) == [(10, VALUES), (20, VALUES)]


def test_a_run_that_goes_back_forgets_the_points_that_it_makes_again(tmp_path):
    log = files(tmp_path, [])
    for step in (10, 20, 30, 20):
        log.scalars(step, VALUES)
    assert [step for step, _ in read_metrics(tmp_path)] == [10, 20]
    assert [step for step, _ in log.points] == [10, 20]


def test_the_loss_log_has_the_classic_lines(tmp_path):
    files(tmp_path, []).scalars(13, VALUES)
    line = (tmp_path / "loss_log.txt").read_text()
    pattern = (
        r"\(epoch: 2, iters: 3, time: \d+\.\d{3}, data: 0\.002\) D_A: 0\.250 cycle_A: 1\.500\n"
    )
    assert re.fullmatch(pattern, line)


def test_a_disk_that_refuses_costs_one_line(tmp_path):
    said = []
    log = files(tmp_path / "is not there", said)
    log.scalars(1, VALUES)
    log.scalars(2, VALUES)
    assert len(said) == 1
    assert "training goes on" in said[0]


def test_the_page_shows_every_curve_and_preview_and_asks_no_server(tmp_path):
    log = files(tmp_path, [])
    log.scalars(1, VALUES)
    log.scalars(2, {**VALUES, "cycle_A": float("nan")})
    for step in (1, 2):
        log.show(step, Preview(Image.new("RGB", (8, 8))))
    page = (tmp_path / "index.html").read_text()
    for name in ("D_A", "cycle_A", "lr", "images_per_second"):
        assert f">{name}</text>" in page
    assert "step_00000001.png" in page
    assert 'src="previews/step_00000002.png"' in page
    assert "http" not in page
    assert "nan" not in page


def test_names_on_the_page_are_escaped(tmp_path):
    write_report(tmp_path, title="<b>", points=[(1, {"cycle_A.<i>": 1.0})])
    page = (tmp_path / "index.html").read_text()
    assert "<b>" not in page
    assert "<i>" not in page


def test_durations_read_as_a_clock():
    assert duration(3909.2) == "1:05:09"
    assert duration(75) == "1:15"
