"""The curves of a run so far, in bounded memory."""

import pytest

from cyclegan.monitor.health.history import MAX_POINTS, BoundedCurve, Curves


@pytest.mark.parametrize("count", [1, 1000, 1001, 1002, 5000, 123_457])
def test_a_curve_is_bounded_and_keeps_its_first_and_newest_point(count: int) -> None:
    curve = BoundedCurve()
    for step in range(count):
        curve.add(step, step / 2)
    assert len(curve.steps) <= MAX_POINTS
    assert len(curve.steps) >= min(count, MAX_POINTS // 2)
    assert (curve.steps[0], curve.steps[-1]) == (0, count - 1)
    assert len(set(map(int.__sub__, curve.steps[1:-1], curve.steps[:-2]))) <= 1, "evenly spaced"
    assert curve.values == pytest.approx([step / 2 for step in curve.steps], rel=1e-4)


def test_a_point_at_an_earlier_step_drops_the_later_ones() -> None:
    curve = BoundedCurve()
    for step, value in [(0, 1.0), (10, 2.0), (20, 3.0), (10, 4.0), (20, 5.0)]:
        curve.add(step, value)
    assert curve.copy()[:2] == ([0, 10, 20], [1.0, 4.0, 5.0])


def test_a_rollback_drops_the_later_points_of_all_curves() -> None:
    curves = Curves()
    for step in (100, 200, 300, 400):
        curves.add(step, {"cycle_A": step / 100} | ({"swd": 1.0} if step % 200 == 0 else {}))
    curves.forget(300)
    assert {name: points.steps for name, points in curves.copy().items()} == {
        "cycle_A": [100, 200],
        "swd": [200],
    }
    curves.forget(50)
    assert curves.copy() == {}


def test_a_thinned_curve_rolls_back_and_goes_on() -> None:
    curve = BoundedCurve()
    for step in range(5000):
        curve.add(step, step)
    curve.forget(2500)
    assert curve.steps[-1] < 2500
    for step in range(2500, 6000):
        curve.add(step, step)
    assert curve.steps == sorted(set(curve.steps))
    assert curve.values == pytest.approx(curve.steps, rel=1e-4)
    assert (curve.steps[0], curve.steps[-1]) == (0, 5999)
    assert len(curve.steps) <= MAX_POINTS
