"""How a run's curves look on every page: colours, dashes and running means."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cyclegan.monitor.health.curves import losses, smoothed
from cyclegan.monitor.health.history import CurvePoints

# A page has a palette of that many colours, and that many patterns of dashes.
NUM_COLOURS, NUM_DASHES = 8, 4

# A domain, or a network, has the same colour in all plots.
_COLOUR_OF_SUFFIX = {"_G_AB": 0, "_G_BA": 1, "_D_A": 2, "_D_B": 3, "_A": 0, "_B": 1}


@dataclass(frozen=True)
class Line:
    """A curve as a page draws it: if there are running means, they stand out and the values are
    faint. `colour` and `dash` are indices.
    """

    name: str
    steps: list[int]
    values: list[float]
    means: list[float]
    colour: int
    dash: int


def lines_of(
    curves: Mapping[str, CurvePoints],
    *,
    smooth: Callable[[str, list[float]], bool],
    same_quantity: bool = False,
) -> Iterator[Line]:
    """The lines of one plot. `smooth` decides by a curve's name and values whether it gets running
    means. With `same_quantity` the names are those of runs, and say nothing about colours.
    """
    used: Counter[int] = Counter()
    for name, (steps, values, _) in curves.items():
        colour = None if same_quantity else colour_of(name)
        if colour is None:
            colour = min(range(NUM_COLOURS), key=lambda index: used[index])
        means = smoothed(values) if smooth(name, values) else []
        yield Line(name, steps, values, means, colour, used[colour] % NUM_DASHES)
        used[colour] += 1


def colour_of(name: str) -> int | None:
    """The colour of a domain's or network's curves, and of their parts, as in cycle_A.l1."""
    stem = name.partition(".")[0]
    return next((c for suffix, c in _COLOUR_OF_SUFFIX.items() if stem.endswith(suffix)), None)


def is_noisy(name: str) -> bool:
    """Whether a curve is hard to read without a running mean: losses and gradient norms."""
    return name.startswith("gradient_") or bool(losses({name: 0.0}))
