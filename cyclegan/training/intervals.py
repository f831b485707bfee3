"""What to do after a step: reports, previews, measurements and saves, by steps and epochs."""

from dataclasses import dataclass, replace

from cyclegan.runs.checkpoints import LATEST
from cyclegan.runs.control_files import Request

# Reports beside those of --print_every, so that a slow machine shows progress at once.
EARLY_REPORTS = (1, 10)

# Previews beside those of --preview_every, for whoever waits for the first pictures.
EARLY_PREVIEWS = (100, 400)

# Hard examples come with every fifth preview: it takes a while to read their files.
PREVIEWS_PER_HARD_EXAMPLES = 5


@dataclass(frozen=True)
class Actions:
    """What to do after a step, in this order; `saves` are the epoch names to save under."""

    measure: bool = False
    preview: bool = False
    report: bool = False
    histograms: bool = False
    hard_examples: bool = False
    saves: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Intervals:
    """The intervals of a run; 0 for never. Histograms and saves by epoch count epochs, all others
    steps. preview_every counts only if `previews` is true.
    """

    total_steps: int
    epoch_length: int
    print_every: int
    preview_every: int
    evaluate_every: int
    histograms_every: int
    save_every: int
    save_epoch_every: int
    previews: bool = True

    def after(self, step: int, position: int) -> Actions:
        """The actions after so many steps and samples."""
        last = step == self.total_steps
        measure = bool(self.evaluate_every) and step % self.evaluate_every == 0 and not last
        preview = self.previews_after(step)
        report = step % self.print_every == 0 or step in EARLY_REPORTS
        epoch, place = divmod(position, self.epoch_length)
        every = self.histograms_every
        rare = step % (PREVIEWS_PER_HARD_EXAMPLES * self.preview_every) == 0
        return Actions(
            measure=measure,
            preview=preview,
            report=measure or preview or report or last,
            histograms=bool(every) and place == 0 and epoch % every == 0,
            hard_examples=preview and (last or rare),
            saves=self._saves(epoch, place, save=last or step % self.save_every == 0),
        )

    def previews_after(self, step: int) -> bool:
        if not self.previews:
            return False
        early = step < self.preview_every and step in EARLY_PREVIEWS
        return early or step == self.total_steps or step % self.preview_every == 0

    def ends_epoch(self, position: int) -> bool:
        return position % self.epoch_length == 0

    def _saves(self, epoch: int, place: int, *, save: bool) -> tuple[str | int, ...]:
        if place == 0 and epoch % self.save_epoch_every == 0:
            return epoch, LATEST
        return (LATEST,) if save else ()


def with_requests(actions: Actions, requests: Request) -> Actions:
    """The actions, and those that somebody has requested."""
    if requests & Request.SAVE and LATEST not in actions.saves:
        actions = replace(actions, saves=(*actions.saves, LATEST))
    if requests & Request.PREVIEW:
        actions = replace(actions, preview=True, report=True, hard_examples=True)
    return actions
