"""The actions that are due after a step."""

import pytest

from cyclegan.runs.control_files import Request
from cyclegan.training.intervals import Actions, Intervals, with_requests


def intervals(**options) -> Intervals:
    every = {"print_every": 8, "preview_every": 16, "save_every": 20, "save_epoch_every": 3}
    never = {"evaluate_every": 0, "histograms_every": 0}
    return Intervals(**{"total_steps": 40, "epoch_length": 10, **every, **never, **options})


def due_steps(name: str, **options) -> list[int]:
    made = intervals(**options)
    return [step for step in range(1, 41) if getattr(made.after(step, step), name)]


def test_reports_come_early_then_regularly_with_every_preview_and_at_the_end():
    assert due_steps("report") == [1, 8, 10, 16, 24, 32, 40]
    assert due_steps("report", preview_every=9) == [1, 8, 9, 10, 16, 18, 24, 27, 32, 36, 40]
    assert intervals(total_steps=39).after(39, 39).report


def test_previews_come_regularly_and_at_the_end():
    assert due_steps("preview") == [16, 32, 40]


def test_the_first_previews_come_early():
    made = intervals(preview_every=1000, total_steps=3000)
    previews = [step for step in range(1, 3001) if made.previews_after(step)]
    assert previews == [100, 400, 1000, 2000, 3000]
    made = intervals(preview_every=300, total_steps=700)
    previews = [step for step in range(1, 701) if made.previews_after(step)]
    assert previews == [100, 300, 600, 700]


def test_without_monitors_there_are_no_previews():
    assert due_steps("preview", previews=False) == []


def test_hard_images_are_shown_with_every_fifth_preview_and_at_the_end():
    assert due_steps("hard_examples", preview_every=4) == [20, 40]


def test_histograms_come_at_the_ends_of_epochs():
    assert due_steps("histograms") == []
    assert due_steps("histograms", histograms_every=2) == [20, 40]


def test_weights_are_kept_by_epochs_and_the_state_by_steps():
    made = intervals()
    names = {step: made.after(step, step).saves for step in range(1, 41)}
    assert {step: kept for step, kept in names.items() if kept} == {
        20: ("latest",),
        30: (3, "latest"),
        40: ("latest",),
    }


def test_measurements_come_by_steps_but_not_at_the_end_which_has_its_own():
    assert due_steps("measure", evaluate_every=20) == [20]
    assert due_steps("measure") == []


@pytest.mark.parametrize(
    ("requests", "saves", "previews"),
    [
        (Request.NONE, (), False),
        (Request.SAVE, ("latest",), False),
        (Request.PREVIEW, (), True),
        (Request.SAVE | Request.PREVIEW, ("latest",), True),
        (Request.PAUSE | Request.STOP | Request.STOP_NOW, (), False),
    ],
)
def test_requests_are_due_at_once(requests, saves, previews):
    found = with_requests(Actions(), requests)
    assert (found.saves, found.preview, found.report) == (saves, previews, previews)


def test_what_is_saved_anyway_is_not_saved_twice():
    assert with_requests(Actions(saves=(3, "latest")), Request.SAVE).saves == (3, "latest")
