"""The training images with the largest cycle errors."""

import math

import pytest
from PIL import Image

from cyclegan.training.statistics.hard_examples import NUM_SHOWN, HardExamples


@pytest.fixture
def examples(tmp_path, make_images):
    files = make_images(tmp_path / "a", 10), make_images(tmp_path / "b", 3)
    return HardExamples(files)


def test_an_image_seen_again_counts_half_anew(examples):
    examples.update(1, {"A": [(4, 10.0)]})
    examples.update(2, {"A": [(4, 20.0)]})
    examples.update(3, {"A": [(4, 5.0), (2, 7.0)]})
    assert examples.errors["A"][[4, 2]].tolist() == [10.0, 7.0]
    assert examples.seen["A"][[4, 2]].tolist() == [3, 3]


def test_errors_that_are_not_finite_are_skipped(examples):
    examples.update(1, {"A": [(0, math.nan), (1, math.inf)]})
    assert examples.shown() is None


def test_the_worst_come_first_with_their_pictures(examples):
    examples.update(1, {"A": [(place, float(place)) for place in range(10)], "B": [(1, 8.0)]})
    found = examples.shown()
    assert [image.error for image in found.worst["A"]] == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    assert len(found.worst["A"]) == NUM_SHOWN
    assert found.worst["A"][0].file == str(examples.files["A"][9])
    assert found.worst["A"][0].thumbnail.mode == "RGB"
    assert [image.error for image in found.worst["B"]] == [8.0]


def test_the_spread_counts_every_image_once(examples):
    examples.update(1, {"A": [(place, float(place)) for place in range(10)]})
    spread = examples.shown().spread
    assert sum(spread["A"].counts) == 10
    assert (spread["A"].low, spread["A"].high) == (0.0, 9.0)
    assert spread["A"].counts[-1] == 1
    assert "B" not in spread


def test_an_image_that_is_gone_is_left_out(examples):
    examples.files["A"][9].unlink()
    examples.update(1, {"A": [(8, 1.0), (9, 2.0)]})
    assert [image.error for image in examples.shown().worst["A"]] == [1.0]


def test_the_latest_error_of_all_ranks_counts(examples):
    others = [HardExamples(tuple(examples.files.values())) for _ in range(2)]
    others[0].update(5, {"A": [(0, 1.0), (1, 2.0)]})
    others[1].update(7, {"A": [(1, 9.0), (2, 3.0)]})
    examples.load_state_dicts([other.state_dict() for other in others])
    assert examples.errors["A"][:3].tolist() == [1.0, 9.0, 3.0]
    assert examples.seen["A"][:4].tolist() == [5, 7, 7, -1]


def test_merging_ranks_leaves_the_own_errors_unchanged(examples):
    other = HardExamples(tuple(examples.files.values()))
    other.update(5, {"A": [(0, 4.0)]})
    examples.update(5, {"A": [(1, 3.0)]})
    together = examples.merged([examples.state_dict(), other.state_dict()])
    assert [image.error for image in together.shown().worst["A"]] == [4.0, 3.0]
    assert [image.error for image in examples.shown().worst["A"]] == [3.0]
    assert examples.merged([examples.state_dict()]) is examples


def test_a_rollback_forgets_later_errors(examples):
    examples.update(1, {"A": [(0, 1.0)]})
    kept = examples.state_dict()
    examples.update(2, {"A": [(0, 3.0), (1, 5.0)]})
    examples.load_state_dicts([kept])
    assert examples.errors["A"][0] == 1.0
    assert examples.seen["A"].tolist() == [1] + [-1] * 9


def test_another_number_of_images_begins_anew(examples, tmp_path, make_images):
    examples.update(1, {"A": [(0, 1.0)], "B": [(0, 2.0)]})
    other = HardExamples((make_images(tmp_path / "c", 4), examples.files["B"]))
    other.load_state_dicts([examples.state_dict()])
    assert (other.seen["A"] == -1).all()
    assert other.errors["B"][0] == 2.0


def test_thumbnails_are_small(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (1000, 600)).save(path)
    examples = HardExamples(([path], [path]))
    examples.update(1, {"A": [(0, 1.0)]})
    assert examples.shown().worst["A"][0].thumbnail.size == (320, 192)
