"""The live pages of runs from their files alone: of runs that are over, and that go on."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cyclegan.config.errors import UserError
from cyclegan.pages.follow.followed_run import Watched
from cyclegan.pages.visdom.overlay import COMPARE, Comparison
from cyclegan.pages.visdom.server.process import Server, start_server

INTERVAL = 2.0  # seconds between two looks at the files

Say = Callable[[str], None]


def watch(folders: Sequence[Path], *, port: int, host: str, say: Say) -> None:
    """Shows the runs until it is interrupted; raises UserError where the server ends before."""
    over = threading.Event()

    def tell(line: str) -> None:
        # The pages' threads may miss the server for a moment before they end with us.
        if not over.is_set():
            say(line)

    # Not in a run's folder: that may be anybody's, and read-only.
    with tempfile.TemporaryDirectory(prefix="cyclegan-monitor-") as env_dir:
        try:
            server = start_server(port=port, host=host, env_dir=Path(env_dir))
        except RuntimeError as error:
            raise UserError(f"{error}: give another --port or --host") from None
        try:
            if server.port != port:
                tell(f"port {port} is taken: the page is on port {server.port}")
            _show(folders, server, env_dir=Path(env_dir), say=tell)
        finally:
            over.set()
            server.stop()
    raise UserError("the server of the page has ended: give the same command again")


def environments(folders: Iterable[Path]) -> list[str]:
    """A name on the page for each run, no two alike."""
    names: list[str] = []
    for folder in folders:
        # As VisdomMonitor writes the name of an environment.
        name = re.sub(r"[^\w.-]", "_", folder.resolve().name) or "run"
        number, free = 1, name
        while free in (COMPARE, *names):
            number += 1
            free = f"{name}-{number}"
        names.append(free)
    return names


def _show(folders: Sequence[Path], server: Server, *, env_dir: Path, say: Say) -> None:
    runs = [
        Watched(folder, env, server=server, env_dir=env_dir, say=say)
        for folder, env in zip(folders, environments(folders), strict=True)
    ]
    for run in runs:
        if run.is_empty:
            say(f"{run.env}: nothing to show yet, as no report or preview is in {run.folder}")
    comparison = Comparison(server.url) if len(runs) > 1 else None
    if comparison:
        say(f"Visdom compares the runs: {server.shown}/env/{COMPARE}")
    while server.alive:
        for run in runs:
            run.look()
        if comparison:
            _compare(comparison, runs)
        time.sleep(INTERVAL)


def _compare(comparison: Comparison, runs: Iterable[Watched]) -> None:
    try:
        comparison.draw({run.env: run.curves for run in runs})
    except OSError:
        # What the server was too busy for is sent again; whether it has ended is seen elsewhere.
        return
