"""How a run is, in plain words and from its numbers alone."""

from collections.abc import Iterator
from statistics import mean

from cyclegan.monitor.health.alarms import NETWORKS, find
from cyclegan.monitor.health.series import Points, Record
from cyclegan.runs.artifacts import Health

# Of the run's fixed images, and there from the first measurement on.
_MEASURED = ("change_A", "change_B", "error_A", "error_B")

# A trend is told between so many measurements and as many before them; less is up and down.
_SPAN, _STEADY = 4, 0.03


def judge(points: Points, *, total_steps: int) -> Health | None:
    """What the points of a run, in the order of their steps, say at its latest; None before its
    fixed images were first measured. The names of their values are told by `curves.GROUPS`.

    No alarm comes from a single measurement, nor from the beginning of a run.
    """
    record = Record(points, total_steps=total_steps)
    if all(record.latest(name) is None for name in _MEASURED):
        return None
    return Health(tuple(_lines(record)), tuple(find(record)))


def _lines(record: Record) -> Iterator[str]:
    for source, domain in ("AB", "BA"):
        yield from _game(record, domain)
        yield from _pictures(record, source, domain)
        yield from _cycle(record, source, domain)
    for name, what, form in (
        ("gradient", "lengths of the gradients", "{:.3g}"),
        ("ratio", "lengths of an update over those of the weights", "{:.1e}"),
    ):
        found = {network: record.latest(f"{name}_{network}") for network in NETWORKS}
        told = [f"{n} {form.format(value)}" for n, value in found.items() if value is not None]
        if told:
            yield f"{what}: {', '.join(told)}"


def _game(record: Record, domain: str) -> Iterator[str]:
    pairs, real, fake = (
        record.latest(f"{name}_{domain}") for name in ("pairs", "score_real", "score_fake")
    )
    if pairs is not None and real is not None and fake is not None:
        yield (
            f"D_{domain} tells real from fake in {100 * pairs:.0f} % of pairs (mean D(real) "
            f"{real:.2f}, D(fake) {fake:.2f}); at 50 % it cannot, at 100 % it always does"
        )


def _pictures(record: Record, source: str, domain: str) -> Iterator[str]:
    told = [
        form.format(scale * value)
        for name, scale, form in (
            ("change", 1, "changes {:.1f} levels of 255"),
            ("correlation", 1, "correlation with the input {:.2f}"),
            ("contrast", 100, f"contrast {{:.0f}} % of real {domain}"),
            ("colour", 1, f"mean colour {{:.0f}} levels from real {domain}"),
            ("diversity", 100, "diversity {:.0f} % of the inputs'"),
        )
        if (value := record.latest(f"{name}_{domain}")) is not None
    ]
    if told:
        yield f"{source} to {domain}: {', '.join(told)}"


def _cycle(record: Record, source: str, domain: str) -> Iterator[str]:
    errors = record.all(f"error_{source}")
    if errors:
        yield (
            f"{source} to {domain} and back: cycle error {errors[-1]:.1f} levels of 255"
            f"{_trend(errors)}"
        )


def _trend(values: list[float]) -> str:
    if len(values) < 2 * _SPAN:
        return ""
    now, before = mean(values[-_SPAN:]), mean(values[-2 * _SPAN : -_SPAN])
    if abs(now - before) <= _STEADY * before:
        return f", steady (best {min(values):.1f})"
    return f", {'rising' if now > before else 'falling'} (best {min(values):.1f})"
