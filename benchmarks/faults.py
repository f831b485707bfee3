"""Tests what a run survives: python benchmarks/faults.py

Each fault is injected into the real train.py, in its own process with tiny networks. The final
state is expect_equal with that of an uninterrupted run, bit for bit. Steps since the last save are
repeated; `lost_steps_beyond_a_save` counts lost steps that had been saved, which must be none.
--short tries a few faults in less than a minute, on runs that are forks of this process.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fault_files
import fault_numbers
import fault_stops
import fault_world
import torch
from common import report
from fault_run import Bench, Fault, LeftOut, Lost
from forked_training import import_training
from rich.console import Console
from rich.table import Table

KILLS, KILLS_IF_SHORT = 20, 2

# The width of the table if no terminal is wider.
WIDTH = 170

FAULTS = (
    *fault_stops.FAULTS,
    *fault_files.FAULTS,
    *fault_world.FAULTS,
    *fault_numbers.FAULTS,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests what a run survives.")
    parser.add_argument("--short", action="store_true", help="try a few faults")
    parser.add_argument("--only", action="append", help="try this fault; may be repeated")
    parser.add_argument(
        "--kills", type=int, help="how often the fault 'killed at random' kills its run"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    options = parser.parse_args()
    chosen = _chosen(options.only, short=options.short)
    kills = options.kills or (KILLS_IF_SHORT if options.short else KILLS)
    with tempfile.TemporaryDirectory() as folder:
        forks = options.short and not options.only
        if forks:
            import_training()
        bench = Bench(Path(folder), options.seed, kills, forks=forks)
        rows = [tried(fault, bench) for fault in chosen]
    _print(chosen, rows)
    figures = summary(rows, seed=options.seed, kills=kills)
    report(figures, torch.device("cpu"), out=options.out)
    return 0 if figures["survived"] + figures["left_out"] == figures["faults"] else 1


def _chosen(names: Sequence[str] | None, *, short: bool) -> list[Fault]:
    known = {fault.name: fault for fault in FAULTS}
    if unknown := set(names or ()) - known.keys():
        raise SystemExit(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [fault for fault in FAULTS if fault.short or not short]


def tried(fault: Fault, bench: Bench) -> dict[str, Any]:
    """The row of figures of one fault. Errors of the benchmark itself are raised."""
    began = time.monotonic()
    row: dict[str, Any] = {
        "name": fault.name,
        "injected": fault.injected,
        "survives_if": fault.survives_if,
        "survived": False,
        "left_out": False,
    }
    try:
        cost = fault.inject(bench)
    except Lost as error:
        row["why"] = str(error)
    except LeftOut as error:
        row |= {"left_out": True, "why": str(error)}
    else:
        row |= {
            "survived": True,
            "times": cost.injected,
            "lost_steps": cost.lost_steps,
            "lost_steps_beyond_a_save": cost.beyond_a_save,
            "final_weights_equal": cost.equal,
        }
    row["seconds"] = round(time.monotonic() - began, 1)
    # Progress on stderr: the table comes minutes later.
    print(f"{fault.name}: {row.get('why', 'survived')}", file=sys.stderr, flush=True)
    return row


def summary(rows: Sequence[dict[str, Any]], *, seed: int, kills: int) -> dict[str, Any]:
    """final_weights_equal: true if no fault changed weights that it must not change."""
    tried_rows = [row for row in rows if not row["left_out"]]
    return {
        "seed": seed,
        "kills_in_one_run": kills,
        "faults": len(rows),
        "injected": sum(row.get("times", 1) for row in tried_rows),
        "survived": sum(row["survived"] for row in rows),
        "left_out": len(rows) - len(tried_rows),
        "lost_steps_beyond_a_save": sum(row.get("lost_steps_beyond_a_save", 0) for row in rows),
        "final_weights_equal": all(
            row["survived"] and row["final_weights_equal"] is not False for row in tried_rows
        ),
        "rows": list(rows),
    }


def _print(faults: Sequence[Fault], rows: Sequence[dict[str, Any]]) -> None:
    table = Table("fault", "injected", "survived if", "survived", "steps again", "equal", "s")
    for fault, row in zip(faults, rows, strict=True):
        survived = "left out" if row["left_out"] else "yes" if row["survived"] else "NO"
        why = f": {row['why']}" if "why" in row else ""
        equal = {True: "yes", False: "NO", None: "-"}[row.get("final_weights_equal")]
        again = str(row.get("lost_steps", "-"))
        about = fault.injected, fault.survives_if, survived + why, again, equal
        table.add_row(fault.name, *about, str(row["seconds"]))
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
