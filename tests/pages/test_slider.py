"""The previews on the page's slider."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.pages import picture

from cyclegan.pages.visdom import windows
from cyclegan.pages.visdom.slider import MAX_FRAMES, PreviewSlider
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.preview_files import save_preview


def test_the_slider_keeps_the_first_and_the_newest_and_spreads_the_others() -> None:
    slider = PreviewSlider(None)
    for step in range(0, 1_000_000, 400):
        slider.add(step, Preview(picture(8, 8)))
        slider.copy()[-1].encode()
    steps = [frame.step for frame in slider.copy()]
    assert (steps[0], steps[-1], len(steps)) == (0, 999_600, MAX_FRAMES)
    gaps = [b - a for a, b in zip(steps, steps[1:], strict=False)][:-1]
    assert max(gaps) <= 3 * min(gaps)


def test_at_most_one_picture_stays_in_memory(tmp_path: Path) -> None:
    slider = PreviewSlider(tmp_path)
    for step in (0, 400, 800):
        preview = Preview(picture(8, 8))
        slider.add(step, preview)
        save_preview(tmp_path, step, preview)
    assert [frame.preview is not None for frame in slider.copy()] == [False, False, True]
    assert all(frame.encode()[:2] == b"\xff\xd8" for frame in slider.copy())
    assert all(frame.preview is None for frame in slider.copy())


def test_a_preview_replaces_later_ones_after_a_rollback() -> None:
    slider = PreviewSlider(None)
    for step in (0, 400, 800):
        slider.add(step, Preview(picture(8, 8)))
        slider.copy()[-1].encode()
    first = slider.copy()[0]
    slider.add(400, Preview(picture(16, 8)))
    assert [frame.step for frame in slider.copy()] == [0, 400]
    assert slider.copy()[0] is first
    slider.copy()[1].encode()
    assert slider.copy()[1].size == (16, 8)


def test_the_files_of_a_long_run_are_thinned_before_any_is_read(tmp_path: Path) -> None:
    for step in range(0, 30_000, 10):
        (tmp_path / "previews").mkdir(exist_ok=True)
        (tmp_path / "previews" / f"step_{step:08d}.png").touch()
    (tmp_path / "previews" / "step_x.png").touch()
    (tmp_path / "previews" / "notes.txt").touch()
    slider = PreviewSlider(tmp_path)
    assert slider.prepend(slider.find(), before=25_005) == 25_000
    steps = [frame.step for frame in slider.copy()]
    assert (steps[0], steps[-1], len(steps)) == (0, 25_000, MAX_FRAMES)


def test_a_message_with_a_picture_has_less_than_300_kB() -> None:
    noise = Image.effect_noise((2600, 3900), 100).convert("RGB")
    slider = PreviewSlider(None)
    slider.add(0, Preview(noise))
    data = slider.copy()[0].encode()
    assert len(json.dumps(windows.plain_slider(123_456, data, size=(8, 8)))) < 300_000


@pytest.mark.parametrize("count", [1, 2, 7, 199, 200])
def test_the_slider_always_has_the_same_number_of_positions_and_shows_every_picture(
    count: int,
) -> None:
    frames = [(100 * index, f"{index}.jpg") for index in range(count)]
    shown = [frame["src"] for frame in windows.slider(frames, size=(8, 8))["frames"]]
    assert len(shown) == windows.POSITIONS >= MAX_FRAMES
    assert list(dict.fromkeys(shown)) == [source for _, source in frames]
    counts = [shown.count(source) for _, source in frames]
    assert max(counts) - min(counts) <= 1
