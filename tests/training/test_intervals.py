"""What is due after which step."""

import pytest

from cyclegan.config.train_options import TrainSettings
from cyclegan.runs.control_files import Request
from cyclegan.training.algorithm.lr_schedule import Schedule
from cyclegan.training.intervals import Agenda, Due, asked


def agenda(*, epoch_length: int = 10, steps: int = 40, **options) -> Agenda:
    chosen = {"print_every": 8, "preview_every": 16, "save_every": 20, "save_epoch_every": 3}
    settings = TrainSettings(steps=steps, **{**chosen, **options})
    schedule = Schedule(settings, epoch_length=epoch_length)
    return Agenda(settings, schedule, epoch_length=epoch_length)


def due_steps(name: str, **options) -> list[int]:
    made = agenda(**options)
    return [step for step in range(1, 41) if getattr(made.after(step, step), name)]


def test_reports_come_early_then_regularly_with_every_preview_and_at_the_end():
    assert due_steps("report") == [1, 8, 10, 16, 24, 32, 40]
    assert due_steps("report", preview_every=9) == [1, 8, 9, 10, 16, 18, 24, 27, 32, 36, 40]
    assert agenda(steps=39).after(39, 39).report


def test_the_fixed_images_are_looked_at_regularly_and_at_the_end():
    assert due_steps("look") == [16, 32, 40]


def test_a_run_that_has_just_begun_is_looked_at_early():
    made = agenda(preview_every=1000, steps=3000)
    looks = [step for step in range(1, 3001) if made.looks_after(step)]
    assert looks == [100, 400, 1000, 2000, 3000]
    made = agenda(preview_every=300, steps=700)
    looks = [step for step in range(1, 701) if made.looks_after(step)]
    assert looks == [100, 300, 600, 700]


def test_without_monitors_nobody_looks():
    assert due_steps("look", monitor="none") == []
    assert due_steps("look", monitor="files") == [16, 32, 40]


def test_hard_images_are_shown_with_every_fifth_preview_and_at_the_end():
    assert due_steps("hard_images", preview_every=4) == [20, 40]


def test_histograms_come_at_the_ends_of_epochs():
    assert due_steps("histograms") == []
    assert due_steps("histograms", histograms_every=2) == [20, 40]


def test_weights_are_kept_by_epochs_and_the_state_by_steps():
    made = agenda()
    names = {step: made.after(step, step).names for step in range(1, 41)}
    assert {step: kept for step, kept in names.items() if kept} == {
        20: ("latest",),
        30: (3, "latest"),
        40: ("latest",),
    }


def test_measurements_come_by_steps_but_not_at_the_end_which_has_its_own():
    assert due_steps("measure", evaluate_every=20) == [20]
    assert due_steps("measure") == []


@pytest.mark.parametrize(
    ("wish", "names", "looks"),
    [
        (Request.NONE, (), False),
        (Request.SAVE, ("latest",), False),
        (Request.PREVIEW, (), True),
        (Request.SAVE | Request.PREVIEW, ("latest",), True),
        (Request.PAUSE | Request.STOP | Request.STOP_NOW, (), False),
    ],
)
def test_what_is_asked_is_due_at_once(request, names, looks):
    found = asked(Due(), request)
    assert (found.names, found.look, found.report) == (names, looks, looks)


def test_what_is_saved_anyway_is_not_saved_twice():
    assert asked(Due(names=(3, "latest")), Request.SAVE).names == (3, "latest")
