"""What in a run's numbers is wrong, told from what merely goes up and down.

All thresholds were found on runs of this program: healthy ones of low to high resolution, horses
and zebras, two styles of drawings and super-resolution, and sick ones of every kind.
"""

from collections.abc import Iterator, Sequence
from statistics import mean, median

from cyclegan.monitor.health.series import Record
from cyclegan.runs.artifacts import Alarm

# Share of pairs that D puts in order, and of its first loss that is left. In a healthy run D may
# come to be right nearly always, but keeps a quarter of its loss, as it is not sure of it.
ALWAYS, SURE = 0.985, 0.15
# Or most of the pairs of the fixed images, and nearly no loss on training's, known by heart.
MOSTLY, BY_HEART = 0.75, 0.06
# Of a copy less is enough, as it has as good a reason.
TELLS = 0.95
# Share of the inputs' diversity. Healthy runs go up to 0.5 and more; generators that have learned
# nothing yet begin at 0.1 to 0.5, or at 0.01 without norms, and have lost nothing.
COLLAPSED, LOST, NOTHING_LEFT = 0.15, 0.75, 0.05
INVERTED = -0.3
# Sharpened by the size it has, an image correlates by 0.98 and changes by 2 levels, but fools D.
COPIED, UNCHANGED = 0.97, 8.0
FLAT, GARISH = 0.25, 4.0
# Of a few images with other contents, mean colours differ by up to 80 levels in a healthy run.
OFF_COLOUR = 120.0
# Times the least, and levels above it.
RISEN, RISEN_LEVELS = 1.5, 3.0
VANISHED, EXPLODED = 1e-7, 50.0
OVERSHOT = 0.25

NETWORKS = ("G_AB", "G_BA", "D_A", "D_B")
GENERATOR_INTO = {"A": "G_BA", "B": "G_AB"}


def find(record: Record) -> Iterator[Alarm]:
    """All that is wrong, the gravest first."""
    collapsed = sick = False
    for domain in "BA":
        if alarm := _pictures(record, domain):
            collapsed |= alarm.name == "collapse"
            sick = True
            yield alarm
    # Of what has collapsed nothing can be brought back.
    if not collapsed:
        for domain in "AB":
            yield from _cycle(record, domain)
    for network in NETWORKS:
        # A judge that is always right has nothing left to learn.
        if not (sick and network[0] == "D"):
            yield from _vanished(record, network)
        yield from _exploded(record, network)
        yield from _overshot(record, network)


def _pictures(record: Record, domain: str) -> Alarm | None:
    """What is wrong with translations into a domain: the first that holds explains the others, as
    a D that is always right is no wonder where all translations are one image.
    """
    for look in (_collapse, _inversion, _copy, _won, _contrast, _colour):
        if alarm := look(record, domain):
            return alarm
    return None


def _collapse(record: Record, domain: str) -> Alarm | None:
    recent = record.recent(f"diversity_{domain}")
    if not recent or max(recent) > COLLAPSED:
        return None
    first = record.all(f"diversity_{domain}")[0]
    if max(recent) > max(NOTHING_LEFT, LOST * first):
        return None
    generator = GENERATOR_INTO[domain]
    return Alarm(
        "collapse",
        generator,
        saw=f"Images of fake_{domain} differ from each other {_percent(recent[-1])} as much as "
        "their inputs do",
        means=f"{generator} makes nearly the same image of every input",
        remedy='hold translations to their inputs: --cycle "10*l1", --content "2*color"; or a '
        "judge that sees a lack of variety: --discriminator batch_head",
    )


def _inversion(record: Record, domain: str) -> Alarm | None:
    recent = record.recent(f"correlation_{domain}")
    if not recent or max(recent) > INVERTED:
        return None
    generator = GENERATOR_INTO[domain]
    return Alarm(
        "colour inversion",
        generator,
        saw=f"The light of fake_{domain} runs against that of its input (correlation "
        f"{recent[-1]:.2f})",
        means="Light became dark, and the way back turns it again, so that no cycle loss minds: "
        "wrong unless the domains are negatives of each other",
        remedy='start again, as this seldom mends itself, with --identity "5*l1" or --content '
        '"2*color"; if those are there already, with --seed 1',
    )


def _copy(record: Record, domain: str) -> Alarm | None:
    pairs, likeness, changes = (
        record.recent(f"{name}_{domain}") for name in ("pairs", "correlation", "change")
    )
    if not pairs or not likeness or min(pairs) < TELLS or min(likeness) < COPIED:
        return None
    if max(changes) > UNCHANGED or _rises(changes, by=1.1, least=0.5):
        return None
    generator = GENERATOR_INTO[domain]
    return Alarm(
        "identity copy",
        generator,
        saw=f"fake_{domain} is its input (correlation {likeness[-1]:.3f}, change {changes[-1]:.1f} "
        f"levels of 255), and D_{domain} knows it in {_percent(pairs[-1])} of pairs",
        means=f"Other losses hold {generator} to its input more strongly than D_{domain} draws it "
        "away",
        remedy='loosen them: --identity none, --content none, --cycle "3*l1"; or raise the '
        'game\'s weight: --adversarial "3*lsgan"',
    )


def _won(record: Record, domain: str) -> Alarm | None:
    pairs = record.recent(f"pairs_{domain}")
    if not pairs or _rises([1 - share for share in pairs], by=2, least=0.005):
        return None
    left = _left(record, domain)
    always = min(pairs) > ALWAYS and (left is None or left < SURE)
    by_heart = min(pairs) > MOSTLY and left is not None and left < BY_HEART
    if not (always or by_heart):
        return None
    real, fake = (record.latest(f"score_{kind}_{domain}") for kind in ("real", "fake"))
    scores = "" if real is None or fake is None else f" (D(real) {real:.2f}, D(fake) {fake:.2f})"
    losses = record.all(f"D_{domain}") or [0.0]
    first, last = losses[0], losses[-1]
    loss = f", and its loss fell from {first:.2g} to {last:.2g}" if 0 < last < first else ""
    return Alarm(
        "D wins",
        f"D_{domain}",
        saw=f"D_{domain} tells real from fake in {_percent(pairs[-1])} of pairs{scores}{loss}",
        means=f"It learns faster than {GENERATOR_INTO[domain]}, which learns little from a judge "
        "that is always right, or knows its few images by heart",
        remedy=f"slow it down: {_rate(record, f'D_{domain}')}; hold it: --discriminator "
        '"patch(norm=spectral)", --penalty "1*r1(every=16)"; of few images: --diffaugment '
        '"translation + cutout"',
    )


def _contrast(record: Record, domain: str) -> Alarm | None:
    recent = record.recent(f"contrast_{domain}")
    if not recent or not (max(recent) < FLAT or min(recent) > GARISH):
        return None
    flat = recent[-1] < 1
    means = "Its output has died away" if flat else "Its output has left the range of images"
    return Alarm(
        "contrast lost" if flat else "contrast blown up",
        GENERATOR_INTO[domain],
        saw=f"fake_{domain} has {_percent(recent[-1])} of the contrast of real images",
        means=f"{means}: the learning rate is too high, or nothing holds it",
        remedy=f'{_rate(record, "G")}, --identity "5*l1", --content "2*color"',
    )


def _colour(record: Record, domain: str) -> Alarm | None:
    recent = record.recent(f"colour_{domain}")
    if not recent or min(recent) < OFF_COLOUR:
        return None
    return Alarm(
        "colour shift",
        GENERATOR_INTO[domain],
        saw=f"The mean colour of fake_{domain} is {recent[-1]:.0f} levels of 255 from that of real "
        "images",
        means=f"D_{domain} does not see colours, or does not mind them",
        remedy='--identity "5*l1", --content "2*color"',
    )


def _cycle(record: Record, domain: str) -> Iterator[Alarm]:
    errors, recent = record.all(f"error_{domain}"), record.recent(f"error_{domain}")
    before = errors[: len(errors) - len(recent)]
    if not recent or len(before) < 3:
        return
    best = min(map(sum, zip(before, before[1:], before[2:], strict=False))) / 3
    if min(recent) > max(RISEN * best, best + RISEN_LEVELS):
        yield Alarm(
            "cycle error rises",
            f"cycle_{domain}",
            saw=f"rec_{domain} is {mean(recent):.1f} levels of 255 from real_{domain}, and was "
            f"{best:.1f}",
            means="The generators drift apart: translations keep less of their inputs than before",
            remedy=f'{_rate(record, "G")}, --cycle "20*l1"; weights of earlier epochs are kept',
        )


def _vanished(record: Record, network: str) -> Iterator[Alarm]:
    recent = record.recent(f"gradient_{network}")
    if recent and max(recent) < VANISHED:
        yield Alarm(
            "vanished gradients",
            network,
            saw=f"The gradient of {network} has the length {recent[-1]:.1e}",
            means="It learns nothing more: its outputs are at their limits, or its layers are dead",
            remedy=f"--precision fp32; start again with {_rate(record, network)}",
        )


def _exploded(record: Record, network: str) -> Iterator[Alarm]:
    name = f"gradient_{network}"
    recent = record.recent(name)
    before = record.all(name)[: -len(recent) or None]
    if recent and len(before) >= 3 and min(recent) > EXPLODED * (usual := median(before)) > 0:
        yield Alarm(
            "exploding gradients",
            network,
            saw=f"The gradient of {network} has the length {recent[-1]:.3g}, where {usual:.3g} was "
            "usual",
            means="Training is about to leave what it has learned",
            remedy=f"--clip_grad {_plain(2 * usual)}, {_rate(record, network)}",
        )


def _overshot(record: Record, network: str) -> Iterator[Alarm]:
    recent = record.recent(f"ratio_{network}")
    if recent and min(recent) > OVERSHOT:
        yield Alarm(
            "updates too large",
            network,
            saw=f"One update is {_percent(recent[-1])} of the weights of {network}; about 0.1 % to "
            "1 % is usual",
            means="It forgets by every step what it learned by others",
            remedy=_rate(record, network),
        )


def _left(record: Record, domain: str) -> float | None:
    """The share of D's first loss that is left, as far as it is known; 1 for a critic without
    bounds, whose loss tells nothing.
    """
    losses, recent = record.all(f"D_{domain}"), record.recent(f"D_{domain}")
    if not recent:
        return None
    first, now = max(losses[:3]), mean(recent)
    return now / first if min(first, now) > 0 else 1.0


def _rises(values: Sequence[float], *, by: float, least: float = 0.0) -> bool:
    """Whether the later half is so many times the earlier, and so much above it."""
    half = len(values) // 2
    before, now = mean(values[:half]), mean(values[half:])
    return now > max(by * before, before + least)


def _rate(record: Record, network: str) -> str:
    """A quarter of what the run began with."""
    option = "lr_D" if network[0] == "D" else "lr"
    first = max(record.all(option) or record.all("lr"), default=2e-4)
    return f"--{option} {_plain(first / 4)}"


def _plain(value: float) -> str:
    """5e-05 as 5e-5."""
    return f"{value:.1g}".replace("e-0", "e-").replace("e+0", "e")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
