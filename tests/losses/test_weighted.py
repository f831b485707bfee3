"""Weighted losses: names of the curves, weights that change, and losses that fail."""

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config import expressions
from cyclegan.config.errors import UserError
from cyclegan.losses import ADVERSARIAL_LOSSES, IMAGE_LOSSES
from cyclegan.losses.weighted import Clock, WeightedLosses

ZERO, ONE = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)


def weighted(expression: str) -> WeightedLosses:
    return WeightedLosses(expressions.parse(expression, option="cycle_A"), IMAGE_LOSSES)


def values(
    expression: str, progress: float = 0, step: int = 0, difference: float = 1.0
) -> dict[str, float]:
    image = (difference * ONE).requires_grad_()
    found = weighted(expression).evaluate("cycle_A", image, ZERO, clock=Clock(step, progress))
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("10*l1", {"cycle_A": 30.0}),
        ("2*l1 + 0.5*l2", {"cycle_A.l1": 6.0, "cycle_A.l2": 4.5}),
        ("torch.nn.HuberLoss(delta=1.0)", {"cycle_A": 2.5}),
        ("none", {}),
    ],
)
def test_a_value_includes_its_weight_and_several_losses_are_named(expression, expected) -> None:
    assert values(expression, difference=3.0) == expected
    assert bool(weighted(expression)) == bool(expected)


def test_the_discriminators_loss_is_not_weighted() -> None:
    terms = expressions.parse("3*lsgan", option="adversarial")
    losses = WeightedLosses(terms, ADVERSARIAL_LOSSES)
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    arguments = nn.Identity(), zero, zero
    found = losses.evaluate("D_A", *arguments, method="discriminator", weighted=False)
    assert {name: value.item() for name, value in found.items()} == {"D_A": 0.5}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("5*l1(decay_to=1, over=0.5)", [5, 3, 1, 1]),
        ("0*l1(decay_to=2)", [None, 0.5, 1, 1.8]),
        # Beyond delta the loss is delta * (1 - delta / 2).
        ("huber(delta=0.5, decay_to=0, over=1)", [0.375, 0.28125, 0.1875, 0.0375]),
        ("5*l1(decay_to=0, over=0.3)", [5, 5 / 6, None, None]),
    ],
)
def test_a_weight_changes_linearly_and_a_loss_of_weight_zero_is_not_computed(
    expression, expected
) -> None:
    for progress, value in zip((0, 0.25, 0.5, 0.9), expected, strict=True):
        found = {} if value is None else {"cycle_A": pytest.approx(value)}
        assert values(expression, progress) == found
        assert weighted(expression).due(Clock(0, progress)) == bool(found)


@pytest.mark.parametrize(
    "expression",
    [
        "l1(over=0.3)",
        "l1(decay_to=-1)",
        "l1(decay_to=a)",
        "l1(decay_to=true)",
        pytest.param(f"l1(decay_to=1{'0' * 400})", id="beyond any float"),
        "l1(decay_to=0, over=2)",
        "l1(decay_to=0, over=0)",
        "l1(decay_to=0, over=1.5)",
        "l1(decay_to=0, over=true)",
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(expression):
    with pytest.raises(UserError, match=r"--cycle_A: l1:? (decay_to=|over=|has over=)"):
        weighted(expression)


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


class Nothing:
    """Neither a callable nor an adversarial loss."""


class Broken(Vector):
    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return input.no_such_method()


def test_a_lazy_loss_is_due_every_so_many_steps_and_counts_as_much():
    found = [values(f"2*{__name__}.Lazy", step=step) for step in range(4)]
    assert found == [{"cycle_A": 6.0}, {}, {}, {"cycle_A": 6.0}]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Vector", r"Vector gives no single number \(shape \(1, 3, 8, 8\)\)"),
        ("Number", r"Number gives no single number \(0.5\)"),
        ("Detached", "Detached gives a number without gradient"),
        ("Broken", r"Broken failed: AttributeError: .*no_such_method.*test_weighted.py, line"),
        ("Never", "every=0 must be a whole number"),
        ("Nothing", "Nothing makes no loss, but <.*Nothing"),
        ("Lazy(label='a-b')", "label=a-b must be a word"),
    ],
)
def test_a_loss_of_ones_own_that_cannot_train_is_named(name, sentence):
    with pytest.raises(UserError, match=f"--cycle_A: .*{sentence}") as error:
        values(f"1*{__name__}.{name}")
    assert "\n" not in str(error.value)


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
            weighted(text)
    assert not mark.exists()
