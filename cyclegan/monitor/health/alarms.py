"""The alarms: conditions on a run's metrics that tell a fault from ordinary fluctuation.

All thresholds were found on runs of this program: on healthy ones of low to high resolution, horses
and zebras, two styles of drawings and super-resolution, and on faulty ones of every kind.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isnan, nan
from statistics import mean, median

from cyclegan.monitor.health.series import MetricSeries
from cyclegan.runs.artifacts import Alarm

# "D wins" needs this fraction of pairs ranked rightly, and less than this fraction of D's first
# loss: in a healthy run D may rank nearly all pairs rightly, but keeps a quarter of its loss.
PAIRS_ALWAYS, LOSS_SURE = 0.985, 0.15
# Or most pairs of the fixed images and nearly no loss: D has memorized the training images.
PAIRS_MOSTLY, LOSS_MEMORIZED = 0.75, 0.06
# "identity copy" has a lower threshold, as D is right to recognize a copy.
PAIRS_COPY = 0.95
# An image sharpened at its own size has correlation 0.98 and change 2, but deceives D.
COPY_CORRELATION, COPY_CHANGE = 0.97, 8.0
# Diversity as a fraction of the inputs'. Healthy runs reach 0.5 and more. Untrained generators
# start at 0.1 to 0.5, or at 0.01 without norms: they must also have lost a part of that.
COLLAPSED, LOST, NOTHING_LEFT = 0.15, 0.75, 0.05
INVERTED = -0.3
FLAT, GARISH = 0.25, 4.0
# Mean colours of a few images with different content differ by up to 80 levels in a healthy run.
OFF_COLOUR = 120.0
# A cycle error must exceed its best mean by this factor and by this many levels.
RISEN, RISEN_LEVELS = 1.5, 3.0
VANISHED, EXPLODED = 1e-7, 50.0
OVERSHOT = 0.25

NETWORKS = ("G_AB", "G_BA", "D_A", "D_B")
GENERATOR_INTO = {"A": "G_BA", "B": "G_AB"}
# The metrics whose latest values the texts contain.
_METRICS = ("change", "colour", "contrast", "correlation", "diversity", "gradient", "pairs")


@dataclass(frozen=True)
class Rule:
    """An alarm, the condition on the metrics of one domain or network that raises it, and its
    texts, whose fields are those of `_fields`.
    """

    name: str
    holds: Callable[[MetricSeries], bool]
    saw: str
    means: str
    remedy: str
    where: str = "{G}"


def find_alarms(series: MetricSeries) -> Iterator[Alarm]:
    """All alarms, the most serious first."""
    found: list[Alarm] = []
    for domain in "BA":
        # The first explains the others: D is always right if all translations are one image.
        found += islice(_alarms(IMAGE_RULES, series.of(domain)), 1)
    yield from found
    # A collapsed translation cannot be reconstructed.
    if not any(alarm.name == "collapse" for alarm in found):
        for domain in "AB":
            yield from _alarms(CYCLE_RULES, series.of(domain))
    for network in NETWORKS:
        # The gradient of a D that is always right vanishes, as it has nothing left to learn.
        rules = NETWORK_RULES[1:] if found and network[0] == "D" else NETWORK_RULES
        yield from _alarms(rules, series.of(network))


def _alarms(rules: Iterable[Rule], series: MetricSeries) -> Iterator[Alarm]:
    for rule in rules:
        if rule.holds(series):
            fields = _fields(series)
            texts = (rule.where, rule.saw, rule.means, rule.remedy)
            # Python writes 12%, the other texts of the program 12 %.
            yield Alarm(rule.name, *(text.format_map(fields).replace("%", " %") for text in texts))


def _fields(series: MetricSeries) -> dict[str, object]:
    suffix, usual = series.suffix[1:], _usual_gradient(series)
    real, fake = series.latest("score_real"), series.latest("score_fake")
    losses = series.all("D") or [0.0]
    first, last = losses[0], losses[-1]
    return {
        **{name: series.latest(name) for name in (*_METRICS, "ratio")},
        "domain": suffix,
        "network": suffix,
        "G": GENERATOR_INTO.get(suffix),
        "lower_G": _lower_rate(series, "lr"),
        "lower_D": _lower_rate(series, "lr_D"),
        "lower": _lower_rate(series, "lr_D" if suffix[0] == "D" else "lr"),
        "scores": "" if isnan(real + fake) else f" (D(real) {real:.2f}, D(fake) {fake:.2f})",
        "loss": f", and its loss fell from {first:.2g} to {last:.2g}" if 0 < last < first else "",
        "error": mean(series.recent("error") or [nan]),
        "best_error": _best_cycle_error(series),
        "usual": usual,
        "clip": _plain(2 * usual),
    }


def _lower_rate(series: MetricSeries, option: str) -> str:
    """The option for a quarter of the learning rate that the run began with."""
    run = series.of("")
    first = max(run.all(option) or run.all("lr"), default=2e-4)
    return f"--{option} {_plain(first / 4)}"


def _plain(value: float) -> str:
    """5e-05 as 5e-5."""
    return f"{value:.1g}".replace("e-0", "e-").replace("e+0", "e")


def _rises(values: Sequence[float], *, factor: float, difference: float) -> bool:
    """True if the later half exceeds the earlier by both."""
    half = len(values) // 2
    before, now = mean(values[:half]), mean(values[half:])
    return now > max(factor * before, before + difference)


def _collapsed(domain: MetricSeries) -> bool:
    highest = domain.highest("diversity")
    return highest <= COLLAPSED and highest <= max(NOTHING_LEFT, LOST * domain.all("diversity")[0])


def _copies(domain: MetricSeries) -> bool:
    return (
        domain.lowest("pairs") >= PAIRS_COPY
        and domain.lowest("correlation") >= COPY_CORRELATION
        and domain.highest("change") <= COPY_CHANGE
        and not _rises(domain.recent("change"), factor=1.1, difference=0.5)
    )


def _wins(domain: MetricSeries) -> bool:
    pairs = domain.recent("pairs")
    if not pairs or _rises([1 - fraction for fraction in pairs], factor=2, difference=0.005):
        return False
    left = _loss_left(domain)
    memorized = min(pairs) > PAIRS_MOSTLY and left < LOSS_MEMORIZED
    return memorized or (min(pairs) > PAIRS_ALWAYS and not left >= LOSS_SURE)


def _loss_left(domain: MetricSeries) -> float:
    """D's recent loss as a fraction of its first; NaN if unknown, and 1 for a critic, whose loss
    has no bounds and tells nothing.
    """
    if not (recent := domain.recent("D")):
        return nan
    first, now = max(domain.all("D")[:3]), mean(recent)
    return now / first if min(first, now) > 0 else 1.0


def _best_cycle_error(domain: MetricSeries) -> float:
    """The lowest mean of three consecutive values; NaN without three."""
    before = domain.earlier("error")
    return min(map(sum, zip(before, before[1:], before[2:], strict=False)), default=nan) / 3


def _cycle_error_rises(domain: MetricSeries) -> bool:
    best = _best_cycle_error(domain)
    return domain.lowest("error") > max(RISEN * best, best + RISEN_LEVELS)


def _usual_gradient(network: MetricSeries) -> float:
    return median(network.earlier("gradient") or [nan])


IMAGE_RULES = (
    Rule(
        "collapse",
        _collapsed,
        "Images of fake_{domain} differ from each other {diversity:.0%} as much as their inputs do",
        "{G} makes nearly the same image of every input",
        'tie translations to their inputs: --cycle "10*l1", --content "2*color"; or use a '
        "discriminator that sees a lack of variety: --discriminator batch_head",
    ),
    Rule(
        "colour inversion",
        lambda domain: domain.highest("correlation") <= INVERTED,
        "The brightness of fake_{domain} is opposite to that of its input (correlation "
        "{correlation:.2f})",
        "Light became dark, and the way back inverts it again, so that no cycle loss notices: "
        "wrong unless the domains are negatives of each other",
        'start again, since this seldom recovers, with --identity "5*l1" or --content "2*color"; '
        "if those are there already, with --seed 1",
    ),
    Rule(
        "identity copy",
        _copies,
        "fake_{domain} is its input (correlation {correlation:.3f}, change {change:.1f} levels of "
        "255), and D_{domain} recognizes it in {pairs:.0%} of pairs",
        "The other losses tie {G} to its input more strongly than D_{domain} pulls it away",
        'lower them: --identity none, --content none, --cycle "3*l1"; or raise the adversarial '
        'weight: --adversarial "3*lsgan"',
    ),
    Rule(
        "D wins",
        _wins,
        "D_{domain} tells real from fake in {pairs:.0%} of pairs{scores}{loss}",
        "It learns faster than {G}, which learns little from a discriminator that is always right, "
        "or has memorized its few images",
        'slow it down: {lower_D}; regularize it: --discriminator "patch(norm=spectral)", --penalty '
        '"1*r1(every=16)"; with few images: --diffaugment "translation + cutout"',
        where="D_{domain}",
    ),
    Rule(
        "contrast lost",
        lambda domain: domain.highest("contrast") < FLAT,
        "fake_{domain} has {contrast:.0%} of the contrast of real images",
        "Its output is nearly uniform: the learning rate is too high, or no loss holds it",
        '{lower_G}, --identity "5*l1", --content "2*color"',
    ),
    Rule(
        "contrast blown up",
        lambda domain: domain.lowest("contrast") > GARISH,
        "fake_{domain} has {contrast:.0%} of the contrast of real images",
        "Its output is saturated: the learning rate is too high, or no loss holds it",
        '{lower_G}, --identity "5*l1", --content "2*color"',
    ),
    Rule(
        "colour shift",
        lambda domain: domain.lowest("colour") >= OFF_COLOUR,
        "The mean colour of fake_{domain} is {colour:.0f} levels of 255 from that of real images",
        "D_{domain} does not see colours, or gives them no weight",
        '--identity "5*l1", --content "2*color"',
    ),
)
CYCLE_RULES = (
    Rule(
        "cycle error rises",
        _cycle_error_rises,
        "rec_{domain} is {error:.1f} levels of 255 from real_{domain}, and was {best_error:.1f}",
        "The generators drift apart: translations keep less of their inputs than before",
        '{lower_G}, --cycle "20*l1"; weights of earlier epochs are kept',
        where="cycle_{domain}",
    ),
)
NETWORK_RULES = (
    Rule(
        "vanished gradients",
        lambda network: network.highest("gradient") < VANISHED,
        "The gradient of {network} has the norm {gradient:.1e}",
        "It has stopped learning: its outputs are saturated, or its layers are dead",
        "--precision fp32; start again with {lower}",
        where="{network}",
    ),
    Rule(
        "exploding gradients",
        lambda network: network.lowest("gradient") > EXPLODED * _usual_gradient(network) > 0,
        "The gradient of {network} has the norm {gradient:.3g}, where {usual:.3g} was usual",
        "Training is about to destroy what was learned",
        "--clip_grad {clip}, {lower}",
        where="{network}",
    ),
    Rule(
        "updates too large",
        lambda network: network.lowest("ratio") > OVERSHOT,
        "One update is {ratio:.0%} of the weights of {network}; about 0.1% to 1% is usual",
        "Each step destroys what others have learned",
        "{lower}",
        where="{network}",
    ),
)
