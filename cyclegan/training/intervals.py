"""What is due after a step."""

from dataclasses import dataclass, replace

from cyclegan.config.train_options import TrainSettings
from cyclegan.runs.control_files import Wish
from cyclegan.runs.saves import LATEST
from cyclegan.training.algorithm.lr_schedule import Schedule

# Besides every --print_every steps: a slow machine shows signs of life at once.
EARLY_REPORTS = (1, 10)

# Besides every --preview_every steps: who has just begun wants to see something.
EARLY_LOOKS = (100, 400)

# Hard images are shown with every fifth preview: to read them takes a while.
PREVIEWS_BETWEEN = 5


@dataclass(frozen=True)
class Due:
    """What is to be done, in this order; `names` are those to save under."""

    measure: bool = False
    look: bool = False
    report: bool = False
    histograms: bool = False
    hard_images: bool = False
    names: tuple[str | int, ...] = ()


class Agenda:
    """Goes by steps and epochs, and by what is asked."""

    def __init__(self, settings: TrainSettings, schedule: Schedule, *, epoch_length: int) -> None:
        self.settings = settings
        self.schedule = schedule
        self.epoch_length = epoch_length

    def after(self, step: int, position: int) -> Due:
        settings = self.settings
        last = step == self.schedule.total_steps
        every = self.schedule.evaluate_every
        measure = bool(every) and step % every == 0 and not last
        look = self.looks_after(step)
        report = step % settings.print_every == 0 or step in EARLY_REPORTS
        epoch, place = divmod(position, self.epoch_length)
        histograms = settings.histograms_every
        return Due(
            measure=measure,
            look=look,
            report=measure or look or report or last,
            histograms=bool(histograms) and place == 0 and epoch % histograms == 0,
            hard_images=look and (last or step % (PREVIEWS_BETWEEN * settings.preview_every) == 0),
            names=self._names(epoch, place, save=last or step % settings.save_every == 0),
        )

    def looks_after(self, step: int) -> bool:
        """Whether the run's fixed images are looked at then."""
        if self.settings.shows_nothing:
            return False
        every = self.settings.preview_every
        early = step < every and step in EARLY_LOOKS
        return early or step == self.schedule.total_steps or step % every == 0

    def ends_epoch(self, position: int) -> bool:
        return position % self.epoch_length == 0

    def _names(self, epoch: int, place: int, *, save: bool) -> tuple[str | int, ...]:
        if place == 0 and epoch % self.settings.save_epoch_every == 0:
            return epoch, LATEST
        return (LATEST,) if save else ()


def asked(due: Due, wishes: Wish) -> Due:
    """The same, and what is asked besides."""
    if wishes & Wish.SAVE and LATEST not in due.names:
        due = replace(due, names=(*due.names, LATEST))
    if wishes & Wish.PREVIEW:
        due = replace(due, look=True, report=True, hard_images=True)
    return due
