"""A run's index.html: all of it in one file, to be opened from disk without a server or network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from html import escape
from pathlib import Path

from cyclegan.monitor.health.history import Curves
from cyclegan.monitor.health.summary import judge
from cyclegan.pages.report.charts import Line, charts
from cyclegan.pages.report.facts import (
    hard_images,
    head,
    health_of,
    making,
)
from cyclegan.runs.artifacts import Health
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.metrics_log import Point, read_metrics
from cyclegan.runs.preview_files import previews
from cyclegan.runs.record import read_record, read_settings, total_steps

REPORT_FILE = "index.html"

_STYLE = Path(__file__).with_name("report.css")
_SCRIPT = Path(__file__).with_name("report.js")

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'">
<style>
{style}</style></head><body>
"""

_SLIDER = """<div class="slider"><input type="range" id="when" min="0" max="{last}" value="{last}" \
aria-label="step"><output id="step">step {step:,}</output></div>
"""

_FOOT = """<footer>Written {when}. This page is one file: it asks no server.</footer>
<script>
{script}</script></body></html>
"""


def write_report(
    run_dir: Path,
    *,
    title: str | None = None,
    curves: Mapping[str, Line] | None = None,
    health: Health | None = None,
) -> None:
    """Writes <run_dir>/index.html; raises OSError where the disk takes it not.

    Without `curves`, as a run that goes on has them in memory, all is read from the run's files,
    and judged anew.
    """
    if curves is None:
        points = read_metrics(run_dir)
        curves = thinned(points)
        health = judge(points, total_steps=total_steps(run_dir, points))
    parts = _page(run_dir, title or title_of(run_dir), curves, health)
    write_atomically(
        run_dir / REPORT_FILE,
        lambda file: file.writelines(
            part if isinstance(part, bytes) else part.encode(errors="replace") for part in parts
        ),
    )


def thinned(points: Iterable[Point]) -> Mapping[str, Line]:
    """The curves, by name, of no more points than a page can show."""
    curves = Curves()
    for step, values in points:
        curves.add(step, values)
    return curves.copy()


def title_of(run_dir: Path) -> str:
    """The run's name and preset, as far as they are known."""
    preset = read_settings(run_dir).get("preset")
    name = run_dir.resolve().name
    return f"{name} ({preset})" if isinstance(preset, str) else name


def _page(
    run_dir: Path, title: str, curves: Mapping[str, Line], health: Health | None
) -> Iterator[str | bytes]:
    """Piece by piece: with all its previews the page is not to lie in memory whole."""
    record = read_record(run_dir)
    script = _SCRIPT.read_text(encoding="utf-8")
    step = max((curve.steps[-1] for curve in curves.values()), default=None)
    yield _HEAD.format(
        title=escape(title),
        style=_STYLE.read_text(encoding="utf-8"),
        script_hash=_hash(f"\n{script}"),
    )
    yield head(title, run_dir, record, health, step=step)
    yield '<main><section id="previews"><h2>Previews</h2>'
    yield from _previews(run_dir, until=step)
    yield f'</section><section id="health"><h2>Health</h2>{health_of(health)}</section>'
    drawn = "".join(charts(curves)) or "<p>Nothing was reported yet.</p>"
    yield f'<section id="curves"><h2>Curves</h2><div class="charts">{drawn}</div></section>'
    if worst := hard_images(run_dir):
        yield f'<section id="hard"><h2>Training images that are learned worst</h2>{worst}</section>'
    if told := making(run_dir, record):
        yield f'<section id="making"><h2>How it was made</h2>{told}</section>'
    yield "</main>"
    yield _FOOT.format(when=datetime.now().strftime("%Y-%m-%d %H:%M"), script=script)


def _previews(run_dir: Path, *, until: int | None) -> Iterator[str | bytes]:
    """All in one place, of which one is shown: the newest, until the slider is moved."""
    steps: list[int] = []
    yield '<div class="stack">'
    for step, picture in previews(run_dir, until=until):
        steps.append(step)
        yield f'<img alt="preview at step {step:,}" data-step="{step:,}" '
        yield 'src="data:image/jpeg;base64,'
        yield picture
        yield '">\n'
    yield "</div>"
    if len(steps) > 1:
        yield _SLIDER.format(last=len(steps) - 1, step=steps[-1])
    if steps:
        alone = "" if len(steps) > 1 else "only"
        yield f'<p class="paper {alone}">The fixed images after step {steps[-1]:,}.</p>'
    else:
        yield "<p>No preview yet.</p>"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
