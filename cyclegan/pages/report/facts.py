"""What a run's page tells in words: how the run is, what came out, and how it was made."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from cyclegan.config import yaml_files
from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.runs.artifacts import Health, Histogram
from cyclegan.runs.hard_example_files import Domain, Kept, read_domains
from cyclegan.runs.record import (
    EVALUATION_FILE,
    Record,
    is_number,
    read_json,
    read_settings,
)


def head(
    title: str, run_dir: Path, record: Record | None, health: Health | None, *, step: int | None
) -> str:
    """The name of the run, how it stands, and its most important numbers."""
    state = record.state if record else None
    pill = f'<span class="pill {state}">{state}</span>' if state else ""
    why = f"<p>{escape(record.why)}</p>" if record and record.why else ""
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(about)}</span></div>'
        for value, about in (*_progress(record, step), *_alarms(health), *figures(run_dir))
    )
    return f'<header><h1>{escape(title)} {pill}</h1>{why}<div class="tiles">{tiles}</div></header>'


def figures(run_dir: Path) -> Iterator[tuple[str, str]]:
    """What was measured on the test images at the end, each with a few words."""
    found = read_json(run_dir / EVALUATION_FILE)
    number = {k: v for k, v in found.items() if is_number(v)} if isinstance(found, dict) else {}
    after = f" after step {number['step']:,.0f}" if "step" in number else ""
    for name, unit, about in (
        ("swd", "", "sliced Wasserstein distance to real B"),
        ("psnr", " dB", "PSNR to real B"),
    ):
        if f"{name}_fake" in number:
            told = f"{about}{after}"
            if f"{name}_input" in number:
                told += f"; of the inputs {number[f'{name}_input']:.4g}{unit}"
            yield f"{number[f'{name}_fake']:.4g}{unit}", told


def health_of(health: Health | None) -> str:
    """Alarms first, then a line for each thing that is watched."""
    if health is None:
        return "<p>Nothing was measured yet that would tell how the run is.</p>"
    alarms = "".join(
        f'<div class="alarm"><h3>{escape(alarm.name)} <small>{escape(alarm.where)}</small></h3>'
        f"<p>{escape(alarm.saw)}</p><p>{escape(alarm.means)}</p>"
        f"<p><b>Try:</b> {escape(alarm.remedy)}</p></div>"
        for alarm in health.alarms
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in health.lines)
    return f'{alarms or _ALL_WELL}<ul class="lines">{lines}</ul>'


def hard_images(run_dir: Path) -> str:
    """By domain, how the cycle errors are spread and which images are worst; "" without any."""
    return "".join(_domain(name, found) for name, found in read_domains(run_dir).items())


def making(run_dir: Path, record: Record | None) -> str:
    """The command, the data, the machine and the settings."""
    settings = _settings(read_settings(run_dir))
    if record is None:
        return settings
    lines = "".join(f"<li>{escape(line.strip())}</li>" for line in record.data)
    facts = {"device": record.device, "begun": _day(record.started)}
    facts |= {"ended": _day(record.ended or ""), **record.versions}
    return (
        f"<h3>Command</h3><pre>{escape(shlex.join(record.command))}</pre>"
        f'<div class="halves"><div><h3>Data</h3><ul class="lines">{lines}</ul>'
        f"<h3>Machine</h3>{_table((k, v) for k, v in facts.items() if v)}</div>"
        f"<div>{settings}</div></div>"
    )


def _progress(record: Record | None, step: int | None) -> Iterator[tuple[str, str]]:
    done = max(step or 0, record.step if record else 0)
    total = record.total_steps if record else 0
    if total:
        yield f"{100 * min(1.0, done / total):.3g} %", f"step {done:,} of {total:,}"
    elif step is not None:
        yield f"{done:,}", "steps"
    if record and (seconds := _seconds(record)) is not None:
        until = "" if record.ended else " so far"
        yield _long(seconds), f"of training{until}, begun {_day(record.started)}"


def _alarms(health: Health | None) -> Iterator[tuple[str, str]]:
    if health is not None:
        count = len(health.alarms)
        names = ", ".join(f"{alarm.name} {alarm.where}" for alarm in health.alarms)
        yield "healthy" if not count else f"{count} alarm{'s' * (count > 1)}", names or "no alarm"


def _seconds(record: Record) -> float | None:
    try:
        begun = datetime.fromisoformat(record.started)
        ended = datetime.fromisoformat(record.ended) if record.ended else datetime.now(begun.tzinfo)
        return max(0.0, (ended - begun).total_seconds())
    except (ValueError, TypeError):
        return None


def _long(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _day(iso: str) -> str:
    """As 2026-03-01 14:05; as it is where it is no date."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return iso


def _domain(name: str, found: Domain) -> str:
    images = "".join(map(_hard_image, found.worst))
    return (
        f'<div class="domain"><h3>Images of {name}</h3>{_histogram(found.spread)}'
        f'<div class="thumbs">{images}</div></div>'
    )


def _hard_image(image: Kept) -> str:
    shown = f'<img src="{image.thumbnail}" alt="">' if image.thumbnail else ""
    return (
        f'<figure title="{escape(image.file)}">{shown}<figcaption><b>{image.error:.1f}</b> '
        f"{escape(Path(image.file).name)}</figcaption></figure>"
    )


def _histogram(spread: Histogram | None) -> str:
    if spread is None:
        return ""
    wide, most = 100 / len(spread.counts), max(spread.counts)
    bars = "".join(
        f'<rect x="{place * wide:.2f}" y="{100 - 100 * count / most:.1f}" '
        f'width="{0.9 * wide:.2f}" height="{100 * count / most:.1f}"/>'
        for place, count in enumerate(spread.counts)
    )
    return (
        '<figure class="spread"><svg viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'aria-hidden="true">{bars}</svg><figcaption><span>{spread.low:.3g}</span>'
        f"<span>cycle error of {sum(spread.counts):,} training images, levels of 255</span>"
        f"<span>{spread.high:.3g}</span></figcaption></figure>"
    )


def _settings(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    preset = str(values.get("preset", TrainSettings.model_fields["preset"].default))
    before = _defaults(preset)
    changed = [n for n, v in values.items() if n not in _NOT_CHANGES and v != before.get(n, v)]
    rows: list[Sequence[object]] = [(name, values[name], before[name]) for name in changed]
    told = f"<h3>Settings that are not those of the preset {escape(preset)}</h3>"
    told += _table(rows, heads=("option", "here", "preset")) if rows else "<p>None.</p>"
    everything = _table(values.items())
    return f"{told}<details><summary>All settings</summary>{everything}</details>"


def _defaults(preset: str) -> dict[str, Any]:
    """As plain data; where there is no such preset any more, the options' own."""
    fields = TrainSettings.model_fields.items()
    own = {n: str(f.default) if isinstance(f.default, Path) else f.default for n, f in fields}
    try:
        return own | yaml_files.load_preset(preset)
    except UserError:
        return own


def _table(rows: Iterable[Sequence[object]], *, heads: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    head = f"<thead><tr>{head}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_told(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _told(value: object) -> str:
    if value is None:
        return "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


# What every run has of its own.
_NOT_CHANGES = ("name", "preset", "checkpoints_dir", "num_threads")

_ALL_WELL = '<p class="well">Nothing looks wrong.</p>'
