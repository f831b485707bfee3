"""A slot's terms: weights that change in the course of a run, and losses that fail."""

import pytest
import torch
from torch import Tensor

from cyclegan.config import expressions
from cyclegan.config.errors import UserError
from cyclegan.losses import IMAGE_LOSSES
from cyclegan.losses.weighted import Clock, Slot

ZERO, ONE = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)


def slot(expression: str) -> Slot:
    return Slot(expressions.parse(expression, option="cycle_A"), IMAGE_LOSSES)


def value(made: Slot, progress: float, step: int = 0) -> dict[str, float]:
    clock = Clock(step, progress)
    image = ONE.clone().requires_grad_()
    return {k: v.item() for k, v in made.image_losses("cycle_A", image, ZERO, clock).items()}


def test_a_weight_goes_in_a_straight_line_and_then_stays():
    made = slot("5*l1(decay_to=1, over=0.5)")
    seen = [value(made, progress)["cycle_A"] for progress in (0, 0.25, 0.5, 0.9)]
    assert seen == pytest.approx([5, 3, 1, 1])


def test_a_weight_may_rise():
    made = slot("0*l1(decay_to=2)")
    assert value(made, 0.5)["cycle_A"] == pytest.approx(1)


def test_a_loss_whose_weight_has_reached_zero_is_not_computed():
    made = slot("5*l1(decay_to=0, over=0.3)")
    assert made.due(Clock(0, 0.29))
    assert not made.due(Clock(0, 0.3))
    assert value(made, 0.3) == {}


def test_a_schedule_leaves_the_losss_own_options():
    made = slot("1*huber(delta=0.5, decay_to=0, over=1)")
    # Beyond delta: delta * (1 - delta / 2).
    assert value(made, 0)["cycle_A"] == pytest.approx(0.5 * 0.75)


@pytest.mark.parametrize(
    "expression",
    [
        "l1(over=0.3)",
        "l1(decay_to=-1)",
        "l1(decay_to=a)",
        "l1(decay_to=0, over=0)",
        "l1(decay_to=0, over=1.5)",
        "l1(decay_to=0, over=true)",
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(expression):
    with pytest.raises(UserError, match="--cycle_A"):
        slot(expression)


class Lazy:
    """A loss of 1, every third step."""

    every = 3

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return input.mean()


class Never(Lazy):
    every = 0


class Vector(Lazy):
    every = 1

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).abs()


class Detached(Vector):
    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).detach().mean()


class Number(Vector):
    def __call__(self, input: Tensor, target: Tensor) -> float:
        return 0.5


class Broken(Vector):
    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return input.no_such_method()


def test_a_lazy_loss_is_due_every_so_many_steps_and_counts_as_much():
    made = slot(f"2*{__name__}.Lazy")
    seen = [value(made, 0, step) for step in range(4)]
    assert seen == [{"cycle_A": 6.0}, {}, {}, {"cycle_A": 6.0}]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Vector", r"Vector gives no single number \(shape \(1, 3, 8, 8\)\)"),
        ("Number", r"Number gives no single number \(0.5\)"),
        ("Detached", "Detached gives a number without gradient"),
        ("Broken", r"Broken failed: AttributeError: .*no_such_method.*test_weighted.py, line"),
        ("Never", "every=0 must be a whole number"),
    ],
)
def test_a_loss_of_ones_own_that_cannot_train_is_named(name, sentence):
    with pytest.raises(UserError, match=f"--cycle_A: .*{sentence}"):
        value(slot(f"1*{__name__}.{name}"), 0)


def test_a_hostile_expression_is_never_run(tmp_path):
    mark = tmp_path / "mark"
    for text in (
        f"__import__('pathlib').Path('{mark}').touch()",
        f"l1(reduction=__import__('pathlib').Path('{mark}').touch())",
        "l1.__class__.__bases__",
        "(lambda: 1)()",
        "l1(**{'reduction': 'sum'})",
        "[1, 2][0]",
        "l1 if 1 else l2",
        "f'{1}'",
    ):
        with pytest.raises(UserError, match="--cycle_A"):
            slot(text)
    assert not mark.exists()
