"""The monitors that a run's settings name."""

from pathlib import Path

from cyclegan.monitor import Monitor, Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import Files, read_metrics
from cyclegan.settings import TrainSettings


def build_monitors(settings: TrainSettings, run_dir: Path, console: Console) -> Monitors:
    """The console, the files in the run's folder, and the live page where it is asked for."""
    title = f"{settings.name} ({settings.preset})"
    files = Files(run_dir, title=title, steps_per_epoch=console.steps_per_epoch, say=console.say)
    chosen: list[Monitor] = [console, files]
    if settings.monitor == "visdom" and settings.display_id:
        # Imported here: a run without the page needs no Visdom.
        from cyclegan.monitor.visdom import VisdomMonitor

        page = VisdomMonitor(
            env=str(settings.name),
            server=settings.display_server,
            port=settings.display_port,
            env_dir=run_dir / "visdom",
            history=read_metrics(run_dir),
            say=console.say,
        )
        chosen.append(page)
    return Monitors(chosen)
