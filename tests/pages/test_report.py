"""A run's index.html: written from its files alone, and opened from disk in a browser."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pages import browser

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.yaml_files import load_preset, to_yaml
from cyclegan.monitor.files import FileMonitor
from cyclegan.pages.report import index_page, svg_charts
from cyclegan.pages.report.index_page import thinned, write_report
from cyclegan.runs import preview_files as pictures
from cyclegan.runs.artifacts import Alarm, HardImage, HardImages, Health, Histogram, Preview
from cyclegan.runs.record import RunRecord, write_record

__all__ = ["browser"]

RECORD = RunRecord(
    command=("python", "train.py", "--dataroot", "my data", "--preset", "quick"),
    started="2026-03-01T14:00:00+00:00",
    ended="2026-03-01T17:05:00+00:00",
    state="finished",
    step=2000,
    total_steps=2000,
    data=("A: 40 images of 96x96 px", "  warning: 2 are there twice"),
    device="on the CPU (2 threads)",
    versions={"torch": "2.9.0"},
)
SICK = Health(
    ("cycle error 6.1 levels of 255",),
    (Alarm("collapse", "G_AB", "its outputs are alike", "D learned too fast", "--lr_D 0.0001"),),
)


def point(step: int) -> dict[str, float]:
    return {"D_A": 0.25, "cycle_A": 100 / (step + 100), "lr": 2e-4, "swd": 30.0}


def preview(level: int) -> Preview:
    return Preview(Image.new("RGB", (60, 40), (level, 80, 80)))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with everything that a page can show."""
    folder = tmp_path_factory.mktemp("runs") / "horses"
    folder.mkdir()
    options = {**load_preset("quick"), "preset": "quick", "name": "horses", "lr": 0.0007}
    (folder / "settings.yaml").write_text(
        to_yaml(check(TrainSettings, {**options, "dataroot": "my data"}))
    )
    write_record(folder, RECORD)
    log = FileMonitor(folder, steps_per_epoch=10)
    for step in range(10, 2010, 10):
        log.scalars(step, point(step))
        if step % 500 == 0:
            log.show(step, preview(step // 10))
    worst = (HardImage("trainA/zebra <1>.png", 29.5, Image.new("RGB", (30, 30), "blue")),)
    log.show(2000, HardImages({"A": Histogram((1, 4, 2), 0.0, 30.0)}, {"A": worst}))
    figures = {"step": 2000, "images": 8, "swd_input": 41.25, "swd_fake": 28.5}
    figures |= {"psnr_input": 26.0, "psnr_fake": 27.34, "nearer": 0.3}
    (folder / "evaluation.json").write_text(json.dumps(figures))
    log.close()
    return folder


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "horses")


def text_of(run: Path) -> str:
    """The page without its pictures, styles and scripts."""
    page = (run / "index.html").read_text()
    page = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"base64,[^\"]*", "", page)


# Content


def test_the_page_shows_the_results_of_a_run_and_how_it_was_made(run):
    page = text_of(run)
    for expected in (
        *("<title>horses (quick)</title>", ">finished</span>", "step 2,000 of 2,000", "100 %"),
        *("3 h 05 min", "2026-03-01 14:00", "28.5", "of the inputs 41.25", "27.34 dB"),
        "python train.py --dataroot &#x27;my data&#x27; --preset quick",
        *("A: 40 images of 96x96 px", "warning: 2 are there twice", "on the CPU (2 threads)"),
        *("2.9.0", "zebra &lt;1&gt;.png", "29.5", "cycle error of 7 training images"),
    ):
        assert expected in page, expected
    for title in ("discriminators", "cycle", "sliced Wasserstein", "learning rate"):
        assert re.search(f"<h3>{title}", page), title


def test_changed_settings_come_first_and_all_settings_are_folded(run):
    page = text_of(run)
    first, _, folded = page.partition("<details>")
    assert "<td>lr</td><td>0.0007</td><td>0.0005</td>" in first
    assert "<td>dataroot</td><td>my data</td><td>none</td>" in first
    assert "<table><thead><tr><th>option</th><th>here</th><th>preset</th></tr></thead>" in page
    # Set by the preset, though not the default.
    assert "<td>ngf</td>" not in first
    assert "<td>ngf</td><td>24</td>" in folded
    assert "<td>no_flip</td><td>no</td>" in folded


def test_alarms_come_first_and_in_full(run):
    write_report(run, curves=thinned([(10, point(10))]), health=SICK)
    page = text_of(run)
    alarm, alone, line = page.index("its outputs are alike"), "1 alarm", "cycle error 6.1 levels"
    assert alarm < page.index(line)
    for expected in ("collapse", "G_AB", "D learned too fast", "--lr_D 0.0001", alone):
        assert expected in page, expected
    assert "Nothing looks wrong" not in page


def test_the_page_shows_the_latest_health(run):
    log = FileMonitor(run, steps_per_epoch=10)
    log.show(2000, SICK)
    log.close()
    assert "its outputs are alike" in text_of(run)


def test_the_health_of_a_run_without_any_is_computed_from_its_points(run, monkeypatch):
    calls = []

    def summarize_health(points, *, total_steps):
        calls.append((len(points), total_steps))
        return SICK

    monkeypatch.setattr(index_page, "summarize_health", summarize_health)
    FileMonitor(run, steps_per_epoch=10).close()
    assert calls == [(200, 2000)]
    assert "its outputs are alike" in text_of(run)


def test_a_healthy_run_is_said_to_be_healthy(run):
    write_report(run, curves={}, health=Health(("all fine",), ()))
    assert "Nothing looks wrong" in text_of(run)


def test_an_empty_folder_gets_a_page(tmp_path):
    write_report(tmp_path)
    page = text_of(tmp_path)
    assert "No preview yet." in page
    assert "Nothing was reported yet." in page


def test_a_folder_of_broken_files_gets_a_page(tmp_path):
    for name in (
        "run.json",
        "settings.yaml",
        "metrics.jsonl",
        "evaluation.json",
        "hard_images.json",
    ):
        (tmp_path / name).write_bytes(b"\xff\x00{[")
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / "step_00000400.png").write_bytes(b"no picture")
    (tmp_path / "previews" / "step_00000800.png").mkdir()
    write_report(tmp_path)
    assert "No preview yet." in text_of(tmp_path)


def test_text_from_files_is_escaped(tmp_path):
    bad = '<script>alert(1)</script><img src="http://example.com/x">'
    (tmp_path / "settings.yaml").write_text(json.dumps({"preset": bad, "dataroot": bad}))
    write_record(
        tmp_path, RunRecord((bad,), bad, bad, "failed", bad, 1, 2, (bad,), bad, {bad: bad})
    )
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, f"cycle_{bad}": 1.0}) + "\n")
    (tmp_path / "hard_images.json").write_text(
        json.dumps({"A": {"worst": [{"file": bad, "error": 1, "thumbnail": bad}]}})
    )
    (tmp_path / "evaluation.json").write_text(json.dumps({"step": bad, "swd_fake": bad}))
    alarm = Alarm(bad, bad, bad, bad, bad)
    write_report(tmp_path, curves=thinned([(1, {f"cycle_{bad}": 1.0})]),
                 health=Health((bad,), (alarm,)))  # fmt: skip
    page = (tmp_path / "index.html").read_text()
    assert page.count("<script") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10


# Curves


def test_axes_have_round_numbers():
    axis = svg_charts._axis(0.0, 0.62, max_ticks=5)
    assert axis.ticks == pytest.approx((0.0, 0.2, 0.4, 0.6))
    assert (axis.low, axis.high) == pytest.approx((0.0, 0.62 * 1.04))
    steps = svg_charts._axis(100, 19_900, max_ticks=6, integer=True)
    assert steps.ticks == (5000.0, 10_000.0, 15_000.0)
    assert svg_charts._labels(steps.ticks) == ["5k", "10k", "15k"]
    assert svg_charts._labels((0.0, 1e-4, 2e-4)) == ["0", "1e-4", "2e-4"]
    assert svg_charts._labels((0.0, 0.25)) == ["0", "0.25"]


@pytest.mark.parametrize("level", [0.0, 2e-4, -3.0, 1e12])
def test_a_constant_curve_lies_in_the_middle(level):
    axis = svg_charts._axis(level, level, max_ticks=5)
    assert axis.position(level) == pytest.approx(0.5)


def test_the_points_of_a_line_are_placed_by_its_values():
    x, y = svg_charts.Axis(0, 100, ()), svg_charts.Axis(0.0, 2.0, ())
    assert svg_charts._points([0, 50, 100], [0.0, 1.0, 2.0], x, y) == "0,1000 500,500 1000,0"
    assert svg_charts._points([50], [1.0], x, y) == "500,500 500,500"


def test_an_outlier_does_not_flatten_a_curve():
    values = [1.0 + 0.001 * (step % 7) for step in range(400)]
    values[200] = 1e6
    page = "".join(svg_charts.charts(thinned((s, {"D_A": v}) for s, v in enumerate(values))))
    low, high = map(float, re.search(r'data-y="(\S+) (\S+)"', page).groups())
    # The running mean keeps a tenth of that value for a while.
    assert high < 1.2e5
    assert "nan" not in page


def test_values_that_are_not_finite_are_not_drawn():
    points = [(1, {"D_A": 1.0, "D_B": float("inf")}), (2, {"D_A": float("nan")})]
    page = "".join(svg_charts.charts(thinned(points)))
    assert "D_A<b>1</b>" in page
    assert "D_B" not in page


# Previews


@pytest.mark.parametrize("count", [0, 1, 2, 39, 40, 41, 100, 2160])
def test_evenly_spread_previews_include_the_first_and_the_newest(count):
    steps = list(range(0, 400 * count, 400))
    chosen = pictures.choose_evenly(steps)
    assert len(chosen) == count if count < 40 else 20 <= len(chosen) <= 40
    assert chosen[:1] == steps[:1]
    assert chosen[-1:] == steps[-1:]
    assert len(set(map(int.__sub__, chosen[1:-1], chosen[:-2]))) <= 1


def test_a_preview_left_out_once_is_shown_again_only_as_the_newest():
    left_out: set[int] = set()
    for count in range(1, 400):
        steps = list(range(count))
        chosen = set(pictures.choose_evenly(steps))
        assert not left_out & chosen - {count - 1}
        left_out |= set(steps[:-1]) - chosen


def test_each_preview_is_reduced_once(run, monkeypatch):
    made: list[int] = []
    monkeypatch.setattr(pictures, "_save_small", lambda run_dir, step, data: made.append(step))
    write_report(run)
    assert made == []
    (run / "previews" / "small" / "step_00001000.jpg").unlink()
    (run / "previews" / "small" / "step_00001500.jpg").write_bytes(b"no picture")
    monkeypatch.undo()
    write_report(run)
    assert embedded(run).keys() == {500, 1000, 1500, 2000}
    assert (run / "previews" / "small" / "step_00001500.jpg").read_bytes()[:2] == b"\xff\xd8"


def embedded(run: Path) -> dict[int, bytes]:
    found = re.findall(r'data-step="([\d,]+)" src="data:image/jpeg;base64,([^"]+)"',
                       (run / "index.html").read_text())  # fmt: skip
    return {int(step.replace(",", "")): base64.b64decode(data) for step, data in found}


def test_the_size_of_all_previews_together_is_bounded(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1300, 3), dtype=np.uint8)
    pictures.save_preview(tmp_path, 1, Preview(Image.fromarray(noise)))
    small = tmp_path / "previews" / "small" / "step_00000001.jpg"
    assert pictures.MAX_PREVIEWS * small.stat().st_size <= 8e6


def test_previews_after_the_newest_point_are_left_out_as_rolled_back(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:120]))
    write_report(run)
    assert embedded(run).keys() == {500, 1000}


def test_previews_are_shown_if_their_reduced_files_cannot_be_written(run, monkeypatch):
    shutil.rmtree(run / "previews" / "small")
    (run / "previews" / "small").write_text("a file where the folder should be")
    write_report(run)
    assert embedded(run).keys() == {500, 1000, 1500, 2000}


# In a browser


def shown(page: Any) -> list[str]:
    """The steps of the previews that can be seen, decoded."""
    script = "i => i.offsetWidth > 0 && i.naturalWidth === 60 ? [i.dataset.step] : []"
    return page.evaluate(f"[...document.querySelectorAll('.stack img')].flatMap({script})")


@pytest.mark.slow
def test_the_page_opens_from_disk_without_network_requests_and_prints(run, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    requests: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    alone = tmp_path / "alone.html"
    shutil.copy(run / "index.html", alone)
    page.goto(alone.as_uri())
    page.wait_for_load_state("networkidle")

    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert [url for url in requests if url.startswith("file")] == [alone.as_uri()]
    assert shown(page) == ["2,000"]
    page.locator("#when").fill("1")
    assert shown(page) == ["1,000"]
    assert page.locator("#step").inner_text() == "step 1,000"
    page.locator("#when").press("ArrowLeft")
    assert shown(page) == ["500"]

    page.emulate_media(media="print")
    assert shown(page) == ["2,000"], "the newest is printed"
    assert not page.locator(".slider").is_visible()
    assert page.pdf().startswith(b"%PDF")
    assert wrong == []


@pytest.mark.slow
def test_a_chart_shows_the_values_under_the_pointer(run, browser):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto((run / "index.html").as_uri())
    chart = page.locator(".chart", has_text="cycle").first
    shown = chart.locator(".legend b")
    newest = shown.inner_text()
    plot = chart.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 50)
    # The curve falls from 100 / 110 to about 100 / 2100.
    assert float(shown.inner_text()) == pytest.approx(0.909, abs=0.01)
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 50)
    assert float(shown.inner_text()) == pytest.approx(float(newest), abs=0.005)
    assert chart.locator(".at").get_attribute("data-step") in ("1,995", "1,996", "1,997", "1,998")
    page.mouse.move(0, 0)
    assert shown.inner_text() == newest
    assert chart.locator(".at").count() == 0


@pytest.mark.slow
def test_the_newest_preview_is_visible_without_scripts(run, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run / "index.html").as_uri())
    assert page.locator(".stack img").nth(3).is_visible()
    assert not page.locator(".stack img").first.is_visible()
    context.close()


@pytest.mark.slow
def test_an_injected_script_is_not_run(run, browser):
    page_text = (run / "index.html").read_text()
    evil = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title='evil'\">"
    (run / "index.html").write_text(page_text.replace("<main>", f"{evil}<main>"))
    page = browser.new_page()
    page.goto((run / "index.html").as_uri())
    page.wait_for_timeout(300)
    assert page.title() == "horses (quick)"


@pytest.mark.slow
def test_the_page_is_never_wider_than_the_window(run, browser):
    page = browser.new_page()
    page.goto((run / "index.html").as_uri())
    for width in (360, 800, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
