"""The sections of a run's index.html: its results, its hard images, and how it was made."""

import shlex
from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path

from cyclegan.config.yaml_files import preset_values
from cyclegan.pages.html import hard_images_html, list_html, table_html
from cyclegan.runs.artifacts import Health, Histogram
from cyclegan.runs.folder import read_settings
from cyclegan.runs.hard_example_files import read_domains
from cyclegan.runs.record import EVALUATION_FILE, RunRecord, is_number, read_json

# Options whose values differ between runs anyway.
_UNREMARKABLE = ("name", "preset", "checkpoints_dir", "num_threads")


def header(
    title: str, run_dir: Path, record: RunRecord | None, health: Health | None, *, step: int | None
) -> str:
    """The name of the run, its state, and its most important numbers."""
    state = record.state if record else None
    pill = f'<span class="pill {state}">{state}</span>' if state else ""
    why = f"<p>{escape(record.why)}</p>" if record and record.why else ""
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(about)}</span></div>'
        for value, about in (*_progress(record, step), *_alarms(health), *_results(run_dir))
    )
    return f'<header><h1>{escape(title)} {pill}</h1>{why}<div class="tiles">{tiles}</div></header>'


def hard_images(run_dir: Path) -> str:
    """The histogram of the cycle errors and the worst images of each domain; "" without any."""
    domains = "".join(
        f'<div class="domain"><h3>Images of {name}</h3>{_histogram(domain.spread)}<div '
        f'class="thumbs">{hard_images_html((i.file, i.error, i.thumbnail) for i in domain.worst)}'
        "</div></div>"
        for name, domain in read_domains(run_dir).items()
    )
    return _section("hard", "Training images that are learned worst", domains)


def provenance(run_dir: Path, record: RunRecord | None) -> str:
    """The command, the data, the machine and the settings; "" if nothing is known."""
    html = _settings(run_dir)
    if record is not None:
        machine = {"device": record.device, "begun": _minute(record.started)}
        machine |= {"ended": _minute(record.ended or ""), **record.versions}
        html = (
            f"<h3>Command</h3><pre>{escape(shlex.join(record.command))}</pre>"
            f'<div class="halves"><div><h3>Data</h3>{list_html(map(str.strip, record.data))}'
            f"<h3>Machine</h3>{table_html((k, v) for k, v in machine.items() if v)}</div>"
            f"<div>{html}</div></div>"
        )
    return _section("making", "How it was made", html)


def _section(name: str, title: str, html: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{html}</section>' if html else ""


def _progress(record: RunRecord | None, step: int | None) -> Iterator[tuple[str, str]]:
    done = max(step or 0, record.step if record else 0)
    if record and record.total_steps:
        percent = 100 * min(1.0, done / record.total_steps)
        yield f"{percent:.3g} %", f"step {done:,} of {record.total_steps:,}"
    elif step is not None:
        yield f"{done:,}", "steps"
    if record and (duration := _duration(record)):
        so_far = "" if record.ended else " so far"
        yield duration, f"of training{so_far}, begun {_minute(record.started)}"


def _alarms(health: Health | None) -> Iterator[tuple[str, str]]:
    if health is not None:
        count = len(health.alarms)
        names = ", ".join(f"{alarm.name} {alarm.where}" for alarm in health.alarms)
        yield f"{count} alarm{'s' * (count > 1)}" if count else "healthy", names or "no alarm"


def _results(run_dir: Path) -> Iterator[tuple[str, str]]:
    """The final measurements on the test images, and what they are."""
    found = read_json(run_dir / EVALUATION_FILE)
    numbers = {k: v for k, v in found.items() if is_number(v)} if isinstance(found, dict) else {}
    after = f" after step {numbers['step']:,.0f}" if "step" in numbers else ""
    for name, unit, about in (
        ("swd", "", "sliced Wasserstein distance to real B"),
        ("psnr", " dB", "PSNR to real B"),
    ):
        fake, inputs = numbers.get(f"{name}_fake"), numbers.get(f"{name}_input")
        if fake is not None:
            compared = "" if inputs is None else f"; of the inputs {inputs:.4g}{unit}"
            yield f"{fake:.4g}{unit}", f"{about}{after}{compared}"


def _duration(record: RunRecord) -> str:
    try:
        begun = datetime.fromisoformat(record.started)
        ended = datetime.fromisoformat(record.ended) if record.ended else datetime.now(begun.tzinfo)
        seconds = max(0, round((ended - begun).total_seconds()))
    except (ValueError, TypeError):
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"


def _minute(iso: str) -> str:
    """As 2026-03-01 14:05; text that is no date stays as it is."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return iso


def _histogram(histogram: Histogram | None) -> str:
    if histogram is None:
        return ""
    counts = histogram.counts
    width, largest = 100 / len(counts), max(counts)
    bars = "".join(
        f'<rect x="{index * width:.2f}" y="{100 - 100 * count / largest:.1f}" '
        f'width="{0.9 * width:.2f}" height="{100 * count / largest:.1f}"/>'
        for index, count in enumerate(counts)
    )
    return (
        '<figure class="histogram"><svg viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'aria-hidden="true">{bars}</svg><figcaption><span>{histogram.low:.3g}</span>'
        f"<span>cycle error of {sum(counts):,} training images, levels of 255</span>"
        f"<span>{histogram.high:.3g}</span></figcaption></figure>"
    )


def _settings(run_dir: Path) -> str:
    values = read_settings(run_dir)
    if not values:
        return ""
    preset = str(values.get("preset", "classic"))
    defaults = preset_values(preset)
    rows = [
        (name, value, defaults[name])
        for name, value in values.items()
        if name not in _UNREMARKABLE and value != defaults.get(name, value)
    ]
    changed = table_html(rows, head=("option", "here", "preset")) if rows else "<p>None.</p>"
    return (
        f"<h3>Settings that are not those of the preset {escape(preset)}</h3>{changed}"
        f"<details><summary>All settings</summary>{table_html(values.items())}</details>"
    )
