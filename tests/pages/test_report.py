"""A run's index.html: made from its files alone, and opened from disk in a real browser."""

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
from cyclegan.monitor.files import Files
from cyclegan.pages.report import charts as drawing
from cyclegan.pages.report.report_page import thinned, write_report
from cyclegan.runs import preview_files as pictures
from cyclegan.runs.artifacts import Alarm, HardImage, HardImages, Health, Histogram, Preview
from cyclegan.runs.record import Record, write_record

__all__ = ["browser"]

RECORD = Record(
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


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with everything that a page can show."""
    folder = tmp_path / "horses"
    folder.mkdir()
    options = {**load_preset("quick"), "preset": "quick", "name": "horses", "lr": 0.0007}
    (folder / "settings.yaml").write_text(
        to_yaml(check(TrainSettings, {**options, "dataroot": "my data"}))
    )
    write_record(folder, RECORD)
    log = Files(folder, title="horses (quick)", steps_per_epoch=10, say=pytest.fail)
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


def text_of(run: Path) -> str:
    """The page without its pictures, styles and scripts."""
    page = (run / "index.html").read_text()
    page = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"base64,[^\"]*", "", page)


# What the page says


def test_the_page_says_how_the_run_is_and_how_it_was_made(run):
    page = text_of(run)
    for told in (
        *("<title>horses (quick)</title>", ">finished</span>", "step 2,000 of 2,000", "100 %"),
        *("3 h 05 min", "2026-03-01 14:00", "28.5", "of the inputs 41.25", "27.34 dB"),
        "python train.py --dataroot &#x27;my data&#x27; --preset quick",
        *("A: 40 images of 96x96 px", "warning: 2 are there twice", "on the CPU (2 threads)"),
        *("2.9.0", "zebra &lt;1&gt;.png", "29.5", "cycle error of 7 training images"),
    ):
        assert told in page, told
    for title in ("discriminators", "cycle", "sliced Wasserstein", "learning rate"):
        assert re.search(f"<h3>{title}", page), title


def test_settings_that_are_not_the_presets_come_first_and_all_are_folded(run):
    page = text_of(run)
    first, _, folded = page.partition("<details>")
    assert "<td>lr</td><td>0.0007</td><td>0.0005</td>" in first
    assert "<td>dataroot</td><td>my data</td><td>none</td>" in first
    assert "<table><thead><tr><th>option</th><th>here</th><th>preset</th></tr></thead>" in page
    # The preset's own, though not the program's default.
    assert "<td>ngf</td>" not in first
    assert "<td>ngf</td><td>24</td>" in folded
    assert "<td>no_flip</td><td>no</td>" in folded


def test_alarms_are_told_in_full_and_first(run):
    write_report(run, curves=thinned([(10, point(10))]), health=SICK)
    page = text_of(run)
    alarm, alone, line = page.index("its outputs are alike"), "1 alarm", "cycle error 6.1 levels"
    assert alarm < page.index(line)
    for told in ("collapse", "G_AB", "D learned too fast", "--lr_D 0.0001", alone):
        assert told in page, told
    assert "Nothing looks wrong" not in page


def test_the_health_that_the_run_was_told_of_last_is_on_its_page(run):
    log = Files(run, title="horses", steps_per_epoch=10, say=pytest.fail)
    log.show(2000, SICK)
    log.close()
    assert "its outputs are alike" in text_of(run)


def test_a_run_that_nobody_judged_is_judged_by_its_points(run, monkeypatch):
    judged = []

    def judge(points, *, total_steps):
        judged.append((len(points), total_steps))
        return SICK

    monkeypatch.setattr("cyclegan.pages.report.report_page.judge", judge)
    Files(run, title="horses", steps_per_epoch=10, say=pytest.fail).close()
    assert judged == [(200, 2000)]
    assert "its outputs are alike" in text_of(run)


def test_a_healthy_run_is_said_to_be_well(run):
    write_report(run, curves={}, health=Health(("all fine",), ()))
    assert "Nothing looks wrong" in text_of(run)


def test_an_empty_folder_has_a_page_too(tmp_path):
    write_report(tmp_path)
    page = text_of(tmp_path)
    assert "No preview yet." in page
    assert "Nothing was reported yet." in page


def test_a_folder_of_broken_files_has_a_page_too(tmp_path):
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


def test_nothing_from_files_is_taken_for_html(tmp_path):
    bad = '<script>alert(1)</script><img src="http://example.com/x">'
    (tmp_path / "settings.yaml").write_text(json.dumps({"preset": bad, "dataroot": bad}))
    write_record(tmp_path, Record((bad,), bad, bad, "failed", bad, 1, 2, (bad,), bad, {bad: bad}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, f"cycle_{bad}": 1.0}) + "\n")
    (tmp_path / "hard_images.json").write_text(
        json.dumps({"A": {"worst": [{"file": bad, "error": 1, "thumbnail": bad}]}})
    )
    (tmp_path / "evaluation.json").write_text(json.dumps({"step": bad, "swd_fake": bad}))
    alarm = Alarm(bad, bad, bad, bad, bad)
    write_report(tmp_path, title=bad, curves=thinned([(1, {f"cycle_{bad}": 1.0})]),
                 health=Health((bad,), (alarm,)))  # fmt: skip
    page = (tmp_path / "index.html").read_text()
    assert page.count("<script") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10


# Curves


def test_axes_have_round_numbers_by_hand():
    span = drawing._span(0.0, 0.62, most=5)
    assert span.ticks == pytest.approx((0.0, 0.2, 0.4, 0.6))
    assert (span.low, span.high) == pytest.approx((0.0, 0.62 * 1.04))
    steps = drawing._span(100, 19_900, most=6, whole=True)
    assert steps.ticks == (5000.0, 10_000.0, 15_000.0)
    assert drawing._rounded(steps.ticks) == ["5k", "10k", "15k"]
    assert drawing._rounded((0.0, 1e-4, 2e-4)) == ["0", "1e-4", "2e-4"]
    assert drawing._rounded((0.0, 0.25)) == ["0", "0.25"]


@pytest.mark.parametrize("level", [0.0, 2e-4, -3.0, 1e12])
def test_a_curve_that_does_not_move_lies_in_the_middle(level):
    span = drawing._span(level, level, most=5)
    assert span.place(level) == pytest.approx(0.5)


def test_a_line_goes_where_its_values_are():
    x, y = drawing.Span(0, 100, ()), drawing.Span(0.0, 2.0, ())
    assert drawing._line([0, 50, 100], [0.0, 1.0, 2.0], x, y) == "0,1000 500,500 1000,0"
    assert drawing._line([50], [1.0], x, y) == "500,500 500,500"


def test_a_thinned_line_keeps_its_newest_point():
    x, y = drawing.Span(0, 999, ()), drawing.Span(0.0, 1.0, ())
    line = drawing._line(list(range(1000)), [0.5] * 1000, x, y).split()
    assert len(line) <= 400
    assert line[-1] == "1000,500"


def test_a_rare_value_does_not_flatten_a_curve():
    values = [1.0 + 0.001 * (step % 7) for step in range(400)]
    values[200] = 1e6
    page = "".join(drawing.charts(thinned((s, {"D_A": v}) for s, v in enumerate(values))))
    low, high = map(float, re.search(r'data-y="(\S+) (\S+)"', page).groups())
    # Of its running mean a tenth of that value is left, for a while.
    assert high < 1.2e5
    assert "nan" not in page


def test_what_is_not_finite_is_not_drawn():
    points = [(1, {"D_A": 1.0, "D_B": float("inf")}), (2, {"D_A": float("nan")})]
    page = "".join(drawing.charts(thinned(points)))
    assert "D_A<b>1</b>" in page
    assert "D_B" not in page


def test_a_domain_has_one_colour_and_its_parts_other_dashes():
    names = ["cycle_A", "cycle_A.l1", "cycle_B", "gradient_D_A", "swd"]
    assert list(drawing._looks(names)) == ["c0 d0", "c0 d1", "c1 d0", "c2 d0", "c3 d0"]


# Previews


@pytest.mark.parametrize("count", [0, 1, 2, 39, 40, 41, 100, 2160])
def test_previews_are_spread_evenly_the_first_and_the_newest_always(count):
    steps = list(range(0, 400 * count, 400))
    chosen = pictures.spread(steps)
    assert len(chosen) == count if count < 40 else 20 <= len(chosen) <= 40
    assert chosen[:1] == steps[:1]
    assert chosen[-1:] == steps[-1:]
    assert len(set(map(int.__sub__, chosen[1:-1], chosen[:-2]))) <= 1


def test_a_preview_that_was_left_out_once_is_never_shown_again_but_as_the_newest():
    left_out: set[int] = set()
    for count in range(1, 400):
        steps = list(range(count))
        chosen = set(pictures.spread(steps))
        assert not left_out & chosen - {count - 1}
        left_out |= set(steps[:-1]) - chosen


def test_each_preview_is_made_small_once(run, monkeypatch):
    made: list[int] = []
    monkeypatch.setattr(pictures, "_keep_small", lambda run_dir, step, data: made.append(step))
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


def test_all_pictures_together_are_bounded(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1300, 3), dtype=np.uint8)
    pictures.keep_preview(tmp_path, 1, Preview(Image.fromarray(noise)))
    small = tmp_path / "previews" / "small" / "step_00000001.jpg"
    assert pictures.MOST_PREVIEWS * small.stat().st_size <= 8e6


def test_previews_after_the_newest_point_are_of_a_run_that_went_back(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:120]))
    write_report(run)
    assert embedded(run).keys() == {500, 1000}


def test_a_run_whose_folder_cannot_be_written_shows_its_previews_all_the_same(run, monkeypatch):
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
def test_the_page_opens_from_disk_asks_nothing_of_a_network_and_prints(run, browser, tmp_path):
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
    assert shown(page) == ["2,000"], "on paper it is the newest"
    assert not page.locator(".slider").is_visible()
    assert page.pdf().startswith(b"%PDF")
    assert wrong == []


@pytest.mark.slow
def test_the_pointer_on_a_chart_tells_the_values_there(run, browser):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto((run / "index.html").as_uri())
    chart = page.locator(".chart", has_text="cycle").first
    told = chart.locator(".legend b")
    newest = told.inner_text()
    plot = chart.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 50)
    # At its begin the curve is 100 / 110, at its end about 100 / 2100.
    assert float(told.inner_text()) == pytest.approx(0.909, abs=0.01)
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 50)
    assert float(told.inner_text()) == pytest.approx(float(newest), abs=0.005)
    assert chart.locator(".at").get_attribute("data-step") in ("1,995", "1,996", "1,997", "1,998")
    page.mouse.move(0, 0)
    assert told.inner_text() == newest
    assert chart.locator(".at").count() == 0


@pytest.mark.slow
def test_without_scripts_the_newest_preview_is_there(run, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run / "index.html").as_uri())
    assert page.locator(".stack img").nth(3).is_visible()
    assert not page.locator(".stack img").first.is_visible()
    context.close()


@pytest.mark.slow
def test_a_script_that_got_in_is_not_run(run, browser):
    page_text = (run / "index.html").read_text()
    evil = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title='evil'\">"
    (run / "index.html").write_text(page_text.replace("<main>", f"{evil}<main>"))
    page = browser.new_page()
    page.goto((run / "index.html").as_uri())
    page.wait_for_timeout(300)
    assert page.title() == "horses (quick)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_is_never_wider_than_the_window(run, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((run / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
