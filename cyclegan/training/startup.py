"""The start and the end of a run: its introduction, folder, data and monitors."""

import logging
import sys
from collections.abc import Generator

from cyclegan.config.errors import UserError
from cyclegan.config.logs import log_to
from cyclegan.data.loading.loader import Batch, load_batches
from cyclegan.monitor import Monitors
from cyclegan.monitor.console import Console
from cyclegan.runs import checkpoints
from cyclegan.runs.folder import RunFolder
from cyclegan.runs.metrics_log import write_metrics
from cyclegan.training.run import Run

logger = logging.getLogger(__name__)


def describe(run: Run) -> int:
    """Prints what a run would train, for --dry_run; returns the exit status."""
    networks = run.state.step.model.networks()
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    steps = f"{run.intervals.total_steps} steps of {run.sampler.images_per_step} images"
    lines = [*run.data_lines, run.device_line, *run.said, f"parameters: {sizes}"]
    if run.process_group.is_main:
        last = f"would train {steps} into {run.run_dir}; nothing was written"
        sys.stdout.write("\n".join([*lines, last, ""]))
    return 0


def start(run: Run, console: Console) -> tuple[RunFolder | None, Generator[Batch], Monitors]:
    """Claims the run's folder, introduces the run, and starts its data and its monitors."""
    folder = run.open_folder() if run.process_group.is_main else None
    log_to(console.print)
    for line in (*run.data_lines, run.device_line, *run.said):
        if not run.quiet or "warning" in line:
            console.print(line)
    step, total_steps = run.state.progress.step, run.intervals.total_steps
    if folder is not None:
        data, device = run.data_lines, run.device_line
        folder.begin(step=step, total_steps=total_steps, data=data, device=device)
        if folder.moved_to is not None:
            logger.info("the earlier run of this name is now %s", folder.moved_to)
    if not run.quiet:
        what = f"going on after step {step}" if run.continues else f"{total_steps} steps"
        logger.info("%s: %s", run.run_dir, what)
    for change in run.changes:
        logger.info("  changed: %s", change)
    if run.continues and folder is not None:
        write_metrics(run.run_dir, run.state.history)
        checkpoints.set_aside_states(run.run_dir, after=step)
    run.dataset = run.open_cache()
    # The workers are forked before the first thread starts.
    batches = batches_from_now(run)
    return folder, batches, _open_monitors(run, console, folder)


def batches_from_now(run: Run, *, start: str | None = None) -> Generator[Batch]:
    """The batches from the run's position on; `start` is how the workers are started."""
    return load_batches(
        run.dataset,
        run.sampler.starting_at(run.state.progress.position),
        num_workers=run.num_threads,
        device=run.device,
        start_method=start,
    )


def close(monitors: Monitors, folder: RunFolder | None) -> None:
    """Ends what `start` has started, but for the batches."""
    monitors.close()
    if folder is not None:
        folder.release()


def _open_monitors(run: Run, console: Console, folder: RunFolder | None) -> Monitors:
    if folder is None:
        return Monitors()
    try:
        return run.open_monitors(console)
    except UserError as error:
        folder.undo(str(error))
        raise
