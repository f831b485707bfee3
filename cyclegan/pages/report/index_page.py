"""A run's index.html: one file with all that it shows, to be opened from disk."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template

from cyclegan.monitor.health.history import CurvePoints, Curves
from cyclegan.monitor.health.summary import summarize_health
from cyclegan.pages.html import health_html
from cyclegan.pages.report.sections import hard_images, header, provenance
from cyclegan.pages.report.svg_charts import charts
from cyclegan.runs.artifacts import Health
from cyclegan.runs.atomic_files import write_atomically
from cyclegan.runs.folder import read_settings, total_steps
from cyclegan.runs.metrics_log import Point, read_metrics
from cyclegan.runs.preview_files import base64_previews
from cyclegan.runs.record import read_record

REPORT_FILE = "index.html"


def write_report(
    run_dir: Path,
    *,
    curves: Mapping[str, CurvePoints] | None = None,
    health: Health | None = None,
) -> None:
    """Writes <run_dir>/index.html; raises OSError if the write fails. Without `curves`, they and
    the health come from the run's files.
    """
    if curves is None:
        points = read_metrics(run_dir)
        curves = thinned(points)
        health = summarize_health(points, total_steps=total_steps(run_dir, points))
    # In pieces: with all its previews, the page would take much memory.
    parts = _page(run_dir, curves, health)
    write_atomically(
        run_dir / REPORT_FILE,
        lambda file: file.writelines(
            part if isinstance(part, bytes) else part.encode(errors="replace") for part in parts
        ),
    )


def thinned(points: Iterable[Point]) -> Mapping[str, CurvePoints]:
    """The curves by name, with no more points than a page can show."""
    curves = Curves()
    for step, values in points:
        curves.add(step, values)
    return curves.copy()


def _page(
    run_dir: Path, curves: Mapping[str, CurvePoints], health: Health | None
) -> Iterator[str | bytes]:
    template, style, script = (
        Path(__file__).with_name(f"report.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    )
    record = read_record(run_dir)
    title, preset = run_dir.resolve().name, read_settings(run_dir).get("preset")
    title = f"{title} ({preset})" if isinstance(preset, str) else title
    step = max((curve.steps[-1] for curve in curves.values()), default=None)
    values = {
        "title": escape(title),
        "script_hash": base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode(),
        "style": style,
        "header": header(title, run_dir, record, health, step=step),
        "health": health_html(health) if health else "<p>Health has not been measured yet.</p>",
        "charts": "".join(charts(curves)) or "<p>Nothing was reported yet.</p>",
        "hard_images": hard_images(run_dir),
        "provenance": provenance(run_dir, record),
        "written": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "script": script,
    }
    before, after = template.split("$previews")
    yield Template(before).substitute(values)
    yield from _previews(run_dir, until=step)
    yield Template(after).substitute(values)


def _previews(run_dir: Path, *, until: int | None) -> Iterator[str | bytes]:
    """All previews in one place; the newest is shown until the slider is moved."""
    steps: list[int] = []
    yield '<div class="stack">'
    for step, picture in base64_previews(run_dir, until=until):
        steps.append(step)
        yield f'<img alt="preview at step {step:,}" data-step="{step:,}" '
        yield from ('src="data:image/jpeg;base64,', picture, '">\n')
    yield "</div>"
    if not steps:
        yield "<p>No preview yet.</p>"
        return
    last = len(steps) - 1
    if last:
        yield (
            f'<div class="slider"><input type="range" id="when" min="0" max="{last}" '
            f'value="{last}" aria-label="step"><output id="step">step {steps[-1]:,}</output></div>'
        )
    alone = "" if last else "only"
    yield f'<p class="paper {alone}">The fixed images after step {steps[-1]:,}.</p>'
