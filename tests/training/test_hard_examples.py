"""Which training images are learned worst."""

import math

import pytest
from PIL import Image

from cyclegan.training.statistics.hard_examples import WORST, Lessons


@pytest.fixture
def lessons(tmp_path, make_images):
    files = make_images(tmp_path / "a", 10), make_images(tmp_path / "b", 3)
    return Lessons(files)


def test_an_image_seen_again_counts_half_anew(lessons):
    lessons.update(1, {"A": [(4, 10.0)]})
    lessons.update(2, {"A": [(4, 20.0)]})
    lessons.update(3, {"A": [(4, 5.0), (2, 7.0)]})
    assert lessons.errors["A"][[4, 2]].tolist() == [10.0, 7.0]
    assert lessons.seen["A"][[4, 2]].tolist() == [3, 3]


def test_what_is_no_number_is_passed_over(lessons):
    lessons.update(1, {"A": [(0, math.nan), (1, math.inf)]})
    assert lessons.hard_images() is None


def test_the_worst_come_first_with_their_pictures(lessons):
    lessons.update(1, {"A": [(place, float(place)) for place in range(10)], "B": [(1, 8.0)]})
    found = lessons.hard_images()
    assert [image.error for image in found.worst["A"]] == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    assert len(found.worst["A"]) == WORST
    assert found.worst["A"][0].file == str(lessons.files["A"][9])
    assert found.worst["A"][0].thumbnail.mode == "RGB"
    assert [image.error for image in found.worst["B"]] == [8.0]


def test_the_spread_counts_every_image_once(lessons):
    lessons.update(1, {"A": [(place, float(place)) for place in range(10)]})
    spread = lessons.hard_images().spread
    assert sum(spread["A"].counts) == 10
    assert (spread["A"].low, spread["A"].high) == (0.0, 9.0)
    assert spread["A"].counts[-1] == 1
    assert "B" not in spread


def test_an_image_that_is_gone_is_left_out(lessons):
    lessons.files["A"][9].unlink()
    lessons.update(1, {"A": [(8, 1.0), (9, 2.0)]})
    assert [image.error for image in lessons.hard_images().worst["A"]] == [1.0]


def test_of_several_processes_the_newest_sight_counts(lessons):
    others = [Lessons(tuple(lessons.files.values())) for _ in range(2)]
    others[0].update(5, {"A": [(0, 1.0), (1, 2.0)]})
    others[1].update(7, {"A": [(1, 9.0), (2, 3.0)]})
    lessons.load([other.state_dict() for other in others])
    assert lessons.errors["A"][:3].tolist() == [1.0, 9.0, 3.0]
    assert lessons.seen["A"][:4].tolist() == [5, 7, 7, -1]


def test_to_look_at_all_processes_changes_nothing_of_ones_own(lessons):
    other = Lessons(tuple(lessons.files.values()))
    other.update(5, {"A": [(0, 4.0)]})
    lessons.update(5, {"A": [(1, 3.0)]})
    together = lessons.of_all([lessons.state_dict(), other.state_dict()])
    assert [image.error for image in together.hard_images().worst["A"]] == [4.0, 3.0]
    assert [image.error for image in lessons.hard_images().worst["A"]] == [3.0]
    assert lessons.of_all([lessons.state_dict()]) is lessons


def test_a_run_that_goes_back_forgets_what_it_has_seen_since(lessons):
    lessons.update(1, {"A": [(0, 1.0)]})
    kept = lessons.state_dict()
    lessons.update(2, {"A": [(0, 3.0), (1, 5.0)]})
    lessons.load([kept])
    assert lessons.errors["A"][0] == 1.0
    assert lessons.seen["A"].tolist() == [1] + [-1] * 9


def test_another_number_of_images_begins_anew(lessons, tmp_path, make_images):
    lessons.update(1, {"A": [(0, 1.0)], "B": [(0, 2.0)]})
    other = Lessons((make_images(tmp_path / "c", 4), lessons.files["B"]))
    other.load([lessons.state_dict()])
    assert (other.seen["A"] == -1).all()
    assert other.errors["B"][0] == 2.0


def test_pictures_are_small(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (1000, 600)).save(path)
    lessons = Lessons(([path], [path]))
    lessons.update(1, {"A": [(0, 1.0)]})
    assert lessons.hard_images().worst["A"][0].thumbnail.size == (320, 192)
