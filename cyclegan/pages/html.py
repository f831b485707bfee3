"""Health, hard images and tables as HTML for every page, each of which has its own styles."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from cyclegan.runs.artifacts import Health


def health_html(health: Health) -> str:
    """The alarms, then a line for each quantity that is watched."""
    alarms = "".join(
        f'<div class="alarm"><h3>{escape(alarm.name)} <small>{escape(alarm.where)}</small></h3>'
        f"<p>{escape(alarm.saw)}</p><p>{escape(alarm.means)}</p>"
        f"<p><b>Try:</b> {escape(alarm.remedy)}</p></div>"
        for alarm in health.alarms
    )
    healthy = '<p class="healthy">Nothing looks wrong.</p>'
    return f"{alarms or healthy}{list_html(health.lines)}"


def hard_images_html(images: Iterable[tuple[str, float, str]]) -> str:
    """Images by file, cycle error and thumbnail, which is a data URI or "". A click enlarges one
    and shows its whole path.
    """
    return "".join(
        f'<details class="hard"><summary title="{escape(file)}">'
        + (f'<img src="{uri}" alt="{escape(file)}">' if uri else "")
        + f"<b>{error:.1f}</b> <span>{escape(Path(file).name)}</span></summary>"
        f"<div>{escape(file)}</div></details>"
        for file, error, uri in images
    )


def list_html(lines: Iterable[str]) -> str:
    return f'<ul class="lines">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def table_html(rows: Iterable[Sequence[object]], *, head: Sequence[str] = ()) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>" for row in rows
    )
    thead = f"<thead><tr>{cells}</tr></thead>" if head else ""
    return f"<table>{thead}<tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
