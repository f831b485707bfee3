"""The monitors that a run's settings name."""

from pathlib import Path

from cyclegan.monitor import Monitor, Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import Files, read_metrics
from cyclegan.monitor.visdom_login import check_host
from cyclegan.settings import TrainSettings


def check_display(settings: TrainSettings) -> None:
    """Raises UserError where the live page would stand open to everybody, or could not be there."""
    if _shows_page(settings):
        check_host(settings.display_host)


def build_monitors(settings: TrainSettings, run_dir: Path, console: Console) -> Monitors:
    """The console, the files in the run's folder, and the live page where it is asked for."""
    title = f"{settings.name} ({settings.preset})"
    files = Files(run_dir, title=title, steps_per_epoch=console.steps_per_epoch, say=console.say)
    chosen: list[Monitor] = [console, files]
    if _shows_page(settings):
        # Imported here: a run without the page needs no Visdom.
        from cyclegan.monitor.visdom import VisdomMonitor

        page = VisdomMonitor(
            env=str(settings.name),
            server=settings.display_server,
            port=settings.display_port,
            host=settings.display_host,
            env_dir=run_dir / "visdom",
            history=read_metrics(run_dir),
            say=console.say,
        )
        chosen.append(page)
    return Monitors(chosen)


def _shows_page(settings: TrainSettings) -> bool:
    return settings.monitor == "visdom" and settings.display_id > 0
