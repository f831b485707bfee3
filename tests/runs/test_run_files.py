"""The files that a run writes while it trains: metrics, logs, previews, hard images, index.html."""

import json
import math
import re

import pytest
from PIL import Image

from cyclegan.monitor.files import FileMonitor
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram, Preview
from cyclegan.runs.hard_example_files import read_hard_images
from cyclegan.runs.metrics_log import MetricsReader, read_metrics, write_metrics

VALUES = {"D_A": 0.25, "cycle_A": 1.5, "lr": 2e-4, "images_per_second": 3.0, "data_wait": 0.002}


def files(run_dir):
    return FileMonitor(run_dir, steps_per_epoch=10)


def test_points_come_back_as_they_were_written(tmp_path):
    files(tmp_path).scalars(7, VALUES)
    assert read_metrics(tmp_path) == [(7, VALUES)]


def test_nan_is_valid_json_and_comes_back_as_nan(tmp_path):
    files(tmp_path).scalars(7, {"D_A": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7, "D_A": None}
    assert math.isnan(read_metrics(tmp_path)[0][1]["D_A"])


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "D_A": 0.5}\n{"step": 2, "D_')
    assert read_metrics(tmp_path) == [(1, {"D_A": 0.5})]


def test_the_points_of_a_saved_state_replace_the_file(tmp_path):
    files(tmp_path).scalars(30, VALUES)
    write_metrics(tmp_path, [(10, VALUES), (20, VALUES)])
    assert read_metrics(tmp_path) == [(10, VALUES), (20, VALUES)]


def test_a_rollback_drops_the_points_that_come_again(tmp_path):
    log = files(tmp_path)
    for step in (10, 20, 30, 20):
        log.scalars(step, VALUES)
    assert [step for step, _ in read_metrics(tmp_path)] == [10, 20]
    assert log.curves.copy()["D_A"].steps == [10, 20]


def test_the_loss_log_has_the_classic_lines(tmp_path):
    files(tmp_path).scalars(13, VALUES)
    line = (tmp_path / "loss_log.txt").read_text()
    pattern = (
        r"\(epoch: 2, iters: 3, time: \d+\.\d{3}, data: 0\.002\) D_A: 0\.250 cycle_A: 1\.500\n"
    )
    assert re.fullmatch(pattern, line)


def test_failing_writes_cost_one_line(tmp_path, said):
    log = files(tmp_path / "is not there")
    log.scalars(1, VALUES)
    log.scalars(2, VALUES)
    assert len(said) == 1
    assert "training goes on" in said[0]


def test_a_report_in_two_parts_is_one_point(tmp_path):
    log = files(tmp_path)
    log.scalars(10, VALUES)
    log.scalars(20, VALUES)
    log.scalars(20, {"pairs_A": 0.75})
    assert read_metrics(tmp_path) == [(10, VALUES), (20, VALUES | {"pairs_A": 0.75})]


def test_a_point_after_an_unfinished_line_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "D_A": 0.5}\n{"step": 2, "D_')
    files(tmp_path).scalars(3, {"D_A": 0.25})
    assert read_metrics(tmp_path) == [(1, {"D_A": 0.5}), (3, {"D_A": 0.25})]


def test_small_numbers_keep_their_digits(tmp_path):
    files(tmp_path).scalars(1, {"ratio_G_AB": 1.2345678e-7})
    assert read_metrics(tmp_path) == [(1, {"ratio_G_AB": 1.2345678e-7})]


@pytest.mark.parametrize(
    "line",
    ["7", "[1]", '{"D_A": 1}', '{"step": "x"}', '{"step": 1e999}', '{"step": []}', "[" * 9000],
)
def test_a_line_that_is_no_point_is_skipped(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"step": 2, "D_A": 0.5}}\n')
    assert read_metrics(tmp_path) == [(2, {"D_A": 0.5})]


def test_values_that_are_no_numbers_are_skipped(tmp_path):
    line = '{"step": 2, "D_A": 0.5, "a": "b", "c": true, "d": {}}\n'
    (tmp_path / "metrics.jsonl").write_text(line)
    assert read_metrics(tmp_path) == [(2, {"D_A": 0.5})]


def test_a_reader_yields_new_points_and_all_of_them_after_a_rewrite(tmp_path):
    reader = MetricsReader(tmp_path)
    assert list(reader.read_new()) == []
    files(tmp_path).scalars(10, {"D_A": 1.0})
    assert list(reader.read_new()) == [(10, {"D_A": 1.0})]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, ')
        file.flush()
        assert list(reader.read_new()) == []
        file.write('"D_A": 2.0}\n')
    assert list(reader.read_new()) == [(20, {"D_A": 2.0})]
    write_metrics(tmp_path, [(10, {"D_A": 1.0})])
    assert list(reader.read_new()) == [(10, {"D_A": 1.0})]


def test_the_curves_of_a_long_run_need_bounded_memory(tmp_path):
    lines = (json.dumps({"step": step, **VALUES}) + "\n" for step in range(0, 300_000, 100))
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    log = files(tmp_path)
    log.scalars(300_000, VALUES)
    curve = log.curves.copy()["D_A"]
    assert len(curve.steps) <= 501
    assert (curve.steps[0], curve.steps[-1]) == (0, 300_000)


def test_a_rollback_keeps_a_file_that_cannot_be_read(tmp_path, monkeypatch, said):
    log = files(tmp_path)
    for step in (10, 20, 30):
        log.scalars(step, VALUES)

    def away(self):
        raise OSError(5, "the network is away", str(self.path))
        yield

    with monkeypatch.context() as patched:
        patched.setattr(MetricsReader, "read_new", away)
        log.scalars(20, VALUES)
    assert len(said) == 1
    assert [step for step, _ in read_metrics(tmp_path)] == [10, 20, 30, 20]


def test_previews_and_their_small_copies_are_kept(tmp_path):
    log = files(tmp_path)
    log.show(400, Preview(Image.new("RGB", (8, 8), "red")))
    log.flush()
    folder = tmp_path / "previews"
    assert Image.open(folder / "step_00000400.png").getpixel((0, 0)) == (255, 0, 0)
    assert Image.open(folder / "small" / "step_00000400.jpg").format == "JPEG"


def test_hard_images_come_back_as_they_were_written(tmp_path, said):
    spread = {"A": Histogram((1, 4, 2), 0.0, 30.0), "B": Histogram((3, 0, 1), 0.0, 12.0)}
    worst = {"A": (HardImage("trainA/\udce4.png", 29.5, Image.new("RGB", (40, 30), "blue")),)}
    log = files(tmp_path)
    log.show(400, HardImages(spread, worst))
    log.flush()
    assert said == []
    kept = json.loads((tmp_path / "hard_images.json").read_text())
    assert kept["step"] == 400
    assert kept["A"]["spread"] == {"counts": [1, 4, 2], "low": 0.0, "high": 30.0}
    assert kept["A"]["worst"][0]["thumbnail"].startswith("data:image/jpeg;base64,")
    found = read_hard_images(tmp_path)
    assert found.spread == spread
    assert (found.worst["A"][0].file, found.worst["A"][0].error) == ("trainA/\udce4.png", 29.5)
    assert found.worst["A"][0].thumbnail.size == (40, 30)
    assert found.worst["B"] == ()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"A": 3}', '{"A": {"worst": [7, {"error": "x"}]}}'),
        '{"A": {"spread": {"counts": [1, -1], "low": 0, "high": 1}}}',
        '{"A": {"spread": {"counts": [1], "low": 1, "high": 0}}}',
        '{"A": {"worst": [{"file": "a", "error": 1, "thumbnail": "data:image/jpeg;base64,AAAA"}]}}',
        '{"A": {"worst": [{"file": "a", "error": 1, "thumbnail": "http://example.com/a.jpg"}]}}',
    ],
)
def test_a_broken_file_of_hard_images_is_ignored(tmp_path, text):
    (tmp_path / "hard_images.json").write_text(text)
    assert read_hard_images(tmp_path) is None


def test_index_html_takes_a_hundredth_of_the_time_and_is_written_at_the_end(tmp_path, monkeypatch):
    clock, written = [100.0], []

    def write(run_dir, **options):
        written.append(clock[0])
        clock[0] += 0.05

    monkeypatch.setattr("cyclegan.monitor.files.time.monotonic", lambda: clock[0])
    log = files(tmp_path)
    log.write_report = write
    for second in range(12):
        clock[0] = 100.0 + second
        log.show(second, Preview(Image.new("RGB", (8, 8))))
        log.flush()
    assert written == [100.0, 106.0]
    log.close()
    assert len(written) == 3
