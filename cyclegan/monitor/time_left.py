"""How long a run still takes."""

from collections import deque

# Of the steps so far, those of this newest share tell the pace: what came before, as a compiler at
# work or a machine that was busy, does not come again.
RECENT = 0.5
MOST_MARKS = 400


class TimeLeft:
    """Goes by the steps of this start of the run, with all that comes between them."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.marks: deque[tuple[int, float]] = deque()
        self.stride = 1

    def begin(self, step: int, now: float) -> None:
        """`now` in seconds, of a clock that never goes back."""
        self.marks.clear()
        self.marks.append((step, now))
        self.stride = 1

    def at(self, step: int, now: float) -> None:
        if step - self.marks[-1][0] >= self.stride:
            self.marks.append((step, now))
        if len(self.marks) > MOST_MARKS:
            self.stride *= 2
            self.marks = deque(list(self.marks)[::2])

    def skip(self, seconds: float) -> None:
        """A pause of so long does not count."""
        self.marks = deque((step, then + seconds) for step, then in self.marks)

    def left(self, step: int, now: float) -> float | None:
        """Seconds to the last step; None before a step is done."""
        first = self.marks[0][0] if self.marks else step
        wanted = step - max(1, RECENT * (step - first))
        before = [mark for mark in self.marks if mark[0] <= wanted]
        if not before:
            return None
        then_step, then = before[-1]
        return (now - then) / (step - then_step) * (self.total_steps - step)
