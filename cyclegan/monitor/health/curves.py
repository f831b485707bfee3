"""The curves of a run: their names, their plots, and how they are smoothed."""

from collections.abc import Iterable, Mapping, Sequence

# The plots in the order in which they are shown: a title, and the first words of the curves' names,
# whose suffix is the domain of the images, or the network.
GROUPS = {
    "generators against discriminators": ("adversarial",),
    "discriminators": ("D",),
    "cycle": ("cycle",),
    "identity": ("identity",),
    "content, contrast and others": ("content", "pseudo_pair", "nce", "penalty"),
    "sliced Wasserstein distance to real B": ("swd",),
    "PSNR to real B, dB": ("psnr",),
    "share of pairs that D tells apart": ("pairs",),
    "mean D(real) and D(fake)": ("score",),
    "cycle error, levels of 255": ("error",),
    "change of the input, levels of 255": ("change",),
    "correlation of fake with its input": ("correlation",),
    "contrast and diversity, beside real images": ("contrast", "diversity"),
    "colour shift from real images, levels of 255": ("colour",),
    "gradient norms": ("gradient",),
    "update-to-weight ratios": ("ratio",),
    "images per second": ("images_per_second",),
    "wait for data, seconds a step": ("data_wait",),
    "memory, GB": ("memory",),
    "learning rate": ("lr",),
}

_LOSSES = ("adversarial", "D", "cycle", "identity", "content", "pseudo_pair", "nce", "penalty")

# The weight of the newest point in the moving average.
_WEIGHT = 0.1


def group(name: str) -> str | None:
    """The title of a curve's plot; None for values that are not drawn, such as data_share."""
    return next((title for title, words in GROUPS.items() if _begins(name, words)), None)


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """The curves of each plot, in the order of GROUPS."""
    titles = {name: group(name) for name in sorted(names)}
    members = {title: [n for n, found in titles.items() if found == title] for title in GROUPS}
    return {title: names for title, names in members.items() if names}


def losses(values: Mapping[str, float]) -> dict[str, float]:
    """The losses among a report's values."""
    return {name: value for name, value in values.items() if _begins(name, _LOSSES)}


def smoothed(values: Sequence[float]) -> list[float]:
    """The exponential moving average of a curve, with the bias correction of Adam."""
    means: list[float] = []
    total, weight = 0.0, 0.0
    for value in values:
        total += _WEIGHT * (value - total)
        weight += _WEIGHT * (1 - weight)
        means.append(total / weight)
    return means


def _begins(name: str, words: Iterable[str]) -> bool:
    return any(name == word or name.startswith((f"{word}_", f"{word}.")) for word in words)
