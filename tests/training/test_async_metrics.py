"""The transfer of a step's metrics to the host, and the guard against non-finite values."""

import pytest
import torch
from torch import Tensor

from cyclegan.training.statistics.async_metrics import AsyncMetrics, StepMetrics
from cyclegan.training.statistics.nonfinite_guard import (
    MAX_NONFINITE_STEPS,
    MAX_OVERFLOWS,
    NonFiniteGuard,
)

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


def guard(**options) -> NonFiniteGuard:
    return NonFiniteGuard(**{"fp16": False, "single_process": True, **options})


def answers(guard: NonFiniteGuard, *values: dict[str, float]) -> list[bool]:
    return [guard.must_roll_back(StepMetrics(step, each)) for step, each in enumerate(values, 1)]


GOOD, BAD = {"cycle_A": 1.0, "gradient_G_AB": 2.0}, {"cycle_A": NAN, "gradient_G_AB": NAN}
OVERFLOW = {"cycle_A": 1.0, "gradient_G_AB": INF}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_named_with_its_step(value, said):
    made = guard()
    assert not made.must_roll_back(
        StepMetrics(17, {"cycle_A": 1.0, "D_B": value, "gradient_D_B": value})
    )
    assert said == ["warning: step 17: D_B: not a finite number; its weights are left as they were"]


def test_finite_values_are_not_reported(said):
    made = guard()
    assert answers(made, *[GOOD] * 9) == [False] * 9
    assert not said


def test_the_third_fault_in_a_row_rolls_back():
    assert MAX_NONFINITE_STEPS == 3
    assert answers(guard(), BAD, BAD, BAD) == [False, False, True]


def test_a_good_step_between_faults_starts_the_count_anew():
    assert not any(answers(guard(), *[BAD, BAD, GOOD] * 5))


def test_a_reset_starts_the_count_anew():
    made = guard()
    answers(made, BAD, BAD, BAD)
    made.reset()
    assert answers(made, BAD, BAD, BAD) == [False, False, True]


def test_in_fp16_a_gradient_past_the_range_is_the_search_for_a_scale(said):
    made = guard(fp16=True)
    assert not any(answers(made, *[OVERFLOW] * MAX_OVERFLOWS))
    assert not said


def test_in_fp16_a_search_without_end_is_a_fault(said):
    made = guard(fp16=True)
    found = answers(made, *[OVERFLOW] * (MAX_OVERFLOWS + MAX_NONFINITE_STEPS))
    assert found == [False] * (MAX_OVERFLOWS + MAX_NONFINITE_STEPS - 1) + [True]
    assert len(said) == MAX_NONFINITE_STEPS


def test_in_fp16_a_loss_that_is_not_finite_is_a_fault_at_once(said):
    made = guard(fp16=True)
    assert answers(made, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MAX_NONFINITE_STEPS


def test_in_fp16_overflows_between_good_steps_go_on_for_ever(said):
    made = guard(fp16=True)
    assert not any(answers(made, *[OVERFLOW, OVERFLOW, GOOD] * MAX_OVERFLOWS))
    assert not said


def test_one_of_several_processes_may_see_the_gradient_of_anothers_loss(said):
    """Its own losses are finite, or not: in fp16 all of them go by the gradient in common."""
    made = guard(fp16=True, single_process=False)
    assert not any(answers(made, *[BAD] * MAX_OVERFLOWS))
    assert answers(made, BAD, BAD, BAD) == [False, False, True]
    assert len(said) == MAX_NONFINITE_STEPS


def rows(*numbers: float) -> list[dict[str, Tensor]]:
    return [{"a": torch.tensor(number), "b": torch.tensor(-number)} for number in numbers]


def test_on_the_cpu_metrics_arrive_at_once():
    metrics = AsyncMetrics(CPU)
    for step, row in enumerate(rows(1.0, 2.0, 3.0), 1):
        assert list(metrics.put(step, row)) == [StepMetrics(step, {"a": step, "b": -step})]
    assert not list(metrics.flush())


def test_pending_metrics_arrive_in_order():
    metrics = AsyncMetrics(CPU)
    metrics.lag = 2
    came = [
        [step_metrics.step for step_metrics in metrics.put(step, row)]
        for step, row in enumerate(rows(1.0, 2.0, 3.0, 4.0), 1)
    ]
    assert came == [[], [], [1], [2]]
    assert [(r.step, r.values["a"]) for r in metrics.flush()] == [(3, 3.0), (4, 4.0)]
    assert not list(metrics.flush())


def test_a_reset_discards_pending_metrics():
    metrics = AsyncMetrics(CPU)
    metrics.lag = 2
    for step, row in enumerate(rows(1.0, 2.0), 1):
        assert not list(metrics.put(step, row))
    metrics.reset()
    assert not list(metrics.flush())


def test_a_step_without_losses_has_nothing_to_read():
    assert not list(AsyncMetrics(CPU).put(1, {}))


def test_readings_bring_the_error_of_each_image_to_its_place():
    errors = {"A": ((4, 0, 4), torch.tensor([1.0, 2.0, 3.0])), "B": ((1,), torch.tensor([5.0]))}
    (step_metrics,) = AsyncMetrics(CPU).put(7, {"cycle_A": torch.tensor(0.5)}, errors)
    assert step_metrics.values == {"cycle_A": 0.5}
    assert step_metrics.errors == {"A": [(4, 1.0), (0, 2.0), (4, 3.0)], "B": [(1, 5.0)]}
