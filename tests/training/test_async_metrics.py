"""A step's numbers on their way to the host, and what is made of those that are none."""

import pytest
import torch
from torch import Tensor

from cyclegan.training.statistics.async_metrics import (
    LONGEST_SEARCH,
    MOST_FAULTS,
    Guard,
    Reading,
    Readings,
)

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


def guard(**options) -> tuple[Guard, list[str]]:
    said: list[str] = []
    return Guard(**{"fp16": False, "alone": True, "say": said.append, **options}), said


def looked(guard: Guard, *values: dict[str, float]) -> list[bool]:
    return [guard.look(Reading(step, each)) for step, each in enumerate(values, 1)]


GOOD, BAD = {"cycle_A": 1.0, "gradient_G_AB": 2.0}, {"cycle_A": NAN, "gradient_G_AB": NAN}
OVERFLOW = {"cycle_A": 1.0, "gradient_G_AB": INF}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_named_with_its_step(value):
    watching, said = guard()
    assert not watching.look(Reading(17, {"cycle_A": 1.0, "D_B": value, "gradient_D_B": value}))
    assert said == ["warning: step 17: D_B: not a finite number; its weights are left as they were"]


def test_finite_values_are_no_matter():
    watching, said = guard()
    assert looked(watching, *[GOOD] * 9) == [False] * 9
    assert not said


def test_the_third_fault_in_a_row_is_one_too_many():
    assert MOST_FAULTS == 3
    assert looked(guard()[0], BAD, BAD, BAD) == [False, False, True]


def test_a_good_step_between_faults_starts_the_count_anew():
    assert not any(looked(guard()[0], *[BAD, BAD, GOOD] * 5))


def test_a_run_that_went_back_starts_the_count_anew():
    watching, _ = guard()
    looked(watching, BAD, BAD, BAD)
    watching.forget()
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]


def test_in_fp16_a_gradient_past_the_range_is_the_search_for_a_scale():
    watching, said = guard(fp16=True)
    assert not any(looked(watching, *[OVERFLOW] * LONGEST_SEARCH))
    assert not said


def test_in_fp16_a_search_without_end_is_a_fault():
    watching, said = guard(fp16=True)
    answers = looked(watching, *[OVERFLOW] * (LONGEST_SEARCH + MOST_FAULTS))
    assert answers == [False] * (LONGEST_SEARCH + MOST_FAULTS - 1) + [True]
    assert len(said) == MOST_FAULTS


def test_in_fp16_a_loss_that_is_not_finite_is_a_fault_at_once():
    watching, said = guard(fp16=True)
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MOST_FAULTS


def test_in_fp16_overflows_between_good_steps_go_on_for_ever():
    watching, said = guard(fp16=True)
    assert not any(looked(watching, *[OVERFLOW, OVERFLOW, GOOD] * LONGEST_SEARCH))
    assert not said


def test_one_of_several_processes_may_see_the_gradient_of_anothers_loss():
    """Its own losses are finite, or not: in fp16 all of them go by the gradient in common."""
    watching, said = guard(fp16=True, alone=False)
    assert not any(looked(watching, *[BAD] * LONGEST_SEARCH))
    assert looked(watching, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MOST_FAULTS


def rows(*numbers: float) -> list[dict[str, Tensor]]:
    return [{"a": torch.tensor(number), "b": torch.tensor(-number)} for number in numbers]


def test_on_the_cpu_a_step_is_read_at_once():
    readings = Readings(CPU)
    for step, row in enumerate(rows(1.0, 2.0, 3.0), 1):
        assert list(readings.put(step, row)) == [Reading(step, {"a": step, "b": -step})]
    assert not list(readings.rest())


def test_what_lags_behind_comes_in_order_and_whole():
    readings = Readings(CPU)
    readings.lag = 2
    came = [
        [reading.step for reading in readings.put(step, row)]
        for step, row in enumerate(rows(1.0, 2.0, 3.0, 4.0), 1)
    ]
    assert came == [[], [], [1], [2]]
    assert [(r.step, r.values["a"]) for r in readings.rest()] == [(3, 3.0), (4, 4.0)]
    assert not list(readings.rest())


def test_what_is_forgotten_does_not_come_any_more():
    readings = Readings(CPU)
    readings.lag = 2
    for step, row in enumerate(rows(1.0, 2.0), 1):
        assert not list(readings.put(step, row))
    readings.forget()
    assert not list(readings.rest())


def test_a_step_without_losses_has_nothing_to_read():
    assert not list(Readings(CPU).put(1, {}))


def test_readings_bring_the_error_of_each_image_to_its_place():
    errors = {"A": ((4, 0, 4), torch.tensor([1.0, 2.0, 3.0])), "B": ((1,), torch.tensor([5.0]))}
    (reading,) = Readings(CPU).put(7, {"cycle_A": torch.tensor(0.5)}, errors)
    assert reading.values == {"cycle_A": 0.5}
    assert reading.errors == {"A": [(4, 1.0), (0, 2.0), (4, 3.0)], "B": [(1, 5.0)]}
