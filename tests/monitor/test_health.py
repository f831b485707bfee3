"""The health of runs from their metrics: made-up sick runs, and recorded healthy ones."""

import json
import re
import time
from pathlib import Path

import pytest
from support.steps import build_model, build_step

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.monitor.health.curves import group
from cyclegan.monitor.health.series import MIN_VALUES
from cyclegan.monitor.health.summary import summarize_health

RECORDED = sorted((Path(__file__).parents[1] / "recorded").glob("*.json"))

HEALTHY = {
    **{"pairs": 0.78, "score_real": 0.71, "score_fake": 0.24, "contrast": 0.93, "colour": 17.0},
    **{"diversity": 0.74, "correlation": 0.89, "change": 34.0, "error": 12.0},
}
NETWORKS = {
    **{f"gradient_{name}": 20.0 for name in ("G_AB", "G_BA", "D_A", "D_B")},
    **{f"ratio_{name}": 0.003 for name in ("G_AB", "G_BA", "D_A", "D_B")},
    **{"D_A": 0.2, "D_B": 0.2, "lr": 2e-4},
}
TINY = {"generator": "edsr(blocks=1)", "discriminator": "patch(layers=1)", "ngf": 4, "ndf": 4}
# For each alarm the metrics of the direction to B that raise it, and where it is raised.
SICK = {
    "collapse": ({"diversity_B": 0.02}, "G_AB"),
    "colour inversion": ({"correlation_B": -0.8}, "G_AB"),
    "identity copy": ({"correlation_B": 0.995, "change_B": 1.5, "pairs_B": 0.97}, "G_AB"),
    "D wins": ({"pairs_B": 0.999, "D_B": 0.02}, "D_B"),
    "contrast lost": ({"contrast_B": 0.05}, "G_AB"),
    "contrast blown up": ({"contrast_B": 6.0}, "G_AB"),
    "colour shift": ({"colour_B": 150.0}, "G_AB"),
    "cycle error rises": ({"error_B": 25.0}, "cycle_B"),
    "vanished gradients": ({"gradient_G_AB": 1e-9}, "G_AB"),
    "exploding gradients": ({"gradient_D_B": 5e3}, "D_B"),
    "updates too large": ({"ratio_D_A": 0.6}, "D_A"),
}


A_WON = {"pairs_A": 1.0, "D_A": 0.02}


def healthy(**changes: float) -> dict[str, float]:
    return {**{f"{n}_{d}": v for n, v in HEALTHY.items() for d in "AB"}, **NETWORKS, **changes}


def run(*parts: tuple[int, dict[str, float]], every: int = 100) -> list[tuple[int, dict]]:
    """Parts of so many points with these changes; D starts without any knowledge."""
    values = [healthy(**changes) for count, changes in parts for _ in range(count)]
    values[0] |= {"D_A": 0.4, "D_B": 0.4}
    return [(every * index, value) for index, value in enumerate(values)]


def alarms(points, *, total_steps: int = 2000) -> list[tuple[str, str]]:
    health = summarize_health(points, total_steps=total_steps)
    assert health is not None
    return [(alarm.name, alarm.where) for alarm in health.alarms]


def recorded(path: Path) -> tuple[list[tuple[int, dict[str, float]]], int]:
    data = json.loads(path.read_text())
    columns = data["values"]
    points = [
        (step, {n: column[i] for n, column in columns.items() if column[i] is not None})
        for i, step in enumerate(data["steps"])
    ]
    return points, data["total_steps"]


def test_there_is_no_health_before_the_first_measurement():
    assert summarize_health([], total_steps=100) is None
    assert (
        summarize_health([(1, {"cycle_A": 3.0, "gradient_G_AB": 7.0, "lr": 1e-4})], total_steps=100)
        is None
    )


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_healthy_run_raises_no_alarm_at_any_time(path):
    points, total_steps = recorded(path)
    assert len(points) > 10
    told = [
        summarize_health(points[:count], total_steps=total_steps)
        for count in range(1, len(points) + 1)
    ]
    assert told[-1] is not None
    assert all(health is None or health.alarms == () for health in told)


def test_healthy_runs_were_recorded():
    assert len(RECORDED) >= 2


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_raises_its_alarm_and_a_healthy_one_raises_none(name):
    changes, where = SICK[name]
    assert alarms(run((10, {}))) == []
    assert alarms(run((10, {}), (5, changes))) == [(name, where)]


@pytest.mark.parametrize("name", SICK)
def test_an_alarm_needs_several_measurements_that_agree(name):
    changes, _ = SICK[name]
    assert alarms(run((10, {}), (MIN_VALUES - 1, changes))) == []
    assert alarms(run((10, {}), (2, changes), (1, {}), (2, changes))) == []


@pytest.mark.parametrize("name", SICK)
def test_an_alarm_ends_with_its_cause(name):
    changes, _ = SICK[name]
    assert alarms(run((10, {}), (5, changes), (1, {}))) == []


@pytest.mark.parametrize("name", sorted(SICK.keys() - {"cycle error rises", "exploding gradients"}))
def test_the_beginning_of_a_run_raises_no_alarm(name):
    changes, where = SICK[name]
    points = run((12, changes))
    # The first tenth of the run is ignored; then as many measurements as needed must follow.
    assert alarms(points[: 2 + MIN_VALUES - 1], total_steps=2000) == []
    assert alarms(points[: 2 + MIN_VALUES], total_steps=2000) == [(name, where)]
    # In a long run the first 2000 steps are ignored.
    assert alarms(points, total_steps=10**6) == []


def test_a_run_of_300_steps_can_raise_an_alarm():
    points = run((16, A_WON), every=20)
    assert alarms(points[:5], total_steps=300) == []
    assert alarms(points[:6], total_steps=300) == [("D wins", "D_A")]


def test_a_long_run_needs_agreement_over_a_long_window():
    """Among hundreds of measurements, D may win in four in a row."""
    assert alarms(run((200, {}), (10, A_WON)), total_steps=10**5) == []
    assert alarms(run((200, {}), (90, A_WON)), total_steps=10**5) == [("D wins", "D_A")]


def test_both_directions_are_watched():
    changes = {"diversity_A": 0.01, "diversity_B": 0.01}
    assert alarms(run((10, {}), (5, changes))) == [("collapse", "G_AB"), ("collapse", "G_BA")]


@pytest.mark.parametrize("name", ["collapse", "colour inversion", "identity copy"])
def test_a_discriminator_that_wins_against_sick_translations_raises_no_second_alarm(name):
    changes, where = SICK[name]
    changes = {**changes, "pairs_B": 1.0, "contrast_B": 0.01, "colour_B": 200.0}
    changes["gradient_D_B"] = 1e-12
    assert alarms(run((10, {}), (5, changes))) == [(name, where)]


def test_a_cycle_error_that_rises_with_a_collapse_raises_no_second_alarm():
    assert alarms(run((10, {}), (5, {"diversity_B": 0.0, "error_B": 60.0}))) == [
        ("collapse", "G_AB")
    ]


def test_a_copy_that_deceives_the_discriminator_is_no_fault():
    """In super-resolution only detail differs, and every run starts as a copy."""
    like = {"correlation_B": 0.99, "change_B": 1.9}
    assert alarms(run((5, {**like, "pairs_B": 0.98}), (10, {**like, "pairs_B": 0.7}))) == []


def test_a_copy_that_changes_is_no_fault():
    values = [(1, {"correlation_B": 0.98, "change_B": 1.0 + k, "pairs_B": 0.96}) for k in range(5)]
    assert alarms(run((5, {}), *values)) == []


def test_a_discriminator_that_has_memorized_its_images_wins():
    """It may err more often on the fixed images than on the training images."""
    points = run((10, {"D_B": 0.4}), (5, {"D_B": 0.011, "pairs_B": 0.83}))
    assert alarms(points) == [("D wins", "D_B")]
    (alarm,) = summarize_health(points, total_steps=2000).alarms
    assert "83 % of pairs (D(real) 0.71, D(fake) 0.24), and its loss fell from 0.4 to" in alarm.saw
    assert alarms(run((10, {"D_B": 0.4}), (5, {"D_B": 0.011, "pairs_B": 0.6}))) == []
    assert alarms(run((10, {"D_B": 0.4}), (5, {"D_B": 0.05, "pairs_B": 0.83}))) == []


def test_a_discriminator_that_is_right_but_not_sure_has_not_won():
    """Late in healthy runs D is nearly always right on four images, with a third of its loss."""
    assert alarms(run((10, {}), (20, {"pairs_B": 0.995, "D_B": 0.13}))) == []


def test_a_discriminator_whose_loss_is_unknown_wins_by_its_pairs():
    points = run((10, {}), (5, {"pairs_B": 0.999}))
    points = [(step, {n: v for n, v in values.items() if n != "D_B"}) for step, values in points]
    assert alarms(points) == [("D wins", "D_B")]


def test_the_unbounded_loss_of_a_critic_is_ignored():
    points = run((10, {"D_B": -2.0}), (5, {"D_B": -7.0, "pairs_B": 0.999}))
    assert alarms(points) == []


def test_generators_that_never_learned_have_not_collapsed():
    assert alarms(run((15, {"diversity_B": 0.11}))) == []
    assert alarms(run((15, {"diversity_B": 0.11, **SICK["D wins"][0]}))) == [("D wins", "D_B")]
    assert alarms(run((5, {}), (10, {"diversity_B": 0.11}))) == [("collapse", "G_AB")]


def test_a_discriminator_that_is_losing_is_no_fault():
    values = [(1, {"pairs_B": share, "D_B": 0.02}) for share in (0.9999, 0.9995, 0.992, 0.987)]
    assert alarms(run((10, {}), *values)) == []


def test_a_cycle_error_of_a_few_levels_may_double():
    points = run((10, {"error_A": 1.0}), (8, {"error_A": 2.5}))
    assert alarms(points) == []


def test_values_that_are_not_finite_are_ignored():
    nan = float("nan")
    points = run((10, {}), (6, {"pairs_B": nan, "diversity_B": nan, "error_A": float("inf")}))
    assert alarms(points) == []
    assert all("nan" not in line and "inf" not in line for line in said(points))


def said(points) -> tuple[str, ...]:
    health = summarize_health(points, total_steps=2000)
    assert health is not None
    return health.lines


def test_the_lines_give_the_latest_values_in_plain_words():
    assert said(run((1, {"pairs_B": 0.5}), (1, {}))) == (
        "D_B tells real from fake in 78 % of pairs (mean D(real) 0.71, D(fake) 0.24); at 50 % it "
        "cannot, at 100 % it always does",
        "A to B: changes 34.0 levels of 255, correlation with the input 0.89, contrast 93 % of "
        "real B, mean colour 17 levels from real B, diversity 74 % of the inputs'",
        "A to B and back: cycle error 12.0 levels of 255",
        "D_A tells real from fake in 78 % of pairs (mean D(real) 0.71, D(fake) 0.24); at 50 % it "
        "cannot, at 100 % it always does",
        "B to A: changes 34.0 levels of 255, correlation with the input 0.89, contrast 93 % of "
        "real A, mean colour 17 levels from real A, diversity 74 % of the inputs'",
        "B to A and back: cycle error 12.0 levels of 255",
        "gradient norms: G_AB 20, G_BA 20, D_A 20, D_B 20",
        "update-to-weight ratios: G_AB 3.0e-03, G_BA 3.0e-03, D_A 3.0e-03, D_B 3.0e-03",
    )


def test_values_that_were_not_measured_are_left_out():
    assert said([(0, {"error_A": 3.0, "change_B": 5.0})]) == (
        "A to B: changes 5.0 levels of 255",
        "A to B and back: cycle error 3.0 levels of 255",
    )


@pytest.mark.parametrize(("now", "trend"), [(9.0, "falling"), (12.1, "steady"), (15.0, "rising")])
def test_the_cycle_error_has_a_trend(now, trend):
    lines = said(run((4, {}), (4, {"error_A": now})))
    assert f"cycle error {now} levels of 255, {trend} (best {min(now, 12.0)})" in lines[2]


def test_every_watched_value_is_a_curve():
    assert all(group(name) for name in healthy())


OPTION = re.compile(r'--(\w+) ("[^"]*"|[^\s,;:]+)')


@pytest.mark.parametrize("name", SICK)
def test_the_options_of_a_remedy_exist_and_accept_the_values(name):
    changes, _ = SICK[name]
    (alarm,) = summarize_health(run((10, {}), (5, changes)), total_steps=2000).alarms
    named = OPTION.findall(alarm.remedy)
    assert named
    assert len(named) == alarm.remedy.count("--")
    for option, value in named:
        assert option in TrainSettings.model_fields
        settings = check(TrainSettings, {**TINY, option: value.strip('"')})
        build_step(build_model(settings), settings)


def test_a_lower_learning_rate_is_a_quarter_of_the_present_one():
    (alarm,) = summarize_health(
        run((10, {}), (5, {"pairs_B": 1.0, "D_B": 0.02})), total_steps=2000
    ).alarms
    assert "--lr_D 5e-5" in alarm.remedy
    (alarm,) = summarize_health(
        run((10, {}), (5, {**SICK["D wins"][0], "lr_D": 2e-3})), total_steps=2000
    ).alarms
    assert "--lr_D 0.0005" in alarm.remedy
    assert alarm.saw.startswith("D_B tells real from fake in 100 % of pairs (D(real) 0.71,")


def test_the_points_of_days_take_less_than_a_second():
    points = run((20_000, {}))
    began = time.monotonic()
    assert alarms(points, total_steps=3 * 10**6) == []
    assert time.monotonic() - began < 1
