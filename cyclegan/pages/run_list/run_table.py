"""A table of runs with a row for each, from their files alone, whatever state these are in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cyclegan.config.errors import printable
from cyclegan.monitor.health.summary import summarize_health
from cyclegan.runs.artifacts import Alarm
from cyclegan.runs.folder import RunStatus, find_states, read_settings, run_status, total_steps
from cyclegan.runs.metrics_log import Point, read_metrics
from cyclegan.runs.record import EVALUATION_FILE, is_number, read_json, read_record

_COLOURS: Mapping[RunStatus, str] = {
    "running": "blue",
    "paused": "yellow",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "crashed": "red",
}
# The function that finds the best value, and how it is printed.
_MEASURES = {"swd": (min, "SWD {:.4g}"), "psnr": (max, "PSNR {:.2f} dB")}


@dataclass(frozen=True)
class BestValue:
    """The best value of a measure, and the step at which it was measured."""

    value: float
    step: int


@dataclass(frozen=True)
class RunSummary:
    """`health` is None, and there are no alarms, until health has been measured."""

    name: str
    data: str
    step: int
    total_steps: int
    state: RunStatus
    resumable: bool
    why: str
    health: tuple[str, ...] | None
    best: Mapping[str, BestValue]
    alarms: tuple[Alarm, ...]


def summarize_run(run_dir: Path) -> RunSummary:
    """Reads the files of a run; what they lack is "", 0 or None."""
    points = read_metrics(run_dir)
    record = read_record(run_dir)
    total = total_steps(run_dir, points)
    health = summarize_health(points, total_steps=total)
    return RunSummary(
        name=run_dir.name,
        data=_data(read_settings(run_dir)),
        step=max(points[-1][0] if points else 0, record.step if record else 0),
        total_steps=total,
        state=run_status(run_dir),
        resumable=bool(find_states(run_dir)),
        why=record.why if record else "",
        health=health.lines if health else None,
        best=_best([*points, *_evaluation(run_dir)]),
        alarms=health.alarms if health else (),
    )


def run_table(runs: Iterable[RunSummary]) -> Table:
    table = Table("name", "data", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("step", justify="right")
    for title in ("state", "health", "best"):
        table.add_column(title)
    for run in runs:
        incomplete = run.state in ("stopped", "failed", "crashed")
        best = (
            f"{_MEASURES[name][1].format(found.value)} (step {found.step:,})"
            for name, found in run.best.items()
        )
        table.add_row(
            Text(printable(run.name), style="bold"),
            Text(printable(run.data)),
            f"{run.step:,}/{run.total_steps:,}" if run.total_steps else f"{run.step:,}",
            Text(
                f"{run.state}, resumable" if incomplete and run.resumable else run.state,
                style=_COLOURS[run.state],
            ),
            _health(run),
            ", ".join(best),
        )
    return table


def _data(settings: Mapping[str, Any]) -> str:
    both = [settings[name] for name in ("dir_A", "dir_B") if settings.get(name)]
    return ", ".join(map(str, both)) or str(settings.get("dataroot") or "")


def _health(run: RunSummary) -> Text:
    """The most serious alarm; nothing if it is too early to tell."""
    if run.health is None:
        return Text("")
    if not run.alarms:
        return Text("healthy", style="green")
    first, *others = run.alarms
    more = f" and {len(others)} more" if others else ""
    return Text(f"{first.name} {first.where}{more}", style="red")


def _best(points: Iterable[Point]) -> dict[str, BestValue]:
    found = {}
    for name, (choose, _) in _MEASURES.items():
        values = [BestValue(v[name], step) for step, v in points if is_number(v.get(name))]
        if values:
            found[name] = choose(values, key=lambda best: best.value)
    return found


def _evaluation(run_dir: Path) -> Iterable[Point]:
    """The measurements at the end of the run, as a point."""
    evaluation = read_json(run_dir / EVALUATION_FILE)
    if isinstance(evaluation, dict):
        values = {name: evaluation.get(f"{name}_fake") for name in _MEASURES}
        step = evaluation.get("step")
        numbers = {name: float(value) for name, value in values.items() if is_number(value)}
        yield int(step) if is_number(step) else 0, numbers
