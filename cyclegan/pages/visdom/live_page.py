"""The windows of a run's live page, in the order in which a reader finds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from cyclegan.monitor.health.curves import (
    GROUPS,
    group,
    grouped,
    losses,
)
from cyclegan.monitor.health.history import Drawn
from cyclegan.pages.visdom import distributions, windows
from cyclegan.pages.visdom import text as texts
from cyclegan.pages.visdom.buttons import WINDOW_HEIGHT, Controls
from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.windows import (
    HEALTH,
    HEIGHT,
    PREVIEW,
    TWO_CELLS,
    height_beside,
    text,
)
from cyclegan.runs.artifacts import HardImages, Health, Histograms

HARD_IMAGES = "training images learned worst"

# The curves that every run has in time; others come with the first report, or are expected.
ALWAYS = (
    *("adversarial_A", "D_A", "cycle_A", "pairs_A", "score_real_A", "error_A", "change_A"),
    *("correlation_A", "contrast_A", "colour_A", "gradient_G_AB", "ratio_G_AB"),
    *("images_per_second", "data_wait", "lr"),
)
NOTICE_HEIGHT = 2 * HEIGHT
# Plots above the controls, which stand third in their row.
ABOVE = 2

Exhibits = Mapping[type, tuple[int, Any]]


def page(
    curves: Mapping[str, Drawn],
    exhibits: Exhibits,
    *,
    controls: Controls | None,
    expected: Iterable[str] = (),
    preview_height: int = 0,
) -> Iterator[Window]:
    """All windows; where there are pictures, the slider with them already stands in its place.

    With controls it is the page of a run that goes on: curves `expected` have their windows, empty,
    from the start. Before the first losses there are no more than come first anyway: a server
    keeps windows in the order of their making.
    """
    yield Window(PREVIEW, None, _notice)
    beneath = WINDOW_HEIGHT if controls else 0
    height = height_beside(preview_height or NOTICE_HEIGHT, beneath=beneath)
    yield _health(exhibits, height=height)
    together = grouped(curves)
    awaited = {group(name) for name in (*ALWAYS, *expected)} if controls else set()
    titles = [title for title in GROUPS if title in together or title in awaited]
    for title in titles[:ABOVE]:
        yield _plot(title, together.get(title, []), curves)
    if controls:
        yield controls.window()
        if not losses(dict.fromkeys(curves, 0.0)):
            return
    for title in titles[ABOVE:]:
        yield _plot(title, together.get(title, []), curves)
    yield from _histograms(exhibits)
    yield from _hard_images(exhibits)


def _plot(title: str, names: Iterable[str], curves: Mapping[str, Drawn]) -> Window:
    chosen = {name: curves[name] for name in names}
    if not chosen:
        return Window(title, (), partial(windows.empty_plot, title))
    key = tuple((name, curve.changes) for name, curve in chosen.items())
    return Window(title, key, partial(windows.plot, title, chosen))


def _health(exhibits: Exhibits, *, height: int) -> Window:
    if Health in exhibits:
        html = texts.health(*exhibits[Health])
    else:
        html = texts.notice("How the run is doing is said here as soon as it can be told.")
    return Window(HEALTH, (html, height), partial(text, HEALTH, html, height=height))


def _histograms(exhibits: Exhibits) -> Iterator[Window]:
    if Histograms in exhibits:
        step, histograms = exhibits[Histograms]
        for name, make in distributions.histogram_plots(step, histograms):
            yield Window(name, (step, id(histograms)), make)


def _hard_images(exhibits: Exhibits) -> Iterator[Window]:
    if HardImages in exhibits:
        step, images = exhibits[HardImages]
        key = step, id(images)
        bars = partial(distributions.error_bars, step, images.spread)
        yield Window(distributions.ERRORS, key, bars)
        yield Window(HARD_IMAGES, key, partial(_gallery, step, images))


def _gallery(step: int, images: HardImages) -> windows.Message:
    return text(HARD_IMAGES, texts.hard_images(step, images), width=TWO_CELLS, height=450)


def _notice() -> windows.Message:
    html = texts.notice("The first preview will appear here.")
    return text(PREVIEW, html, width=TWO_CELLS, height=NOTICE_HEIGHT)
