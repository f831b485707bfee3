"""A run in one line: read from its files alone, whatever state they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cyclegan.config.errors import printable
from cyclegan.monitor.health.summary import judge
from cyclegan.runs.artifacts import Health
from cyclegan.runs.metrics_log import Point, read_metrics
from cyclegan.runs.record import (
    EVALUATION_FILE,
    State,
    is_number,
    is_resumable,
    read_json,
    read_record,
    read_settings,
    state_of,
    total_steps,
)

_COLOURS: Mapping[State, str] = {
    "running": "blue",
    "paused": "yellow",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "crashed": "red",
}
# Whether less is better, and how the figure is told.
_MEASURES = {"swd": (True, "SWD {:.4g}"), "psnr": (False, "PSNR {:.2f} dB")}


@dataclass(frozen=True)
class Best:
    """The best value of a measure, and the step that it was measured after."""

    value: float
    step: int


@dataclass(frozen=True)
class Summary:
    name: str
    data: str
    step: int
    total_steps: int
    state: State
    resumable: bool
    why: str
    health: Health | None
    best: Mapping[str, Best]


def summary(run_dir: Path) -> Summary:
    """What the files of a run tell; what they do not is "", 0 or None."""
    points = read_metrics(run_dir)
    record = read_record(run_dir)
    total = total_steps(run_dir, points)
    told = [points[-1][0]] if points else []
    return Summary(
        name=run_dir.name,
        data=_data(read_settings(run_dir)),
        step=max([0, *told, record.step if record else 0]),
        total_steps=total,
        state=state_of(run_dir),
        resumable=is_resumable(run_dir),
        why=record.why if record else "",
        health=judge(points, total_steps=total),
        best=_best(points, read_json(run_dir / EVALUATION_FILE)),
    )


def as_dict(run: Summary) -> dict[str, Any]:
    """The same as plain data."""
    health = run.health
    alarms = [vars(alarm) for alarm in health.alarms] if health else []
    best = {name: vars(best) for name, best in run.best.items()}
    lines = list(health.lines) if health else None
    return {**vars(run), "health": lines, "alarms": alarms, "best": best}


def table(runs: Iterable[Summary]) -> Table:
    """A line for each run."""
    drawn = Table("name", "data", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column("step", justify="right")
    for title in ("state", "health", "best"):
        drawn.add_column(title)
    for run in runs:
        drawn.add_row(
            Text(printable(run.name), style="bold"),
            Text(printable(run.data)),
            Text(f"{run.step:,}/{run.total_steps:,}" if run.total_steps else f"{run.step:,}"),
            Text(_state(run), style=_COLOURS[run.state]),
            _health(run.health),
            Text(_told(run.best)),
        )
    return drawn


def _data(settings: Mapping[str, Any]) -> str:
    both = [settings[name] for name in ("dir_A", "dir_B") if settings.get(name)]
    return ", ".join(map(str, both)) or str(settings.get("dataroot") or "")


def _state(run: Summary) -> str:
    over = run.state in ("running", "paused", "finished")
    return run.state if over or not run.resumable else f"{run.state}, resumable"


def _health(health: Health | None) -> Text:
    """The gravest alarm; nothing where it is too early to tell."""
    if health is None:
        return Text("")
    if not health.alarms:
        return Text("healthy", style="green")
    first, *others = health.alarms
    more = f" and {len(others)} more" if others else ""
    return Text(f"{first.name} {first.where}{more}", style="red")


def _best(points: Iterable[Point], evaluation: object) -> dict[str, Best]:
    """Of all that was measured on the way, and at the end."""
    measured = [*points, *_at_end(evaluation)]
    found = {}
    for name, (less, _) in _MEASURES.items():
        values = [Best(v[name], step) for step, v in measured if is_number(v.get(name))]
        if values:
            found[name] = (min if less else max)(values, key=lambda best: best.value)
    return found


def _at_end(evaluation: object) -> Iterable[Point]:
    if isinstance(evaluation, dict):
        figures = {name: evaluation.get(f"{name}_fake") for name in _MEASURES}
        numbers = {n: float(v) for n, v in figures.items() if is_number(v)}
        step = evaluation.get("step")
        yield int(step) if is_number(step) else 0, numbers


def _told(best: Mapping[str, Best]) -> str:
    return ", ".join(
        f"{_MEASURES[name][1].format(found.value)} (step {found.step:,})"
        for name, found in best.items()
    )
