"""A run's index.html: its curves and previews, to be opened from disk without any server."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from cyclegan.checkpoint import write_atomically
from cyclegan.monitor.curves import grouped

_COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#a16207", "#475569")
_WIDTH, _HEIGHT, _MARGIN = 560, 240, 44
# A curve needs no more points than it has pixels.
_MOST_POINTS = 500

_MEASURES = ("swd", "psnr")

Points = Sequence[tuple[int, dict[str, float]]]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem;
        color: #1e293b; background: #fff; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1rem; margin: 0 0 .3rem; font-weight: 600; }}
.curves {{ display: flex; flex-wrap: wrap; gap: 1.5rem; }}
svg {{ font: 11px system-ui, sans-serif; max-width: 100%; }}
#preview {{ max-width: 100%; border: 1px solid #e2e8f0; }}
input[type=range] {{ width: min(100%, 560px); }}
</style></head><body>
<h1>{title}</h1>
{previews}
<div class="curves">{curves}</div>
</body></html>
"""

_PREVIEWS = """<p>From the left: real A, translated to B, back to A; real B, to A, back to B.</p>
<p><input type="range" id="when" min="0" max="{last}" value="{last}" aria-label="step">
<output id="step">{name}</output></p>
<p><img id="preview" src="previews/{name}" alt="preview"></p>
<script>
const names = {names};
document.getElementById("when").oninput = (event) => {{
  const name = names[event.target.value];
  document.getElementById("preview").src = "previews/" + name;
  document.getElementById("step").textContent = name;
}};
</script>"""


def write_report(run_dir: Path, *, title: str, points: Points) -> None:
    """Writes <run_dir>/index.html; raises OSError where the disk takes it not."""
    curves = "".join(_chart(title, names, points) for title, names in _titles(points))
    page = _PAGE.format(title=escape(title), previews=_previews(run_dir), curves=curves)
    write_atomically(run_dir / "index.html", lambda file: file.write(page.encode(errors="replace")))


def _previews(run_dir: Path) -> str:
    names = sorted(path.name for path in (run_dir / "previews").glob("step_*.png"))
    if not names:
        return "<p>No preview yet.</p>"
    return _PREVIEWS.format(last=len(names) - 1, name=names[-1], names=names)


def _titles(points: Points) -> Iterable[tuple[str, list[str]]]:
    return grouped({name for _, values in points for name in values}).items()


def _chart(title: str, names: list[str], points: Points) -> str:
    curves = {name: _curve(name, points) for name in names}
    values = [value for curve in curves.values() for _, value in curve]
    if not values:
        return ""
    low, high = min(values), max(values)
    # Of losses 0 is the goal; of measures only the change can be seen.
    if names[0] not in _MEASURES:
        low = min(0.0, low)
    span = (points[0][0], max(points[-1][0], points[0][0] + 1), low, max(high, low + 1e-12))
    lines = "".join(
        f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{_path(curve, span)}"/>'
        f'<text x="{_MARGIN + 8 + 130 * (place % 4)}" y="{14 + 14 * (place // 4)}" fill="{color}">'
        f"{escape(name)}</text>"
        for place, ((name, curve), color) in enumerate(
            zip(curves.items(), _COLORS * len(curves), strict=False)
        )
    )
    return (
        f'<section><h2>{escape(title)}</h2><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}">'
        f"{_axes(span)}{lines}</svg></section>"
    )


def _curve(name: str, points: Points) -> list[tuple[int, float]]:
    curve = [(step, values[name]) for step, values in points if name in values]
    curve = [(step, value) for step, value in curve if abs(value) < float("inf")]
    return curve[:: max(1, -(-len(curve) // _MOST_POINTS))]


def _path(curve: list[tuple[int, float]], span: tuple[float, float, float, float]) -> str:
    first, last, low, high = span
    inner_width, inner_height = _WIDTH - _MARGIN - 8, _HEIGHT - 60
    return " ".join(
        f"{_MARGIN + inner_width * (step - first) / (last - first):.1f},"
        f"{_HEIGHT - 24 - inner_height * (value - low) / (high - low):.1f}"
        for step, value in curve
    )


def _axes(span: tuple[float, float, float, float]) -> str:
    first, last, low, high = span
    bottom, top = _HEIGHT - 24, 36
    line = 'stroke="#cbd5e1" stroke-width="1"'
    return (
        f'<line x1="{_MARGIN}" y1="{bottom}" x2="{_WIDTH - 8}" y2="{bottom}" {line}/>'
        f'<line x1="{_MARGIN}" y1="{top}" x2="{_MARGIN}" y2="{bottom}" {line}/>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 8}">step {first:,}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 8}" text-anchor="end">{last:,}</text>'
        f'<text x="{_MARGIN - 6}" y="{top + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_MARGIN - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
    )
