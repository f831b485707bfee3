"""The previews on the page's slider, bounded."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.pages import picture

from cyclegan.pages.visdom.slider import MAX_FRAMES, Frames
from cyclegan.pages.visdom.windows import POSITIONS, plain_slider, slider
from cyclegan.runs.artifacts import Preview
from cyclegan.runs.preview_files import keep_preview


def test_the_slider_keeps_the_first_and_newest_and_spreads_the_others() -> None:
    frames = Frames(None)
    for step in range(0, 1_000_000, 400):
        frames.add(step, Preview(picture(8, 8)))
        frames.copy()[-1].encode()
    steps = [frame.step for frame in frames.copy()]
    assert (steps[0], steps[-1], len(steps)) == (0, 999_600, MAX_FRAMES)
    gaps = [b - a for a, b in zip(steps, steps[1:], strict=False)][:-1]
    assert max(gaps) <= 3 * min(gaps)


def test_one_picture_at_most_waits_in_memory(tmp_path: Path) -> None:
    frames = Frames(tmp_path)
    for step in (0, 400, 800):
        preview = Preview(picture(8, 8))
        frames.add(step, preview)
        keep_preview(tmp_path, step, preview)
    assert [frame.preview is not None for frame in frames.copy()] == [False, False, True]
    assert all(frame.encode()[:2] == b"\xff\xd8" for frame in frames.copy())
    assert all(frame.preview is None for frame in frames.copy())


def test_previews_told_again_replace_the_old_ones() -> None:
    frames = Frames(None)
    for step in (0, 400, 800):
        frames.add(step, Preview(picture(8, 8)))
        frames.copy()[-1].encode()
    first = frames.copy()[0]
    frames.add(400, Preview(picture(16, 8)))
    assert [frame.step for frame in frames.copy()] == [0, 400]
    assert frames.copy()[0] is first
    frames.copy()[1].encode()
    assert frames.copy()[1].size == (16, 8)


def test_a_long_run_s_files_are_thinned_before_any_is_read(tmp_path: Path) -> None:
    for step in range(0, 30_000, 10):
        (tmp_path / "previews").mkdir(exist_ok=True)
        (tmp_path / "previews" / f"step_{step:08d}.png").touch()
    (tmp_path / "previews" / "step_x.png").touch()
    (tmp_path / "previews" / "notes.txt").touch()
    frames = Frames(tmp_path)
    assert frames.take_up(frames.find(), before=25_005) == 25_000
    steps = [frame.step for frame in frames.copy()]
    assert (steps[0], steps[-1], len(steps)) == (0, 25_000, MAX_FRAMES)


def test_a_picture_is_sent_in_less_than_300_kB() -> None:
    noise = Image.effect_noise((2600, 3900), 100).convert("RGB")
    frames = Frames(None)
    frames.add(0, Preview(noise))
    data = frames.copy()[0].encode()
    assert len(json.dumps(plain_slider(123_456, data, size=(8, 8)))) < 300_000


@pytest.mark.parametrize("count", [1, 2, 7, 199, 200])
def test_the_slider_has_always_as_many_positions_and_shows_every_picture(count: int) -> None:
    frames = [(100 * index, f"{index}.jpg") for index in range(count)]
    shown = [frame["src"] for frame in slider(frames, size=(8, 8))["frames"]]
    assert len(shown) == POSITIONS >= MAX_FRAMES
    assert list(dict.fromkeys(shown)) == [source for _, source in frames]
    counts = [shown.count(source) for _, source in frames]
    assert max(counts) - min(counts) <= 1
