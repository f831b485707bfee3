"""The curves of a run: which there are, what is drawn together, and how they are smoothed."""

from collections.abc import Iterable, Mapping, Sequence

# What is drawn together, in the order in which it is shown: a title, and the first words of the
# curves' names. A suffix is the domain of the images, or the network.
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

# Of the newest point, in the mean.
_WEIGHT = 0.1


def group(name: str) -> str | None:
    """The title under which a curve is drawn; None for what is not drawn, as data_share."""
    for title, words in GROUPS.items():
        if any(_begins(name, word) for word in words):
            return title
    return None


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """The curves under their titles, in the order of GROUPS."""
    known = {name: group(name) for name in sorted(names)}
    together = {title: [n for n, found in known.items() if found == title] for title in GROUPS}
    return {title: members for title, members in together.items() if members}


def losses(values: Mapping[str, float]) -> dict[str, float]:
    """The losses among a report's values."""
    return {
        name: value
        for name, value in values.items()
        if any(_begins(name, word) for word in _LOSSES)
    }


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential means of a curve's values, from the first one on without a bias towards 0."""
    means: list[float] = []
    total, weight = 0.0, 0.0
    for value in values:
        total += _WEIGHT * (value - total)
        weight += _WEIGHT * (1 - weight)
        means.append(total / weight)
    return means


def _begins(name: str, word: str) -> bool:
    return name == word or name.startswith((f"{word}_", f"{word}."))
