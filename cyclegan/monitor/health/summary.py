"""The health of a run in plain words, from its metrics alone."""

from collections.abc import Iterator
from math import isnan
from statistics import mean

from cyclegan.monitor.health.alarms import NETWORKS, find_alarms
from cyclegan.monitor.health.series import MetricSeries, Points
from cyclegan.runs.artifacts import Health

# A trend compares the mean of so many measurements with that of as many before them. Smaller
# relative differences are fluctuation.
_SPAN, _STEADY = 4, 0.03


def summarize_health(points: Points, *, total_steps: int) -> Health | None:
    """The health at the last of the points; None before the fixed images were first measured.

    `curves.GROUPS` explains the names of the values. No alarm comes from a single measurement, nor
    from the beginning of a run.
    """
    series = MetricSeries(points, total_steps=total_steps)
    measured = ("change_A", "change_B", "error_A", "error_B")
    if all(isnan(series.latest(name)) for name in measured):
        return None
    return Health(tuple(_lines(series)), tuple(find_alarms(series)))


def _lines(series: MetricSeries) -> Iterator[str]:
    for source, target in ("AB", "BA"):
        yield from _discriminator(series.of(target), target)
        yield from _translation(series.of(target), source, target)
        yield from _cycle(series.of(source), source, target)
    for name, title, form in (
        ("gradient", "gradient norms", "{:.3g}"),
        ("ratio", "update-to-weight ratios", "{:.1e}"),
    ):
        latest = {network: series.of(network).latest(name) for network in NETWORKS}
        shown = [f"{n} {form.format(value)}" for n, value in latest.items() if not isnan(value)]
        if shown:
            yield f"{title}: {', '.join(shown)}"


def _discriminator(domain: MetricSeries, name: str) -> Iterator[str]:
    pairs, real, fake = map(domain.latest, ("pairs", "score_real", "score_fake"))
    if not isnan(pairs + real + fake):
        yield (
            f"D_{name} tells real from fake in {100 * pairs:.0f} % of pairs (mean D(real) "
            f"{real:.2f}, D(fake) {fake:.2f}); at 50 % it cannot, at 100 % it always does"
        )


def _translation(domain: MetricSeries, source: str, target: str) -> Iterator[str]:
    forms = {
        "change": "changes {:.1f} levels of 255",
        "correlation": "correlation with the input {:.2f}",
        "contrast": f"contrast {{:.0%}} of real {target}",
        "colour": f"mean colour {{:.0f}} levels from real {target}",
        "diversity": "diversity {:.0%} of the inputs'",
    }
    latest = {name: domain.latest(name) for name in forms}
    shown = [form.format(latest[n]) for n, form in forms.items() if not isnan(latest[n])]
    if shown:
        yield f"{source} to {target}: {', '.join(shown)}".replace("%", " %")


def _cycle(domain: MetricSeries, source: str, target: str) -> Iterator[str]:
    if errors := domain.all("error"):
        error = f"cycle error {errors[-1]:.1f} levels of 255"
        yield f"{source} to {target} and back: {error}{_trend(errors)}"


def _trend(values: list[float]) -> str:
    if len(values) < 2 * _SPAN:
        return ""
    now, before = mean(values[-_SPAN:]), mean(values[-2 * _SPAN : -_SPAN])
    if abs(now - before) <= _STEADY * before:
        trend = "steady"
    else:
        trend = "rising" if now > before else "falling"
    return f", {trend} (best {min(values):.1f})"
