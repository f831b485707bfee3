"""The windows of a run's live page, in their order on the page."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from html import escape
from typing import Any

from cyclegan.data.files.jpeg import encode_jpeg
from cyclegan.monitor.health.curves import GROUPS, group, grouped, losses
from cyclegan.monitor.health.history import CurvePoints
from cyclegan.pages.html import hard_images_html, health_html
from cyclegan.pages.visdom import distributions, windows
from cyclegan.pages.visdom.buttons import WINDOW_HEIGHT, Controls
from cyclegan.pages.visdom.drawing import Window
from cyclegan.pages.visdom.windows import HEALTH, HEIGHT, PREVIEW, TWO_CELLS, height_beside
from cyclegan.runs.artifacts import HardImage, HardImages, Health, Histograms

HARD_IMAGES = "training images learned worst"

# Curves that every run has sooner or later; others come with the first report, or are expected.
ALWAYS = (
    *("adversarial_A", "D_A", "cycle_A", "pairs_A", "score_real_A", "error_A", "change_A"),
    *("correlation_A", "contrast_A", "colour_A", "gradient_G_AB", "ratio_G_AB"),
    *("images_per_second", "data_wait", "lr"),
)
NOTICE_HEIGHT = 2 * HEIGHT
# Plots before the controls, which stand third in their row.
PLOTS_ABOVE = 2
# Bytes of a thumbnail, and images of a domain: all together they stay under 300 kB as text.
THUMBNAIL_BYTES, MAX_IMAGES = 6_000, 16

Artifacts = Mapping[type, tuple[int, Any]]


def page(
    curves: Mapping[str, CurvePoints],
    artifacts: Artifacts,
    *,
    controls: Controls | None,
    expected: Iterable[str] = (),
    preview_height: int = 0,
) -> Iterator[Window]:
    """All windows but the slider, which takes the place of the first if there are previews.

    With controls, the page is that of a run in training: `expected` curves have empty windows from
    the start. A server keeps windows in the order of their making, so before the first losses only
    those are made that come first in any case.
    """
    yield Window(PREVIEW, None, _no_preview)
    beneath = WINDOW_HEIGHT if controls else 0
    height = height_beside(preview_height or NOTICE_HEIGHT, beneath=beneath)
    yield _health(artifacts, height=height)
    drawn = grouped(curves)
    awaited = {group(name) for name in (*ALWAYS, *expected)} if controls else set()
    titles = [title for title in GROUPS if title in drawn or title in awaited]
    plots = [
        _plot(title, {name: curves[name] for name in drawn.get(title, ())}) for title in titles
    ]
    yield from plots[:PLOTS_ABOVE]
    if controls:
        yield controls.window()
        if not losses(dict.fromkeys(curves, 0.0)):
            return
    yield from plots[PLOTS_ABOVE:]
    if Histograms in artifacts:
        step, histograms = artifacts[Histograms]
        for name, make in distributions.layer_plots(step, histograms):
            yield Window(name, (step, id(histograms)), make)
    if HardImages in artifacts:
        step, images = artifacts[HardImages]
        key = step, id(images)
        errors = partial(distributions.error_histograms, step, images.spread)
        yield Window(distributions.ERRORS, key, errors)
        yield Window(HARD_IMAGES, key, partial(hard_images, step, images))


def health(step: int, found: Health, *, height: int = HEIGHT) -> windows.Message:
    html = f'{health_html(found)}<p class="faint">at step {step:,}</p>'
    return windows.text(HEALTH, html, height=height)


def hard_images(step: int, images: HardImages) -> windows.Message:
    """The images of each domain with the largest cycle errors."""
    html = "".join(
        f"<h3>learned worst of {escape(domain)}</h3>{hard_images_html(map(_encoded, worst))}"
        for domain, worst in sorted((d, w[:MAX_IMAGES]) for d, w in images.worst.items())
    )
    html += f'<p class="faint">mean of |rec - real| in levels of 255, at step {step:,}</p>'
    return windows.text(HARD_IMAGES, html, width=TWO_CELLS, height=450)


def _plot(title: str, curves: Mapping[str, CurvePoints]) -> Window:
    key = tuple((name, curve.changes) for name, curve in curves.items())
    make = partial(windows.plot, title, curves) if curves else partial(windows.empty_plot, title)
    return Window(title, key, make)


def _health(artifacts: Artifacts, *, height: int) -> Window:
    if Health in artifacts:
        step, found = artifacts[Health]
        return Window(HEALTH, (step, found, height), partial(health, step, found, height=height))
    words = "How the run is doing is said here as soon as it can be told."
    return Window(HEALTH, height, partial(windows.notice, HEALTH, words, height=height))


def _no_preview() -> windows.Message:
    words = "The first preview will appear here."
    return windows.notice(PREVIEW, words, width=TWO_CELLS, height=NOTICE_HEIGHT)


def _encoded(image: HardImage) -> tuple[str, float, str]:
    data = b64encode(encode_jpeg(image.thumbnail, max_bytes=THUMBNAIL_BYTES)).decode()
    return image.file, image.error, f"data:image/jpeg;base64,{data}"
