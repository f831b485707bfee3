"""The live pages of runs, finished or in training, from their files alone."""

import logging
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cyclegan.config.errors import UserError
from cyclegan.pages.follow.followed_run import FollowedRun
from cyclegan.pages.visdom.drawing import Drawing
from cyclegan.pages.visdom.monitor import TIMEOUT, VisdomMonitor
from cyclegan.pages.visdom.overlay import COMPARE, overlay
from cyclegan.pages.visdom.server_location import OwnServer, start_server

logger = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two reads of the files


def follow_runs(run_dirs: Sequence[Path], *, port: int, host: str) -> None:
    """Shows the runs until it is interrupted; raises UserError if the server ends before that."""
    # A run's folder may be read-only or somebody else's.
    with tempfile.TemporaryDirectory(prefix="cyclegan-monitor-") as env_dir:
        try:
            server = start_server(port=port, host=host, env_dir=Path(env_dir))
        except RuntimeError as error:
            raise UserError(f"{error}: give another --port or --host") from None
        try:
            if server.port != port:
                logger.info(f"port {port} is taken: the page is on port {server.port}")
            _follow(run_dirs, server, env_dir=Path(env_dir))
        finally:
            # The threads of the pages may miss the server before they end with the program.
            logging.getLogger(VisdomMonitor.__module__).disabled = True
            server.stop()
    raise UserError("the server of the page has ended: give the same command again")


def environments(run_dirs: Iterable[Path]) -> list[str]:
    """A name on the page for each run, no two alike."""
    names: list[str] = []
    for run_dir in run_dirs:
        # VisdomMonitor writes the name of an environment in the same way.
        name = re.sub(r"[^\w.-]", "_", run_dir.resolve().name) or "run"
        number, free = 1, name
        while free in (COMPARE, *names):
            number += 1
            free = f"{name}-{number}"
        names.append(free)
    return names


def _follow(run_dirs: Sequence[Path], server: OwnServer, *, env_dir: Path) -> None:
    runs = [
        FollowedRun(run_dir, env, server=server, env_dir=env_dir)
        for run_dir, env in zip(run_dirs, environments(run_dirs), strict=True)
    ]
    for run in runs:
        if run.is_empty:
            logger.info(f"{run.env}: nothing to show yet, no report or preview in {run.run_dir}")
    common_page = Drawing(COMPARE, timeout=TIMEOUT)
    common_page.url = server.url
    if len(runs) > 1:
        logger.info(f"Visdom compares the runs: {server.shown}/env/{COMPARE}")
    while server.alive:
        for run in runs:
            run.update()
        if len(runs) > 1:
            # A busy server gets the windows again; the loop notices if it has ended.
            with suppress(OSError):
                common_page.draw(overlay({run.env: run.curves.copy() for run in runs}))
        time.sleep(INTERVAL)
